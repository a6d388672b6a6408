"""A fault of a configuration in words: where it stands, what is wrong, and what was given."""

import reprlib
from collections.abc import Mapping

from pydantic_core import ErrorDetails

from contracts.config_text import KeyPath


def describe_fault(detail: ErrorDetails, lines: Mapping[KeyPath, int], *, override: str | None = None) -> str:
    """One line of a message.

    Args:
        detail: what pydantic found.
        lines: lines of the file's keys.
        override: the `--set` by which the value came; None where it stands in the file.
    """
    place = tuple(map(str, detail["loc"]))
    message = detail["msg"].removeprefix("Value error, ")
    notes = [] if isinstance(detail["input"], dict) else [f"given: {reprlib.repr(detail['input'])}"]
    if detail["type"] == "string_type" and isinstance(detail["input"], bool | int | float):
        message += "; write it in quotes"
    if override is not None:
        notes.append(f"by --set {override}")
    elif place in lines:
        notes.append(f"line {lines[place]}")
    note = f" ({', '.join(notes)})" if notes else ""
    return f"{'.'.join(place) or '(top level)'}: {message}{note}"
