"""Lines of the event log as rows of one shape, on their way into the served log."""

from datetime import date
from typing import Final, NamedTuple

import polars as pl

from contracts.events.order_returns import EVENT_ID
from contracts.tables import CONTEXT_COLUMNS, EVENTS
from serving.event_log.event_log import RecordKind
from serving.event_log.log_lines import parse_lines
from serving.event_log.log_tables import keep_first_pages, list_shown_items
from serving.gateway.messages import FALLBACK

COLLECTED: Final = pl.Schema(
    {
        **EVENTS.schema,
        EVENT_ID: pl.String(),
        "model_version": pl.String(),
        "assignment": pl.String(),
        "is_degraded": pl.Boolean(),
    }
)
"""EVENTS as they came, returns and repeats among them. The last three columns tell of the answer: an event
has none of its own."""
IS_SHOWN: Final = pl.col("model_version").is_not_null()
"""Rows of exposures; what a client reports as shown has no model version."""
REQUEST_COLUMNS: Final = ("arm", "assignment", "model_version", *CONTEXT_COLUMNS)
"""What an event takes over from the request that showed its item."""


class CollectedRows(NamedTuple):
    """Rows of some lines."""

    rows: pl.DataFrame
    """Schema COLLECTED, in the order of the lines."""
    num_broken: int
    """Lines that are no record."""


def collect_lines(kind: RecordKind, lines: bytes) -> CollectedRows:
    """Reads whole lines of one kind."""
    records, num_broken = parse_lines(kind, lines)
    rows = _list_impressions(records) if kind == "exposures" else records
    return CollectedRows(_take_columns(rows), num_broken)


def _list_impressions(answers: pl.DataFrame) -> pl.DataFrame:
    # The first page of a request counts: a retry's is the same page, or was not the one that was seen.
    shown_items = list_shown_items(keep_first_pages(answers))
    # Neither the fallback nor a forced arm is the policy's choice: estimates that weigh by propensities must
    # not take these pages for it.
    is_policys_choice = (pl.col("model_version") != FALLBACK) & (
        pl.col("assignment").fill_null("drawn") != "forced"
    )
    return shown_items.with_columns(
        event_type=pl.lit("impression"),
        propensity=pl.when(is_policys_choice).then("propensity"),
        is_degraded=pl.col("degraded").list.len() > 0,
        assignment=pl.col("assignment").fill_null("drawn"),
    )


def _take_columns(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(
        pl.col(name).cast(dtype) if name in rows.columns else pl.lit(None, dtype).alias(name)
        for name, dtype in COLLECTED.items()
    )


def split_by_day(rows: pl.DataFrame) -> dict[date, pl.DataFrame]:
    """UTC day -> its rows."""
    dated_rows = rows.with_columns(day=pl.col("timestamp").dt.date())
    return {
        day: day_rows
        for (day,), day_rows in dated_rows.partition_by("day", as_dict=True, include_key=False).items()
    }
