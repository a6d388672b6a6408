"""What was collected of each day, as it came: the days of the served log are made from it.

It holds returns and the rows of bots, too, so that a day can be made anew under other rules.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Final

import polars as pl

from contracts.events.event_repeats import TRADE_TYPES, RepeatRuleConfig, drop_repeats
from contracts.events.order_returns import EVENT_ID, RETURN_TYPES, mark_returns
from contracts.served_log import name_day_folder
from contracts.tables import EVENTS
from serving.served_log.collected_rows import COLLECTED, IS_SHOWN
from serving.served_log.served_days import create_no_requests, list_requests

COLLECTED_FILE: Final = "collected.parquet"
_MAX_REQUEST_AGE: Final = timedelta(days=30)
"""An event takes over the arm and context of a request of at most so long before."""
_ROW_GROUP_ROWS: Final = 100_000
_USER_ITEM: Final = ("user_id", "item_id")
_ONE_DAY: Final = timedelta(days=1)
_COPY_KEY: Final = (*EVENTS.key, EVENT_ID, "quantity")
"""What makes two rows the same line, read twice. All else is kept: which of them are one event depends on a
rule that may change."""
_IS_NAMED: Final = pl.col(EVENT_ID).is_not_null()
_IS_TRADE: Final = pl.col("event_type").is_in(TRADE_TYPES)


@dataclass(frozen=True)
class ReturnedOrders:
    """Orders of users and items with a return, of all days."""

    order_keys: pl.DataFrame
    """EVENTS key of each."""
    orders: pl.DataFrame
    """They, each once, with what came back; schema COLLECTED."""
    num_matched: int
    """Returns that found an order."""


def merge_day(folder: Path, part_paths: Iterable[Path]) -> int:
    """Adds new rows to what was collected of a day. Returns how many were not there yet."""
    former_rows = read_collected(folder)
    frames = [former_rows, *(pl.read_parquet(path) for path in part_paths)]
    rows = pl.concat(frame.with_columns(part=pl.lit(number)) for number, frame in enumerate(frames))
    # A request that was answered twice was read in two parts: the first one counts.
    is_first_answer = ~IS_SHOWN | (pl.col("part") == pl.col("part").filter(IS_SHOWN).min().over("request_id"))
    rows = rows.filter(is_first_answer).unique(_COPY_KEY, keep="first", maintain_order=True).drop("part")
    if len(rows) > len(former_rows):
        folder.mkdir(parents=True, exist_ok=True)
        # By type first: a reader of returns and orders passes over all other row groups.
        sorted_rows = rows.sort("event_type", "timestamp", maintain_order=True)
        write_parquet(folder / COLLECTED_FILE, sorted_rows)
    return len(rows) - len(former_rows)


def find_returned_orders(
    served_log: Path, days: Iterable[date], *, repeats: RepeatRuleConfig, before: datetime
) -> ReturnedOrders:
    """Notes what came back at the orders of all days."""
    folders = [name_day_folder(served_log, day) for day in days]
    is_known, is_return = pl.col("timestamp") < before, pl.col("event_type").is_in(RETURN_TYPES)
    no_rows = pl.DataFrame(schema=COLLECTED)
    returns = pl.concat([no_rows, *(read_collected(folder, is_known & is_return) for folder in folders)])
    if returns.is_empty():
        return ReturnedOrders(no_rows.select(EVENTS.key), no_rows, 0)
    returned_items = returns.select(_USER_ITEM).unique()
    order_frames = (
        read_collected(folder, is_known & (pl.col("event_type") == "order")).join(
            returned_items, on=_USER_ITEM, how="semi"
        )
        for folder in folders
    )
    orders = pl.concat([no_rows, *order_frames])
    # All copies of an order are here: they are of the same user and item.
    marked = mark_returns(drop_repeats(orders, repeats).events, drop_repeats(returns, repeats).events)
    return ReturnedOrders(
        orders.select(EVENTS.key), marked.orders.select(no_rows.columns), marked.num_matched
    )


def find_changed_days(
    returned: ReturnedOrders, new_rows: Iterable[Path], *, served_log: Path, other_days: Iterable[date]
) -> set[date]:
    """Finds days with orders of users and items of which orders or returns came, or were let in.

    Args:
        returned: all orders that have a return.
        new_rows: files of new rows.
        served_log: the folder.
        other_days: days that are made anew for another reason: rows of theirs may be let in.
    """
    other_files = (name_day_folder(served_log, day) / COLLECTED_FILE for day in other_days)
    new_trades = [
        pl.scan_parquet(path).filter(_IS_TRADE).select(_USER_ITEM).unique().collect()
        for path in (*new_rows, *other_files)
        if path.is_file()
    ]
    if not new_trades:
        return set()
    changed_orders = returned.order_keys.join(pl.concat(new_trades), on=_USER_ITEM, how="semi")
    return set(changed_orders["timestamp"].dt.date().unique())


def find_earlier_copies(
    served_log: Path, day: date, rows: pl.DataFrame, repeats: RepeatRuleConfig
) -> pl.DataFrame:
    """Finds rows of the days before of which the day's rows may be copies."""
    event_ids = rows[EVENT_ID].drop_nulls().unique()
    midnight = datetime.combine(day, time(), UTC)
    is_recent_trade = _IS_TRADE & ~_IS_NAMED & (pl.col("timestamp") >= midnight - repeats.order_window)
    frames = [pl.DataFrame(schema=COLLECTED)]
    for age in range(1, _count_days(repeats) + 1):
        is_candidate = pl.lit(age * _ONE_DAY < repeats.order_window + _ONE_DAY) & is_recent_trade
        if len(event_ids) and age <= repeats.event_id_days:
            is_candidate |= _IS_NAMED & pl.col(EVENT_ID).is_in(event_ids.implode())
        earlier = read_collected(name_day_folder(served_log, day - age * _ONE_DAY), is_candidate)
        frames.append(earlier.filter(~IS_SHOWN))
    return pl.concat(frames)


