"""The JSON object in what a language model wrote: without thoughts, remarks and code fences around it."""

import json
import re
from collections.abc import Collection, Iterator
from typing import Any, Final, NamedTuple

_MAX_SCANNED_CHARS: Final = 100_000
"""The answer comes last, so only the end of a longer text is looked at: bounds the work."""
_MAX_FAILED_ATTEMPTS: Final = 1000
"""To read an object: a model that loops writes thousands of beginnings, and each costs a look at all."""
_ENDS_OF_THOUGHTS: Final = re.compile(
    r"</(?:[a-z]+:)?(?:think|thinking|thought|thoughts|reasoning|reflection|analysis)\s*>|\[/THINK\]|◁/think▷",
    re.IGNORECASE,
)
_AROUND: Final = "\ufeff \t\r\n"
_DECODER: Final = json.JSONDecoder(strict=False)
"""It takes line breaks in strings, which models write where nothing holds them to JSON."""
_START: Final = re.compile(r'\{\s*["}]')
"""A brace alone starts no object."""
_HALF_PAIR: Final = re.compile(r"[\ud800-\udfff]|\\u[dD][89a-fA-F]")
"""A half of a surrogate pair, or what may be one: a model may be cut off within an emoji."""


def extract_json_object(text: str, expected_keys: Collection[str] = ()) -> str:
    """Returns the JSON object that a text answers with; the text itself where there is none.

    Args:
        text: What the model wrote.
        expected_keys: Keys that the answer must have. They tell it from objects in thoughts and remarks, and
            from parts of an answer that was cut off.
    """
    text = _unwrap_string(text.strip(_AROUND))
    if len(text) > _MAX_SCANNED_CHARS and not is_json_object(text):
        text = text[-_MAX_SCANNED_CHARS:]
    thoughts_end = max((match.end() for match in _ENDS_OF_THOUGHTS.finditer(text)), default=0)
    # Thinking models may write JSON in their thoughts, too. A mark within an object is a part of its words.
    objects = [one for one in _find_json_objects(text) if one.end >= thoughts_end]
    for found_object in reversed(objects):
        if expected_keys and (answer := _find_answer(found_object.content, set(expected_keys))) is not None:
            return found_object.text if answer is found_object.content else _write_object(answer)
    # An object that lacks a key may still be the whole answer: then its fault can be named.
    if objects and text.find("{", thoughts_end) in (objects[0].start, -1):
        return objects[0].text
    return text


def is_json_object(text: str) -> bool:
    """Says whether the whole text is one JSON object."""
    if not (text.startswith("{") and text.endswith("}")):
        return False
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _unwrap_string(text: str) -> str:
    """What a gateway has encoded twice comes as one string."""
    if not (text.startswith('"') and text.endswith('"')):
        return text
    try:
        inner_text = json.loads(text)
    except ValueError:
        return text
    return inner_text.strip(_AROUND) if isinstance(inner_text, str) else text


class _FoundObject(NamedTuple):
    content: dict[str, Any]
    start: int
    end: int
    """One past its last character."""
    text: str
    """As strict JSON."""


def _find_json_objects(text: str) -> Iterator[_FoundObject]:
    """All JSON objects that are not inside of another one, in their order."""
    num_failed = 0
    found_start = _START.search(text)
    while found_start and num_failed < _MAX_FAILED_ATTEMPTS:
        start = found_start.start()
        try:
            content, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            num_failed += 1
            end = start + 1
        else:
            yield _FoundObject(content, start, end, _write_strictly(text[start:end], content))
        found_start = _START.search(text, end)


def _find_answer(content: dict[str, Any], expected_keys: set[str]) -> dict[str, Any] | None:
    """The object with all keys: this one, or one right within, as in `{"answer": {...}}`."""
    for candidate in (content, *content.values()):
        if isinstance(candidate, dict) and candidate.keys() >= expected_keys:
            return candidate
    return None


def _write_strictly(text: str, content: dict[str, Any]) -> str:
    return text if is_json_object(text) and not _HALF_PAIR.search(text) else _write_object(content)


def _write_object(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "replace").decode()
