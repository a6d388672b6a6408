"""What the user says about their data: its place, its columns, and how its time is divided."""

from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, Field, model_validator

from contracts.config import Config
from contracts.events.bots import BotRuleConfig
from contracts.events.order_returns import EVENT_ID, RETURN_TYPES
from contracts.ingestion.values.missing_words import GUEST_WORDS, MISSING_WORDS
from contracts.ingestion.values.numbers import DecimalMark
from contracts.ingestion.values.times import TimeUnit
from contracts.tables import EARLIEST_TIME, EVENT_TYPES, EVENTS, ITEMS

SourceFormat = Literal["parquet", "csv", "jsonl", "arrow"]
IGNORED: Final = "ignore"
"""In place of an event type of ours: rows of this type are left out, and counted."""
LINE_TOTAL: Final = "line_total"
_LIMITED_TABLES: Final = ("items", "events")


class SourceConfig(Config):
    """One table of the user's: a file, folder or glob on any fsspec file system."""

    uri: str
    """Path or URL: `data/items.parquet`, `s3://bucket/events/*.parquet`, `items.csv.gz`. Or a query that
    DuckDB runs: `duckdb:select * from 'a.parquet' where shop = 1`."""
    format: SourceFormat | None = None
    """Taken from the file name when not given."""
    columns: dict[str, str | None] = {}
    """Our column -> your column, or a field of it (`price.amount`). Columns of the same name need no entry;
    null leaves one out."""
    separator: str | None = Field(default=None, min_length=1, max_length=1)
    """Of a text file's cells; found out when not given."""
    encoding: str | None = None
    """Of a text file: utf-8, cp1252, gb18030 ...; found out when not given."""
    quotes: bool | None = None
    """Whether quotation marks enclose cells of a text file; found out when not given."""
    decimal: DecimalMark = "auto"
    """Mark between whole and fraction; `auto` lets each column decide."""
    missing_words: tuple[str, ...] = MISSING_WORDS
    """Texts that stand for an empty cell; case and surrounding blanks do not count."""
    time_zone: str = "UTC"
    """Zone of times that name none: UTC, Europe/Berlin ..."""
    day_first: bool | None = None
    """Whether 03/04/2025 is the third of April; found out when not given, or refused."""


class ItemSourceConfig(SourceConfig):
    """The catalogue."""

    category_separator: str | None = None
    """Splits a combined category text ('A,B,C' or 'A|B') into a path; lists are understood without it."""

    product_column: str | None = None
    """Your column that names the product of a variant, such as Shopify's Handle. A row that leaves title,
    brand, category or description empty takes them from its product's first row. Rows that name a product
    and no item are left out."""

    @model_validator(mode="after")
    def _check_item_columns(self) -> "ItemSourceConfig":
        _check_column_names(self.columns, tuple(ITEMS.schema), "items")
        return self


class EventSourceConfig(SourceConfig):
    """The behavior log."""

    time_unit: TimeUnit = "auto"
    """Unit of times that are numbers; `auto` reads each as the unit that makes it a plausible moment."""
    earliest: AwareDatetime = EARLIEST_TIME
    """Times before are no times of this log; nor are those later than a day from now."""
    order_column: str | None = None
    """For logs with an order but no time: your column with the position in the user's sequence."""
    event_type: str | None = None
    """The type of every event, for logs with no such column."""
    event_types: dict[str, str] = {}
    """Your event type -> ours (impression, click, cart, order), `return`, `cancel`, or `ignore`."""
    guests: tuple[str, ...] = GUEST_WORDS
    """User ids that stand for everybody who did not log in; `0` is one where it holds too much of the log."""

    @model_validator(mode="after")
    def _check_event_settings(self) -> "EventSourceConfig":
        _check_column_names(self.columns, (*EVENTS.schema, LINE_TOTAL, EVENT_ID), "events")
        allowed_types = (*EVENT_TYPES, *RETURN_TYPES, IGNORED)
        given_types = {self.event_type, *self.event_types.values()} - {None}
        if unknown_types := sorted(str(name) for name in given_types if name not in allowed_types):
            raise ValueError(f"unknown event type(s) {unknown_types}; allowed: {', '.join(allowed_types)}")
        if self.order_column and self.columns.get("timestamp"):
            raise ValueError("give either order_column or columns.timestamp, not both")
        return self


class SplitConfig(Config):
    """How the log's time is divided."""

    kind: Literal["time", "leave_last_out"] = "time"
    """`time`: by shares of the behaviors in time. `leave_last_out`: each user's last behavior is test,
    the one before validation (for logs that hold an order but no time)."""
    train: float = Field(default=0.8, gt=0, lt=1)
    """Share of behaviors before `train_end` (kind `time`)."""
    validation: float = Field(default=0.1, gt=0, lt=1)
    """Share of behaviors between `train_end` and `validation_end` (kind `time`)."""

    @model_validator(mode="after")
    def _check_test_share(self) -> "SplitConfig":
        if self.train + self.validation >= 1:
            raise ValueError(
                f"train + validation = {self.train + self.validation:.2f} leaves no test part; must be < 1"
            )
        return self


class RequestRuleConfig(Config):
    """What makes a request of rows that name one, and of clicks that name none."""

    window_minutes: float = Field(default=30, gt=0)
    """Impressions of one request id further apart are several requests; a click or order that names none
    belongs to the user's latest impression of the item not longer ago than this."""
    min_share: float = Field(default=0.2, ge=0, le=1)
    """Share of the behaviors that must belong to a request; below, rankers learn from next-item lists."""


class DataConfig(Config):
    """The user's data."""

    items: ItemSourceConfig
    """The catalogue."""
    events: EventSourceConfig
    """The behavior log."""
    cutoff: AwareDatetime | None = None
    """Nothing at or after this moment is read; by default just after the last event, served pages
    that nobody reacted to aside."""
    split: SplitConfig = SplitConfig()
    """Train, validation and test part."""
    max_rejected_share: float = Field(default=0.05, ge=0, le=1)
    """The step fails when a larger share of a table's rows breaks its contract."""
    max_rejected_shares: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    """The same for one table (`items`) or one of its columns (`events.item_id`), where it is another."""
    max_lost_share: float = Field(default=0.5, gt=0, le=1)
    """The step fails when a larger share of one event type, day, file or arm is lost, or of the cells of one
    column cannot be read, however few these are; 1 lets anything pass."""
    requests: RequestRuleConfig = RequestRuleConfig()
    """What belongs to one ranking request."""
    bots: BotRuleConfig = BotRuleConfig()
    """Whose rows of the history are no shopper's; they go to quarantine."""

    @model_validator(mode="after")
    def _check_limits(self) -> "DataConfig":
        names = {*_LIMITED_TABLES, *(f"{t.name}.{column}" for t in (ITEMS, EVENTS) for column in t.schema)}
        if unknown := sorted(set(self.max_rejected_shares) - names):
            raise ValueError(
                f"max_rejected_shares names {', '.join(unknown)}; write items, events, or a column"
            )
        return self

    @model_validator(mode="after")
    def _check_split_has_order(self) -> "DataConfig":
        if self.split.kind == "leave_last_out" and not self.events.order_column:
            raise ValueError(
                "split.kind leave_last_out is for logs without time: it needs events.order_column"
            )
        return self


def _check_column_names(
    column_names: dict[str, str | None], contract_names: tuple[str, ...], table_name: str
) -> None:
    if unknown_names := sorted(set(column_names) - set(contract_names)):
        raise ValueError(
            f"{table_name}.columns maps unknown column(s) {', '.join(unknown_names)}; "
            f"allowed: {', '.join(contract_names)}"
        )
