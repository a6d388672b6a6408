"""What the rows of a log mean together: units, returns, requests, and who is no shopper."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

import polars as pl

from contracts.events.bots import find_bots
from contracts.events.order_prices import fill_order_prices
from contracts.events.order_returns import RETURN_TYPES, mark_returns
from contracts.ingestion.config import DataConfig
from contracts.ingestion.rows.order_doubts import OrderDoubts
from contracts.ingestion.rows.plausible_rows import quarantine_events
from contracts.ingestion.rows.quarantine import Quarantine
from contracts.ingestion.rows.repeated_rows import SENT_AGAIN, drop_repeated_returns, merge_repeated_events
from contracts.ingestion.rows.requests import settle_requests
from contracts.ingestion.rows.revenue import check_unit_prices, divide_line_totals
from contracts.ingestion.rows.served_rows import add_served_events
from contracts.ingestion.rows.settling_notes import describe_left_out, describe_settling
from contracts.ingestion.rows.user_partitions import ROWS_A_PARTITION, UserPartitions
from contracts.ingestion.rows.whole_log import (
    NO_REQUESTS,
    LogStatistics,
    RequestStatistics,
    find_dominant_users,
    study_requests,
)
from contracts.tables import EVENTS

_BOT_REASON: Final = "user_id: a bot"
_ADDED_LINES: Final = "units of repeated order lines added up"
_MIN_ROWS: Final = 20
"""Of fewer rows none may happen to stand first."""
_COUNTED_FROM_ONE: Final = "positions count from 1 in this log; they are kept as counted from 0"
_SAME_EVENTS: Final = "the same event again"
_SENT_AGAIN: Final = f"orders sent again within {SENT_AGAIN.seconds} seconds"
_MERGED: Final = (_ADDED_LINES, _SAME_EVENTS, _SENT_AGAIN)


class SettledHistory(NamedTuple):
    """What became of the rows of a log."""

    merged: Mapping[str, int]
    """What was the same row again -> rows."""
    left_out: Mapping[str, int]
    """What a rule leaves out -> rows."""
    kept_by_type: Mapping[str, int]
    """Event type -> events of the user's own log, most first."""
    counts: Mapping[str, int]
    notes: tuple[str, ...]
    """What a user may want to know, a sentence each."""
    last_time: datetime | None
    """The last event, served pages aside; None where there is none."""


def settle_history(
    log: UserPartitions,
    served_events: pl.DataFrame,
    catalogue: pl.DataFrame,
    config: DataConfig,
    quarantine: Quarantine,
    scratch: Path,
    *,
    statistics: LogStatistics,
) -> SettledHistory:
    """Gives the rows of a log their meaning, and adds what was served; the partitions then hold EVENTS.

    Args:
        log: plausible rows of the log.
        served_events: contract EVENTS. An event that the log holds, too, is taken from here: the served log
            knows its request.
        catalogue: the items.
        config: the user's data.
        quarantine: where the rows of bots go.
        scratch: folder for what does not fit into memory.
        statistics: counts of the log.

    Raises:
        UserError: prices are totals.
    """
    requests, bots = NO_REQUESTS, list[str]()
    counts: Counter[str] = Counter()
    if log.has_rows:
        # Before any partition is read: memory may not take what they hold.
        bots = find_dominant_users(log.files, config.bots, scratch, many_rows=ROWS_A_PARTITION)
        for rows in log.take_out_users(bots):
            quarantine_events(rows, _BOT_REASON, quarantine)
            counts["bot_rows"] += len(rows)
        requests = study_requests(log.files, scratch)
    counts["request_ids_of_several_users"] = len(requests.shared_ids)
    counts["impressions_without_request"] = requests.num_nameless
    doubts = OrderDoubts()
    counts_from_one = statistics.first_position == 1 and statistics.num_rows >= _MIN_ROWS
    kept_by_type: Counter[str] = Counter()
    last_times: list[datetime] = []
    for number in range(log.num_partitions):
        rows = log.read_rows(number)
        events = EVENTS.create_empty()
        if len(rows):
            if counts_from_one:
                rows = rows.with_columns(pl.col("position") - 1)
            settled = _settle_users(rows, catalogue, config, requests, counts, doubts)
            events, more_bots = _leave_out_bots(settled, config, quarantine, counts)
            bots += more_bots
            kept_by_type.update(dict(events["event_type"].value_counts().iter_rows()))
        served_part = log.select_rows(served_events, number)
        if len(served_part):
            events = add_served_events(events, served_part)
        last_times += _find_last_time(events, served_part)
        log.replace_rows(number, EVENTS.check_rows(events))
    counts["bots"] = len(bots)
    return SettledHistory(
        {what: num_rows for what in _MERGED if (num_rows := counts.pop(what, 0))},
        describe_left_out(counts),
        dict(kept_by_type.most_common()),
        counts,
        (
            *([_COUNTED_FROM_ONE] if counts_from_one else []),
            *describe_settling(counts, sorted(bots)),
            *doubts.describe(),
        ),
        max(last_times, default=None),
    )


