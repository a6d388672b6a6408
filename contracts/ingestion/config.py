"""What the user says about their data: where it lies, how its columns are called, how its time is divided."""

from typing import Literal

from pydantic import AwareDatetime, Field, model_validator

from contracts.config import Config
from contracts.tables import EVENT_TYPES, EVENTS, ITEMS

FileFormat = Literal["parquet", "csv", "jsonl"]
TimeUnit = Literal["auto", "s", "ms", "us", "iso"]


class SourceConfig(Config):
    """One table of the user's: a file, a folder or a glob, local or on any fsspec file system."""

    uri: str
    """Path or URL: `data/items.parquet`, `s3://bucket/events/*.parquet`, `items.csv.gz`."""
    format: FileFormat | None = None
    """Taken from the file name when not given."""
    columns: dict[str, str] = {}
    """Our column -> your column. Columns of the same name need no entry."""


class ItemSourceConfig(SourceConfig):
    """The catalogue."""

    category_separator: str | None = None
    """Splits a combined category text ('A,B,C' or 'A|B') into a path; lists are understood without it."""

    @model_validator(mode="after")
    def _known(self) -> "ItemSourceConfig":
        _check_columns(self.columns, tuple(ITEMS.schema), "items")
        return self


class EventSourceConfig(SourceConfig):
    """The behaviour log."""

    time_unit: TimeUnit = "auto"
    """Unit of the time column; `auto` tells integers apart by their size and reads text as ISO 8601."""
    order_column: str | None = None
    """For logs with an order but no time: your column with the position in the user's sequence."""
    event_type: str | None = None
    """The type of every event, for logs with no such column."""
    event_types: dict[str, str] = {}
    """Your event type -> ours (impression, click, cart, order)."""

    @model_validator(mode="after")
    def _known(self) -> "EventSourceConfig":
        _check_columns(self.columns, tuple(EVENTS.schema), "events")
        wrong = {v for v in (self.event_type, *self.event_types.values()) if v is not None} - set(EVENT_TYPES)
        if wrong:
            raise ValueError(f"unknown event type(s) {sorted(wrong)}; allowed: {', '.join(EVENT_TYPES)}")
        if self.order_column and "timestamp" in self.columns:
            raise ValueError("give either order_column or columns.timestamp, not both")
        return self


class SplitConfig(Config):
    """How the log's time is divided."""

    kind: Literal["time", "leave_last_out"] = "time"
    """`time`: by shares of the behaviours in time. `leave_last_out`: each user's last behaviour is test, the one before
    validation (for logs that hold an order but no time)."""
    train: float = Field(default=0.8, gt=0, lt=1)
    """Share of behaviours before `train_end` (kind `time`)."""
    validation: float = Field(default=0.1, gt=0, lt=1)
    """Share of behaviours between `train_end` and `validation_end` (kind `time`)."""

    @model_validator(mode="after")
    def _leaves_a_test_part(self) -> "SplitConfig":
        if self.train + self.validation >= 1:
            raise ValueError(
                f"train + validation = {self.train + self.validation:.2f} leaves no test part; must be < 1"
            )
        return self


class DataConfig(Config):
    """The user's data."""

    items: ItemSourceConfig
    """The catalogue."""
    events: EventSourceConfig
    """The behaviour log."""
    cutoff: AwareDatetime | None = None
    """Nothing at or after this moment is read; by default just after the last event."""
    split: SplitConfig = SplitConfig()
    """Train, validation and test part."""
    max_rejected_share: float = Field(default=0.05, ge=0, le=1)
    """The step fails when a larger share of a table's rows breaks its contract."""

    @model_validator(mode="after")
    def _order_has_no_time(self) -> "DataConfig":
        if self.split.kind == "leave_last_out" and not self.events.order_column:
            raise ValueError("split.kind leave_last_out is for logs without time: it needs events.order_column")
        return self


def _check_columns(columns: dict[str, str], known: tuple[str, ...], table: str) -> None:
    unknown = sorted(set(columns) - set(known))
    if unknown:
        raise ValueError(f"{table}.columns maps unknown column(s) {', '.join(unknown)}; allowed: {', '.join(known)}")
