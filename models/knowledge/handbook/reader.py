"""Reads the handbook's YAML files, and names all that is wrong with them at once."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import yaml
from pydantic import ValidationError

from contracts.digests import digest_value
from contracts.errors import UserError
from models.knowledge.handbook.concepts import Concept, Situation, Trait
from models.knowledge.handbook.graph import Graph, build_graph, find_faults

_LISTS: Final = ("concepts", "traits", "situations")

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The same safe loader in C, ten times as fast, where PyYAML was built with it."""

Entry = TypeVar("Entry", Concept, Trait, Situation)


class Handbook(NamedTuple):
    """All concepts, traits and situations, how they hang together, and the version of the whole."""

    concepts: tuple[Concept, ...]
    traits: tuple[Trait, ...]
    situations: tuple[Situation, ...]
    graph: Graph
    version: str


def read_handbook(folder: Path | None = None) -> Handbook:
    """Reads all concept files of a folder, or the handbook that comes with the package.

    Raises:
        UserError: no concept file there, a file is not valid, or an id stands twice; all faults are named together.
    """
    if folder is not None and not folder.is_dir():
        raise UserError(f"teacher.folder: {folder} is not a folder of concept files (*.yaml)")
    root: Traversable = files("models.knowledge.handbook") if folder is None else folder
    paths = sorted((path for path in root.iterdir() if path.name.endswith(".yaml")), key=lambda path: path.name)
    faults: list[str] = []
    contents = [_read_file(path, faults) for path in paths]
    concepts = _parse(Concept, [entry for content in contents for entry in content.get("concepts", [])], faults)
    traits = _parse(Trait, [entry for content in contents for entry in content.get("traits", [])], faults)
    situations = _parse(Situation, [entry for content in contents for entry in content.get("situations", [])], faults)
    if not concepts and not faults:
        faults.append(f"no concepts in {root}")
    if not faults:
        # An entry that could not be read would make every edge to it look wrong.
        faults = find_faults(concepts, situations)
    if faults:
        raise UserError(f"the handbook cannot be used: {'; '.join(faults)}")
    graph = build_graph(concepts, situations)
    return Handbook(concepts, traits, situations, graph, digest_value(contents)[:8])


def _read_file(path: Traversable, faults: list[str]) -> dict[str, list[dict[str, Any]]]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506 (a safe loader)
    except yaml.YAMLError as error:
        faults.append(f"{path.name}: {error}")
        return {}
    if not isinstance(content, dict) or not content.keys() <= {"version", *_LISTS}:
        faults.append(f"{path.name}: expected 'version' and the lists {', '.join(_LISTS)} and nothing else")
        return {}
    for name in _LISTS:
        entries = content.get(name, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            faults.append(f"{path.name}: {name}: expected a list of entries with fields")
            return {}
    if not isinstance(content.get("version"), int):
        faults.append(f"{path.name}: a 'version' (a whole number, raised with each change of meaning) is missing")
    return content


def _parse(model: type[Entry], entries: list[dict[str, Any]], faults: list[str]) -> tuple[Entry, ...]:
    parsed: dict[str, Entry] = {}
    for entry in entries:
        try:
            value = model.model_validate(entry)
        except ValidationError as error:
            fault = error.errors()[0]
            faults.append(f"{entry.get('id')}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}")
            continue
        if value.id in parsed:
            faults.append(f"{value.id}: stands twice")
        parsed[value.id] = value
    return tuple(parsed.values())