def _settle_users(
    rows: pl.DataFrame,
    catalogue: pl.DataFrame,
    config: DataConfig,
    requests: RequestStatistics,
    counts: Counter[str],
    doubts: OrderDoubts,
) -> pl.DataFrame:
    """All rows of some users, settled: EVENTS' columns and FILE_COLUMN.

    `counts` and `doubts` take what was found.
    """
    events = divide_line_totals(rows)
    is_return = events["event_type"].is_in(RETURN_TYPES)
    merged = merge_repeated_events(events.filter(~is_return))
    check_unit_prices(merged.rows, catalogue)
    orders = merged.rows.filter(pl.col("event_type") == "order")
    doubts.add_listed_prices(orders, catalogue)
    orders = fill_order_prices(orders, catalogue)
    returns = drop_repeated_returns(events.filter(is_return))
    marked = mark_returns(orders, returns, lowers_prices=True)
    others = merged.rows.filter(pl.col("event_type") != "order")
    settled = pl.concat([others, _keep_told_returns(marked.orders, orders).select(others.columns)])
    doubts.add_orders(orders, num_added=merged.num_added)
    counts.update(
        {
            _ADDED_LINES: merged.num_added,
            _SAME_EVENTS: merged.num_dropped + int(is_return.sum()) - len(returns),
            _SENT_AGAIN: merged.num_sent_again,
            "orders_told_differently": merged.num_differing,
            "returns": len(returns),
            "returns_of_money": marked.num_lowered,
            "returns_unmatched": len(returns) - marked.num_matched,
            "orders_without_price": int((~orders["has_own_price"]).sum()),
            "orders_of_unknown_revenue": orders["price"].null_count(),
        }
    )
    if not requests.has_pages:
        return settled
    told = settle_requests(settled, requests.shared_ids, config.requests)
    counts.update(told.counts)
    return told.events


def _leave_out_bots(
    settled: pl.DataFrame, config: DataConfig, quarantine: Quarantine, counts: Counter[str]
) -> tuple[pl.DataFrame, list[str]]:
    """The events (EVENTS) of those who pass for shoppers, and who does not."""
    is_bot = pl.col("user_id").is_in(find_bots(settled, config.bots).implode())
    bot_rows = settled.filter(is_bot)
    if len(bot_rows):
        quarantine_events(bot_rows, _BOT_REASON, quarantine)
        counts["bot_rows"] += len(bot_rows)
    events = settled.filter(~is_bot).select(pl.col(c.name).cast(c.dtype) for c in EVENTS.columns)
    return events, bot_rows["user_id"].unique().to_list()


def _keep_told_returns(marked_orders: pl.DataFrame, orders: pl.DataFrame) -> pl.DataFrame:
    """A log may say itself how many units came back, beside rows of returns or without them."""
    units_told = pl.when(pl.col("told").is_not_null()).then(
        pl.min_horizontal("told", pl.col("quantity").fill_null(1))
    )
    with_told = marked_orders.with_columns(told=orders["returned"])
    returned = pl.max_horizontal("returned", units_told).cast(pl.Int32)
    return with_told.with_columns(returned=returned).drop("told")


def _find_last_time(events: pl.DataFrame, served_events: pl.DataFrame) -> list[datetime]:
    """The last event's time, if there is any: what was shown last nobody could react to yet.

    So a single page that was asked for by hand, long after a log's own time, does not move the cut-off there.
    """
    served_pages = served_events.filter(pl.col("event_type") == "impression")
    kept = events.join(served_pages, on=EVENTS.key, how="anti") if len(served_pages) else events
    last_time = kept["timestamp"].max()
    return [last_time] if isinstance(last_time, datetime) else []