def find_days_of_copies(
    new_rows: Iterable[tuple[date, Path]],
    *,
    served_log: Path,
    days: Iterable[date],
    repeats: RepeatRuleConfig,
) -> set[date]:
    """Finds days that hold later copies of events that came only now.

    Args:
        new_rows: day and file of new rows.
        served_log: the folder.
        days: days that are not made anew yet.
        repeats: which events are one event that was sent again.
    """
    can_repeat = _IS_NAMED | _IS_TRADE
    other_days = sorted(days)
    found_days: set[date] = set()
    for new_day, path in new_rows:
        later_days = [
            day
            for day in other_days
            if new_day < day <= new_day + _count_days(repeats) * _ONE_DAY and day not in found_days
        ]
        if not later_days or not path.is_file():
            continue
        acts = pl.scan_parquet(path).filter(can_repeat).select(*_USER_ITEM, "event_type").unique().collect()
        for day in later_days:
            day_rows = read_collected(name_day_folder(served_log, day), can_repeat)
            if len(day_rows.join(acts, on=acts.columns, how="semi")):
                found_days.add(day)
    return found_days


def _count_days(repeats: RepeatRuleConfig) -> int:
    """Days before a day that may hold an event of which it holds a copy."""
    return max(repeats.event_id_days, -(-repeats.order_window // _ONE_DAY))


def find_earlier_requests(served_log: Path, day: date, rows: pl.DataFrame) -> pl.DataFrame:
    """Looks for the requests that the day's events name in the days before, the latest first."""
    own_requests = rows.filter(IS_SHOWN).select("request_id")
    open_ids = (
        rows.filter(~IS_SHOWN)
        .select("request_id")
        .drop_nulls()
        .unique()
        .join(own_requests, on="request_id", how="anti")
    )
    found_requests = [create_no_requests()]
    for days_back in range(1, _MAX_REQUEST_AGE.days + 1):
        if open_ids.is_empty():
            break
        folder = name_day_folder(served_log, day - timedelta(days=days_back))
        is_open = pl.col("request_id").is_in(open_ids["request_id"].implode())
        found_requests.append(list_requests(read_collected(folder, IS_SHOWN & is_open)))
        open_ids = open_ids.join(found_requests[-1], on="request_id", how="anti")
    return pl.concat(found_requests)


def read_collected(folder: Path, condition: pl.Expr | None = None) -> pl.DataFrame:
    """Reads what was collected of a day, or the rows of it that keep a condition; none where nothing was."""
    collected_path = folder / COLLECTED_FILE
    if not collected_path.is_file():
        return pl.DataFrame(schema=COLLECTED)
    # A file from before events had ids lacks the column.
    rows = pl.scan_parquet(collected_path, schema=COLLECTED, missing_columns="insert").select(
        COLLECTED.names()
    )
    return (rows if condition is None else rows.filter(condition)).collect()


def write_parquet(path: Path, rows: pl.DataFrame) -> None:
    """Writes a Parquet file atomically."""
    temporary_path = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    rows.write_parquet(temporary_path, compression="zstd", row_group_size=_ROW_GROUP_ROWS)
    os.replace(temporary_path, path)
