"""The dataset artifact: catalogue, log and the three moments that divide the log's time.

Layout: `items.parquet`, `events.parquet` (sorted by timestamp, user_id, item_id; nothing at or after the
cut-off), `split.json`, `quarantine.parquet`, `lineage.json`.
"""

from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl
from pydantic import AwareDatetime

from contracts.artifacts import check_table_columns, read_table
from contracts.config import Config
from contracts.errors import UserError
from contracts.tables import EVENTS, ITEMS

EVENT_SORT_COLUMNS = ("timestamp", "user_id", "item_id")


class Split(Config):
    """Training is everything before `train_end`, test everything from `validation_end` to `cutoff`."""

    train_end: AwareDatetime
    validation_end: AwareDatetime
    cutoff: AwareDatetime


class Dataset(NamedTuple):
    """A dataset in memory."""

    items: pl.DataFrame
    events: pl.DataFrame
    split: Split

    @property
    def behaviors(self) -> pl.DataFrame:
        """The events that are a user's own doing: clicks, carts and orders, not impressions."""
        return self.events.filter(pl.col("event_type") != "impression")

    @property
    def has_impressions(self) -> bool:
        """Whether the log says what was shown in which request, or only what was done."""
        is_listed_impression = (pl.col("event_type") == "impression") & pl.col("request_id").is_not_null()
        return bool(self.events.select(is_listed_impression.any()).item())


def read_dataset(folder: Path) -> Dataset:
    """Reads a dataset artifact.

    Raises:
        UserError: the folder does not hold a dataset.
    """
    split = read_split(folder)
    return Dataset(
        items=read_table(folder / "items.parquet", ITEMS),
        events=read_table(folder / "events.parquet", EVENTS),
        split=split,
    )


def read_split(folder: Path) -> Split:
    """Reads the three moments of a dataset artifact.

    Raises:
        UserError: the folder does not hold a dataset.
    """
    split_path = folder / "split.json"
    if not split_path.is_file():
        raise UserError(f"{folder} is not a dataset (no split.json); make one with the ingest step.")
    return Split.model_validate_json(split_path.read_text(encoding="utf-8"))


def scan_events(folder: Path) -> pl.LazyFrame:
    """Scans the log of a dataset artifact, for steps that must not hold it in memory.

    Raises:
        UserError: there is none, or it holds other columns.
    """
    events_path = folder / "events.parquet"
    check_table_columns(events_path, EVENTS)
    return pl.scan_parquet(events_path)


def select_events_before(frame: pl.DataFrame, cutoff: datetime, column: str = "timestamp") -> pl.DataFrame:
    """Selects the rows strictly before `cutoff`: the one way in which any step looks at a log."""
    return frame.filter(pl.col(column) < cutoff)
