"""Folders that are columns, as Hive and Spark write them: `day=2025-03-01`."""

import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import polars as pl

from contracts.errors import UserError

_NULL_PARTITION: Final = "__HIVE_DEFAULT_PARTITION__"
_PARTITION: Final = re.compile(r"^([A-Za-z_][A-Za-z0-9_]*)=(.*)$")


def read_partitions(path: str) -> dict[str, str | None]:
    """Columns that the folders of a file name, as Hive and Spark write them: `day=2025-03-01`."""
    matches = (_PARTITION.match(part) for part in Path(path).parts[:-1])
    return {
        match[1]: None if match[2] == _NULL_PARTITION else unquote(match[2]) for match in matches if match
    }


def refuse_other_partition(cells: pl.Series, value: str | None, path: str) -> None:
    """Refuses a file that says something else than its folder.

    Raises:
        UserError: they differ, and the cells are texts or whole numbers, which are written in one way only.
    """
    if not (cells.dtype == pl.String or cells.dtype.is_integer()):
        return
    written = cells.cast(pl.String).drop_nulls()
    # The file may tell more: a moment of the folder's day.
    agrees = (
        written.str.strip_chars()
        .str.to_lowercase()
        .str.strip_chars_start("0")
        .str.starts_with((value or "").lower().lstrip("0"))
    )
    others = written.filter(~agrees)
    if len(others):
        raise UserError(
            f"'{path}': the folder says {cells.name}={value}, the file says {cells.name} '{others[0]}' in "
            f"{len(others):,} rows. Leave one of both out, for example by a query"
        )
