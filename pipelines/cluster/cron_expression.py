"""Cron expressions as Kubeflow reads them: six fields, seconds first, in UTC."""

import re
from itertools import product
from typing import Final

from contracts.errors import UserError

_MONTHS: Final = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_DAYS: Final = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
_FIELDS: Final = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, tuple(_MONTHS)),
    ("day of week", 0, 6, tuple(_DAYS)),
)
_PART = re.compile(r"(?P<range>\*|\?|\w+(-\w+)?)(/(?P<step>\d+))?")


def require_cron(expression: str) -> None:
    """Refuses what the cluster's scheduler would refuse.

    Raises:
        UserError: a field is missing, or holds what it cannot.
    """
    fields = expression.split()
    if len(fields) != len(_FIELDS):
        raise UserError(
            f"cron '{expression}' must have six fields, seconds first, for example '0 30 3 * * *' (03:30 UTC)"
        )
    for text, (name, lowest, highest, names) in zip(fields, _FIELDS, strict=True):
        for part in text.split(","):
            if not _is_part(part, lowest, highest, names):
                raise UserError(
                    f"cron '{expression}': '{part}' is no {name}; allowed are *, and numbers or ranges from "
                    f"{lowest} to {highest}, each with a step as in */15"
                )


def _is_part(part: str, lowest: int, highest: int, names: tuple[str, ...]) -> bool:
    match = _PART.fullmatch(part)
    if match is None or match["step"] == "0":
        return False
    if match["range"] in {"*", "?"}:
        return True
    ends = [_read_number(end, lowest, names) for end in match["range"].split("-")]
    is_inside = all(end is not None and lowest <= end <= highest for end in ends)
    return is_inside and all((a or 0) <= (b or 0) for a, b in product(ends[:1], ends[1:]))


def _read_number(text: str, lowest: int, names: tuple[str, ...]) -> int | None:
    if text.upper() in names:
        return names.index(text.upper()) + lowest
    return int(text) if text.isascii() and text.isdigit() else None
