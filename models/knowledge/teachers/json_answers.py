"""The JSON object in what a language model wrote: without thoughts, remarks and code fences around it."""

import json
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

_MAX_SCANNED_CHARS: Final = 100_000
"""The answer comes last, so only the end of a longer text is looked at: bounds the work."""
_ENDS_OF_THOUGHTS: Final = ("</think>", "</thinking>", "</thought>", "</reasoning>", "[/THINK]", "◁/think▷")
_AROUND: Final = "\ufeff \t\r\n"
_DECODER: Final = json.JSONDecoder()


def extract_json_object(text: str, expected_keys: Collection[str] = ()) -> str:
    """Returns the JSON object that a text answers with; the text itself where there is none.

    Args:
        text: What the model wrote.
        expected_keys: Keys that the answer must have. They tell it from objects in thoughts and remarks, and
            from parts of an answer that was cut off.
    """
    text = text.strip(_AROUND)
    if is_json_object(text):
        return text
    # Thinking models may write JSON in their thoughts, too: what follows them comes first.
    for searched_text in dict.fromkeys((_cut_off_thoughts(text), text)):
        objects = list(_find_json_objects(searched_text))
        for found_object in reversed(objects):
            if expected_keys and found_object.keys >= set(expected_keys):
                return found_object.text
        # An object that lacks a key may still be the whole answer: then its fault can be named.
        if objects and searched_text.find("{") == searched_text.find(objects[0].text):
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


def _cut_off_thoughts(text: str) -> str:
    ends: list[int] = [text.rfind(mark) + len(mark) for mark in _ENDS_OF_THOUGHTS if mark in text]
    return text[max(ends) :] if ends else text


class _FoundObject(NamedTuple):
    text: str
    keys: frozenset[str]


def _find_json_objects(text: str) -> Iterator[_FoundObject]:
    """All JSON objects that are not inside of another one, in their order."""
    start = text.find("{", max(0, len(text) - _MAX_SCANNED_CHARS))
    while start >= 0:
        try:
            found_object, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            yield _FoundObject(text[start:end], frozenset(found_object))
        start = text.find("{", end)
