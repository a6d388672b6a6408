"""Writes the events of a dataset in the order in which every step reads them, and looks into that file."""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import duckdb
import polars as pl

from contracts.dataset import EVENT_SORT_COLUMNS
from contracts.ingestion.rows.whole_log import open_log


def write_sorted_events(files: str, path: Path, *, before: datetime, scratch: Path) -> None:
    """Sorts events on disk.

    Args:
        files: pattern of Parquet files, contract EVENTS.
        path: the file to write.
        before: what is not strictly before this moment is left out.
        scratch: folder for what does not fit into memory.
    """
    is_before = duckdb.ColumnExpression("timestamp") < duckdb.ConstantExpression(before)
    with open_log(files, scratch) as connection:
        kept = connection.table("log").filter(is_before)
        kept.order(", ".join((*EVENT_SORT_COLUMNS, "event_type"))).write_parquet(
            str(path), compression="zstd"
        )


def forget_requests(path: Path, scratch: Path) -> None:
    """Takes the request ids out of a written file of events, for rankers that do not learn from them."""
    rewritten = path.with_name(f".{path.name}.tmp")
    with open_log(str(path), scratch) as connection:
        events = connection.sql("SELECT * REPLACE (CAST(NULL AS VARCHAR) AS request_id) FROM log")
        events.write_parquet(str(rewritten), compression="zstd")
    os.replace(rewritten, path)


def count_events(path: Path) -> dict[str, int]:
    """Events and behaviors of a written file."""
    is_behavior = pl.col("event_type") != "impression"
    counts = pl.scan_parquet(path).select(events=pl.len(), behaviors=is_behavior.sum())
    return {name: int(count) for name, count in counts.collect(engine="streaming").row(0, named=True).items()}


def find_times(path: Path, rows: Sequence[int], *, of_behaviors: bool = False) -> list[datetime]:
    """Times of some rows of a written file, counted from 0 among all events or among behaviors alone."""
    events = pl.scan_parquet(path)
    if of_behaviors:
        events = events.filter(pl.col("event_type") != "impression")
    times = events.select("timestamp")
    frames = pl.collect_all([times.slice(row, 1) for row in rows], engine="streaming")
    return [frame.item() for frame in frames]
