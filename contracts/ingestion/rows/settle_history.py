"""What the rows of a log mean together: times, units, returns, requests, and who is no shopper."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import polars as pl

from contracts.bots import find_bots, find_dominant_users
from contracts.errors import UserError
from contracts.ingestion.config import DataConfig
from contracts.ingestion.rows.normalize_rows import FILE_COLUMN, ORDER_COLUMN, write_rows_as_json
from contracts.ingestion.rows.rejections import build_quarantine
from contracts.ingestion.rows.repeated_rows import merge_repeated_events
from contracts.ingestion.rows.requests import settle_requests
from contracts.ingestion.rows.revenue import check_unit_prices, divide_line_totals
from contracts.ingestion.rows.table_rows import TableRows
from contracts.order_prices import fill_order_prices
from contracts.order_returns import RETURN_TYPES, mark_returns
from contracts.table_schema import UTC_TIME
from contracts.tables import EVENTS

_ORDER_ORIGIN: Final = pl.datetime(2000, 1, 1, time_zone="UTC", time_unit="us")
"""Time given to the last event of each user in a log that holds an order but no time."""
_LEAST_OUTLYING: Final = timedelta(days=400)
"""A time is far from all others only beyond this, and beyond five times the span of the middle 98 %."""
_MIN_TIMES: Final = 20
"""Of fewer times none is far from the others."""
_ZERO_GUEST: Final = "0"
_MIN_GUEST_SHARE: Final = 0.01
_MANY_TIMES_THE_MEAN: Final = 10


class SettledHistory(NamedTuple):
    """The user's log, settled."""

    events: pl.DataFrame
    """Contract EVENTS."""
    quarantine: list[pl.DataFrame]
    merged: dict[str, int]
    left_out: dict[str, int]
    counts: dict[str, float]


def settle_history(
    log: TableRows, catalogue: pl.DataFrame, config: DataConfig, notes: list[str]
) -> SettledHistory:
    """Gives the rows of a log their meaning: times, units, returns, requests, and who is no shopper.

    Raises:
        UserError: too much is lost, or prices are totals.
    """
    plausible = _reject_implausible(log, catalogue, config)
    quarantine = plausible.quarantine
    events = divide_line_totals(plausible.events)
    is_return = events["event_type"].is_in(RETURN_TYPES)
    merged = merge_repeated_events(events.filter(~is_return))
    check_unit_prices(merged.rows, catalogue)
    orders = fill_order_prices(merged.rows.filter(pl.col("event_type") == "order"), catalogue)
    marked = mark_returns(orders, events.filter(is_return))
    num_returns = int(is_return.sum())
    others = merged.rows.filter(pl.col("event_type") != "order")
    settled = settle_requests(pl.concat([others, marked.orders.select(others.columns)]), config.requests)
    bots = _find_history_bots(settled.events, config)
    bot_rows = settled.events.filter(pl.col("user_id").is_in(bots.implode()))
    if len(bot_rows):
        quarantine.append(quarantine_events(bot_rows, "user_id: a bot"))
    kept = settled.events.filter(~pl.col("user_id").is_in(bots.implode())).select(EVENTS.schema.names())
    counts: dict[str, float] = {
        "returns": num_returns,
        "returns_unmatched": num_returns - marked.num_matched,
        "orders_without_price": int((~orders["has_own_price"]).sum()),
        "orders_of_unknown_revenue": orders["price"].null_count(),
        "bots": len(bots),
        "bot_rows": len(bot_rows),
        **settled.counts,
    }
    notes += _describe_settling(counts, bots)
    merges = {
        "units of repeated order lines added up": merged.num_added,
        "the same event again": merged.num_dropped,
    }
    left_out = {
        **{f"type '{name}', ignored by the config": count for name, count in log.ignored.items()},
        "returns, noted at their orders": marked.num_matched,
        "returns without an earlier order": num_returns - marked.num_matched,
        f"rows of {len(bots)} bot(s)": len(bot_rows),
    }
    return SettledHistory(
        kept.with_columns(pl.col(c.name).cast(c.dtype) for c in EVENTS.columns),
        quarantine,
        {name: count for name, count in merges.items() if count},
        {name: count for name, count in left_out.items() if count},
        counts,
    )


class PlausibleEvents(NamedTuple):
    """Events of plausible times, known users and listed items."""

    events: pl.DataFrame
    quarantine: list[pl.DataFrame]


def _reject_implausible(log: TableRows, catalogue: pl.DataFrame, config: DataConfig) -> PlausibleEvents:
    """Rejects what only the whole log shows to be wrong, and judges all that was lost of it.

    Raises:
        UserError: too much is lost.
    """
    quarantine: list[pl.DataFrame] = []

    def reject(rows: pl.DataFrame, is_broken: pl.Series, reason: str) -> pl.DataFrame:
        if is_broken.any():
            log.rejections.reject_more(rows.filter(is_broken), reason)
            quarantine.append(quarantine_events(rows.filter(is_broken), reason))
        return rows.filter(~is_broken)

    events = log.rows
    if config.events.order_column:
        # These times are made of an order: a long history is no wrong clock.
        events = events.with_columns(timestamp=_derive_time_from_order()).drop(ORDER_COLUMN)
    else:
        is_outlying = _find_outlying_times(events["timestamp"])
        events = reject(events, is_outlying, "timestamp: far from all others")
    if _is_zero_guest(events["user_id"]):
        reason = "user_id: 0 holds so much of the log that it stands for guests"
        events = reject(events, events["user_id"] == _ZERO_GUEST, reason)
    is_unlisted = ~events["item_id"].is_in(catalogue["item_id"].implode())
    _explain_unlisted(events.filter(is_unlisted), catalogue, log, config)
    events = reject(events, is_unlisted, "item_id: not in the catalogue")
    log.rejections.judge(config, log.first_broken_row or (quarantine[0]["row"][0] if quarantine else ""))
    return PlausibleEvents(events, quarantine)


