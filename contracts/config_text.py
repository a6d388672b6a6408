"""Configuration as people write it: YAML and JSON texts, read in one way, with faults named by key and line.

YAML as of version 1.2, where a value means what it looks like: `no`, `on` and `12:30` are texts, `010` is no
octal number, `1e3` is a number, and a date stays a text until a field wants one. Keys are always texts, as
they are written. A key that stands twice is an error: else the second would replace the first in silence.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from contracts.errors import UserError

KeyPath = tuple[str, ...]

_TAGS: Final = {
    "null": (r"~|null|Null|NULL|", "~nN"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:[0-9][0-9_]*\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "merge": (r"<<", "<"),
}
"""Tag -> what is read as one, and the characters that it may begin with (YAML 1.2, core schema)."""
_MERGE_TAG: Final = "tag:yaml.org,2002:merge"
_MAX_DEPTH: Final = 100
# The C loader is ten times as fast, where PyYAML was built with it.
_BASE_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ConfigText(NamedTuple):
    """What a text holds."""

    value: Any
    lines: Mapping[KeyPath, int]
    """Path of a key -> the line that it stands on, from 1. Places in lists count as keys."""


class _ConfigLoader(_BASE_LOADER):  # type: ignore[misc]
    """Reads YAML 1.2 scalars, and keys as texts."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=deep) for key, value in node.value}


class _ConfigDumper(yaml.SafeDumper):
    """Writes what `_ConfigLoader` reads back as the same."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}


for _name, (_pattern, _first_characters) in _TAGS.items():
    for _class in (_ConfigLoader, _ConfigDumper):
        # An empty text begins with nothing.
        _starts = [*_first_characters, ""] if _name == "null" else list(_first_characters)
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), _starts)


def read_yaml_file(path: Path) -> ConfigText:
    """Reads a YAML file.

    Raises:
        UserError: there is none, it is not YAML, or keys stand twice in it.
    """
    if not path.is_file():
        raise UserError(f"no configuration file at '{path}'")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"'{path}' is not valid YAML: it is not UTF-8 ({error.reason}); save it as UTF-8"
        ) from None
    return parse_yaml(text, origin=f"'{path}'")


def parse_yaml(text: str, *, origin: str) -> ConfigText:
    """Parses one YAML document.

    Args:
        text: the document.
        origin: where it comes from, for messages.

    Raises:
        UserError: it is not YAML, or keys stand twice in it; the message names the lines.
    """
    try:
        _require_shallow_nesting(text)
        loader = _ConfigLoader(text)
        try:
            root = loader.get_single_node()
            lines = _locate_keys(root, origin)
            value = None if root is None else loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise UserError(f"{origin} is not valid YAML: {_explain_syntax(error, text)}") from None
    except UserError:
        raise
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        # Of a value that is none of its own tag: `!!bool maybe`, or a number of a thousand digits.
        raise UserError(f"{origin} holds a value that cannot be read: {error}") from None
    return ConfigText(value, lines)


def dump_yaml(value: object) -> str:
    """Writes YAML that `parse_yaml` reads back as the same."""
    return yaml.dump(value, Dumper=_ConfigDumper, sort_keys=False, allow_unicode=True)


def check_json_keys(text: str, *, origin: str) -> None:
    """Refuses JSON in which a key stands twice; what is no JSON is left to whoever parses it.

    Raises:
        UserError: a key stands twice; the message names it and, where it can be told, its lines.
    """
    repeated_keys: list[str] = []

    def note_repeated_keys(pairs: list[tuple[str, Any]]) -> None:
        keys = [key for key, _ in pairs]
        repeated_keys.extend(key for number, key in enumerate(keys) if key in keys[:number])

    try:
        json.loads(text, object_pairs_hook=note_repeated_keys)
    except (ValueError, RecursionError):
        return
    if repeated_keys:
        # JSON is YAML but for tabs: its reader knows the lines.
        parse_yaml(text.replace("\t", " "), origin=origin)
        raise UserError(f"{origin}: key '{repeated_keys[0]}' stands twice; keep one")


def _require_shallow_nesting(text: str) -> None:
    """Refuses a text that only an attack or an accident nests so deep: the C loader would crash on it."""
    depth = 0
    events: Iterator[Any] = yaml.parse(text, Loader=_ConfigLoader)
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            problem = f"lists and mappings are nested more than {_MAX_DEPTH} deep"
            raise yaml.parser.ParserError(None, None, problem, event.start_mark)


def _locate_keys(root: Any, origin: str) -> dict[KeyPath, int]:
    """Finds the line of each key.

    Raises:
        UserError: keys stand twice; all are named.
    """
    lines: dict[KeyPath, int] = {}
    faults: list[str] = []
    for path, node in _iter_entries(root, (), set()):
        line = node.start_mark.line + 1
        if path in lines:
            faults.append(f"line {line}: '{'.'.join(path)}' stands there already, on line {lines[path]}")
        else:
            lines[path] = line
    if faults:
        raise UserError(f"{origin} has keys that stand twice; keep one of each: {'; '.join(faults)}")
    return lines


def _iter_entries(node: Any, path: KeyPath, visited: set[int]) -> Iterator[tuple[KeyPath, Any]]:
    """Yields path and node of each key and each list entry. A merged key (`<<`) is none of its own."""
    if id(node) in visited:  # aliases of aliases stand for more entries than any memory holds
        return
    visited.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                problem = "a key must be a text, not a list or a mapping"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            if key_node.tag != _MERGE_TAG:
                yield (*path, key_node.value), key_node
                yield from _iter_entries(value_node, (*path, key_node.value), visited)
    elif isinstance(node, yaml.SequenceNode):
        for number, entry_node in enumerate(node.value):
            yield (*path, str(number)), entry_node
            yield from _iter_entries(entry_node, (*path, str(number)), visited)


def _explain_syntax(error: yaml.YAMLError, text: str) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return str(error)
    text_lines = text.splitlines()
    line = text_lines[mark.line] if mark.line < len(text_lines) else ""
    if "\t" in line[: mark.column + 1]:
        return f"line {mark.line + 1} has a tab; YAML wants spaces there"
    return f"line {mark.line + 1}, column {mark.column + 1}: {getattr(error, 'problem', None) or error}"
