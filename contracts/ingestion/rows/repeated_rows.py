"""Rows that stand more than once, and what that means.

Order lines that repeat within a file are several units: they add up. What repeats across files was exported
twice, and any other event that repeats says the same thing again. A file of which every row stands twice was
appended to itself. Nothing of it breaks the contract.
"""

from datetime import timedelta
from typing import Final, NamedTuple

import polars as pl

from contracts.events.event_repeats import TRADE_TYPES, sum_order_lines
from contracts.events.order_returns import EVENT_ID
from contracts.ingestion.rows.normalize_rows import FILE_COLUMN
from contracts.tables import EVENTS

SENT_AGAIN: Final = timedelta(seconds=10)
"""Who presses a button twice, whose page is sent again, or whom two trackers follow, does so within."""
_MIN_ROWS: Final = 20
"""Of fewer rows it may be chance that each stands twice."""


class MergedRows(NamedTuple):
    """Events of which each stands once."""

    rows: pl.DataFrame
    num_added: int
    """Order lines whose units were added to another line's."""
    num_dropped: int
    """Rows that only said again what another says."""
    num_differing: int = 0
    """Orders of which several files tell different prices or quantities."""
    num_sent_again: int = 0
    """Orders that came again within SENT_AGAIN."""


def merge_repeated_events(events: pl.DataFrame) -> MergedRows:
    """Merges events of one key.

    Args:
        events: EVENTS' columns and FILE_COLUMN; EVENT_ID, which tells copies apart, where the log has one.
    """
    num_before = len(events)
    if EVENT_ID in events.columns:
        # The lines of one order may share an id: it names an event of a user, an item and a type.
        is_first = pl.struct(EVENT_ID, "user_id", "item_id", "event_type").is_first_distinct()
        events = events.filter(pl.col(EVENT_ID).is_null() | is_first)
    key = list(EVENTS.key)
    if events.select(key).n_unique() < len(events):
        events = _drop_appended_copies(events)
    events = _drop_cut_copies(events)
    num_copies = num_before - len(events)
    num_before = len(events)
    events = _drop_sent_again(events)
    num_sent_again = num_before - len(events)
    if events.select(key).n_unique() == len(events):
        return MergedRows(events, 0, num_copies, num_sent_again=num_sent_again)
    is_order = events["event_type"] == "order"
    orders, others = events.filter(is_order), events.filter(~is_order)
    distinct_others = others.unique(key, keep="first", maintain_order=True)
    # Each file tells all units of a key, so that of several files the fullest one counts.
    num_units = pl.col("quantity").fill_null(1)
    units = orders.group_by(*key, FILE_COLUMN).agg(
        units=num_units.sum(), paid=(pl.col("price") * num_units).sum().round(2)
    )
    versions = units.group_by(key).agg(pl.struct("units", "paid").n_unique().alias("num_versions"))
    fullest = units.sort("units", FILE_COLUMN, descending=[True, False]).unique(
        key, keep="first", maintain_order=True
    )
    lines = orders.join(fullest, on=[*key, FILE_COLUMN], how="semi", maintain_order="left")
    is_repeated = lines.select(key).is_duplicated()
    summed = sum_order_lines(lines.filter(is_repeated))
    rows = pl.concat([distinct_others, lines.filter(~is_repeated), summed])
    return MergedRows(
        rows,
        num_added=int(is_repeated.sum()) - len(summed),
        num_dropped=num_copies + len(others) - len(distinct_others) + len(orders) - len(lines),
        num_differing=int((versions["num_versions"] > 1).sum()),
        num_sent_again=num_sent_again,
    )


def drop_repeated_returns(returns: pl.DataFrame) -> pl.DataFrame:
    """Returns of which each counts once: what several files tell, or one tells again within seconds.

    Like order lines, those that repeat within a file are of several units.

    Args:
        returns: EVENTS' columns and FILE_COLUMN; EVENT_ID where the log has one.
    """
    if len(returns) < 2:
        return returns
    told = [*EVENTS.key, "quantity", "price"]
    if EVENT_ID in returns.columns:
        is_copy = ~pl.struct(EVENT_ID, *told).is_first_distinct()
        returns = returns.filter(pl.col(EVENT_ID).is_null() | ~is_copy)
    occurrence = pl.int_range(pl.len()).over(FILE_COLUMN, *told)
    numbered = returns.with_columns(__occurrence=occurrence)
    identity = [*told, "__occurrence", *(name for name in (EVENT_ID,) if name in returns.columns)]
    distinct = numbered.unique(identity, keep="first", maintain_order=True)
    return _drop_sent_again(distinct.drop("__occurrence"))


def _drop_sent_again(events: pl.DataFrame) -> pl.DataFrame:
    """Orders and returns once that say the same as one some seconds before; other ids make them others."""
    names = ["user_id", "item_id", "event_type", "price", "quantity"]
    identity = [*names, *(name for name in (EVENT_ID,) if name in events.columns)]
    # Few have such another one: those alone are put in order.
    is_alike = pl.struct(identity).is_duplicated()
    trades = events.with_row_index("__row").filter(pl.col("event_type").is_in(TRADE_TYPES)).filter(is_alike)
    if trades.is_empty():
        return events
    # Lines that repeat at one moment are units: the first one comes again as the first one.
    numbered = trades.sort("timestamp", "__row").with_columns(
        __occurrence=pl.int_range(pl.len()).over(*identity, "timestamp")
    )
    since_last = pl.col("timestamp").diff().over(*identity, "__occurrence")
    again = numbered.filter((since_last > timedelta(0)) & (since_last <= SENT_AGAIN))["__row"]
    return events.with_row_index("__row").filter(~pl.col("__row").is_in(again.implode())).drop("__row")


def _drop_appended_copies(events: pl.DataFrame) -> pl.DataFrame:
    """Each row once of files that hold all their rows several times."""
    counted = events.group_by(FILE_COLUMN, *EVENTS.key).len()
    files = counted.group_by(FILE_COLUMN).agg(
        pl.len().alias("num_keys"), pl.col("len").min().alias("num_copies")
    )
    appended = files.filter((pl.col("num_copies") > 1) & (pl.col("num_keys") >= _MIN_ROWS))
    if appended.is_empty():
        return events
    copies = events.select(FILE_COLUMN).join(appended, on=FILE_COLUMN, how="left", maintain_order="left")
    occurrence = events.select(pl.int_range(pl.len()).over(events.columns)).to_series()
    return events.filter(occurrence % copies["num_copies"].fill_null(1) == 0)


def _drop_cut_copies(events: pl.DataFrame) -> pl.DataFrame:
    """Leaves out events that another file holds with the fraction of their second."""
    has_fraction = pl.col("timestamp").dt.microsecond() != 0
    if events[FILE_COLUMN].n_unique() < 2 or events.select(has_fraction.all() | ~has_fraction.any()).item():
        return events
    of_second = ("user_id", "item_id", "event_type", "second")
    timed = events.with_columns(second=pl.col("timestamp").dt.truncate("1s"))
    exact = timed.filter(has_fraction).select(*of_second, pl.col(FILE_COLUMN).alias("exact_file"))
    exact = exact.unique(of_second, keep="first")
    joined = timed.join(exact, on=list(of_second), how="left", maintain_order="left")
    is_cut = ~has_fraction & (pl.col("exact_file") != pl.col(FILE_COLUMN)).fill_null(False)
    return joined.filter(~is_cut).select(events.columns)