def _derive_time_from_order() -> pl.Expr:
    """An order without time becomes one day per step, counted back from a common end, so that the last events
    of all users fall into the same part of the split."""
    steps_to_end = pl.col(ORDER_COLUMN).rank("ordinal", descending=True).over("user_id")
    return (_ORDER_ORIGIN - pl.duration(days=steps_to_end.cast(pl.Int64) - 1)).cast(UTC_TIME)


def _find_outlying_times(times: pl.Series) -> pl.Series:
    """Times so far from all others that a clock was wrong, [N] booleans."""
    if times.len() < _MIN_TIMES:
        return pl.Series([False]).new_from_index(0, len(times))
    low, high = times.quantile(0.01), times.quantile(0.99)
    assert isinstance(low, datetime)
    assert isinstance(high, datetime)
    reach = max(5 * (high - low), _LEAST_OUTLYING)
    return ((times < low - reach) | (times > high + reach)).fill_null(False)


def _is_zero_guest(users: pl.Series) -> bool:
    """Whether the user id 0 stands for everybody who did not log in."""
    num_zero = int((users == _ZERO_GUEST).sum())
    mean = len(users) / max(users.n_unique(), 1)
    return num_zero > max(_MANY_TIMES_THE_MEAN * mean, _MIN_GUEST_SHARE * len(users))


def _find_history_bots(events: pl.DataFrame, config: DataConfig) -> pl.Series:
    return (
        pl.concat([find_bots(events, config.bots), find_dominant_users(events, config.bots)]).unique().sort()
    )


def _explain_unlisted(
    unlisted: pl.DataFrame, catalogue: pl.DataFrame, log: TableRows, config: DataConfig
) -> None:
    """Says why most events name no item of the catalogue, where the ids themselves tell.

    Raises:
        UserError: more than half of the log is lost so.
    """
    if len(unlisted) <= 0.5 * max(log.rejections.num_rows, 1) or config.max_lost_share == 1:
        return
    theirs, ours = unlisted["item_id"], catalogue["item_id"]
    repairs: dict[str, Callable[[pl.Series], pl.Series]] = {
        "leading zeros": lambda ids: ids.str.strip_chars_start("0"),
        "upper and lower case": lambda ids: ids.str.to_lowercase(),
        "what stands around the digits": lambda ids: ids.str.extract(r"(\d+)"),
    }
    for difference, repair in repairs.items():
        if (repair(theirs).is_in(repair(ours).drop_nulls().implode()).sum() or 0) > len(theirs) / 2:
            raise UserError(
                f"{len(unlisted):,} of {log.rejections.num_rows:,} events name no item of the catalogue, "
                f"but would without {difference}: the log holds '{theirs[0]}', the catalogue '{ours[0]}'. "
                "Write the ids of both alike"
            )


def _describe_settling(counts: Mapping[str, float], bots: pl.Series) -> list[str]:
    """What a user may want to know, a sentence each."""
    sentences = {
        "request_ids_of_several_users": "request ids are shared by several users; each user's are "
        "requests of their own",
        "request_ids_used_again": "request ids are used again later; each time is a request of its own",
        "requests_told_after_their_outcomes": "requests were told after what was done on their page; they "
        "stand at its first moment",
        "behaviors_linked_by_time": "behaviors named no request that showed their item; they were joined by "
        "user, item and time",
        "behaviors_naming_an_unknown_request": "behaviors name a request that did not show their item",
        "returns_unmatched": "returns have no earlier order of the user and item in this log",
    }
    notes = [f"{counts[name]:,} {text}" for name, text in sentences.items() if counts.get(name)]
    if counts.get("behaviors"):
        share = counts["behaviors_of_requests"] / counts["behaviors"]
        notes.append(f"{share:.1%} of the behaviors belong to a request")
    if counts["orders_without_price"]:
        notes.append(
            f"{counts['orders_without_price']:,} orders have no price and count at the catalogue's; "
            f"{counts['orders_of_unknown_revenue']:,} have none there either: their revenue is "
            "unknown, not zero"
        )
    if len(bots):
        notes.append(
            f"left out as bots (data.bots): {', '.join(bots.head(5))}{' ...' if len(bots) > 5 else ''}"
        )
    return notes


def quarantine_events(rows: pl.DataFrame, reason: str) -> pl.DataFrame:
    """Events with one reason, in the quarantine's columns."""
    reasons = pl.Series([[reason]], dtype=pl.List(pl.String)).new_from_index(0, len(rows))
    filled = rows.select(column.name for column in rows.drop(FILE_COLUMN) if column.null_count() < len(rows))
    return build_quarantine(write_rows_as_json(filled), reasons, EVENTS.name, rows[FILE_COLUMN])
