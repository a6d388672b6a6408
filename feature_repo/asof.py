"""The join of many lists: DuckDB's as-of join, which sorts on disk what memory does not hold.

Feast's own join of features as of a time pairs every moment with every earlier row of its user. This one gives the
same rows (a test holds them equal), in the same order, in memory that does not grow with them.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import duckdb
import polars as pl

_MEMORY: Final = "1GB"
_MAX_THREADS: Final = 4
"""Each takes memory of its own for what it sorts."""
_JOIN: Final = """
SELECT
    lists.* EXCLUDE (file_row_number),
    behaviors.* EXCLUDE (user_id, event_timestamp),
    inferred.* EXCLUDE (user_id, event_timestamp)
FROM read_parquet($lists, file_row_number = true) AS lists
ASOF LEFT JOIN read_parquet($behaviors) AS behaviors
    ON lists.user_id = behaviors.user_id AND lists.timestamp > behaviors.event_timestamp
ASOF LEFT JOIN read_parquet($inferred) AS inferred
    ON lists.user_id = inferred.user_id AND lists.timestamp > inferred.event_timestamp
ORDER BY lists.file_row_number
"""


def join_as_of(lists: Path, features: Path, *, batch_rows: int, scratch: Path) -> Iterator[pl.DataFrame]:
    """Yields the lists in their order, each with its user's features strictly before it.

    Args:
        lists: file of the RANKING_LISTS table.
        features: folder of the offline feature tables.
        batch_rows: rows of a yielded frame.
        scratch: folder for what does not fit into memory.
    """
    files = {
        "lists": str(lists),
        "behaviors": str(features / "user_behaviors.parquet"),
        "inferred": str(features / "inferred_behaviors.parquet"),
    }
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": _MEMORY,
        "temp_directory": str(scratch),
        "threads": min(len(os.sched_getaffinity(0)), _MAX_THREADS),
    }
    with duckdb.connect(config=settings) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for batch in connection.sql(_JOIN, params=files).to_arrow_reader(batch_rows):
            frame = pl.from_arrow(batch)
            assert isinstance(frame, pl.DataFrame)
            yield frame
