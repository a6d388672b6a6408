"""Cron expressions as Kubeflow reads them: six fields, seconds first, in UTC."""

import re
from itertools import product
from typing import Final

from contracts.errors import UserError

_MONTHS: Final = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_LONGEST_MONTHS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
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
            f"cron '{expression}' must have six fields, seconds first, for example '0 30 3 * * *' (03:30 in "
            "UTC, the only time zone)"
        )
    for text, (name, lowest, highest, names) in zip(fields, _FIELDS, strict=True):
        for part in text.split(","):
            if not _is_part(part, lowest, highest, names):
                raise UserError(
                    f"cron '{expression}': '{part}' is no {name}; allowed are *, and numbers or ranges from "
                    f"{lowest} to {highest}, each with a step as in */15"
                )

    if not re.fullmatch(r"\d+", fields[0]):
        raise UserError(
            f"cron '{expression}' starts runs within seconds of each other; name one second first, as in "
            f"'0 {' '.join(fields[1:])}'"
        )
    # A day of the week that is named counts beside the day of the month, not in it.
    if fields[5] in {"*", "?"} and not _has_a_day(*fields[3:5]):
        raise UserError(f"cron '{expression}' never comes: no month that it names has such a day")


def _has_a_day(days: str, months: str) -> bool:
    first_days = [re.split(r"[-/]", part)[0] for part in days.split(",")]
    if not all(day.isdigit() for day in first_days):
        return True
    return any(min(map(int, first_days)) <= _LONGEST_MONTHS[month - 1] for month in _list_months(months))


def _list_months(months: str) -> set[int]:
    """The months that a field means, which was found sound before."""
    listed: set[int] = set()
    for part in months.split(","):
        span, _, step = part.partition("/")
        ends = [1, 12]
        if span not in {"*", "?"}:
            ends = [_read_number(end, 1, tuple(_MONTHS)) or 1 for end in span.split("-")]
        # One number with a step goes on to the end.
        last_month = 12 if step and len(ends) == 1 else ends[-1]
        listed.update(range(ends[0], last_month + 1, int(step or 1)))
    return listed


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
