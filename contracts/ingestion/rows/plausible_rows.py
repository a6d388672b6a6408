"""Refuses what only the whole log shows to be wrong: clocks that were not set, guests, unlisted items."""

from collections import Counter
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Final

import polars as pl

from contracts.events.bots import MIN_BEHAVIORS, MIN_USERS
from contracts.ingestion.config import DataConfig
from contracts.ingestion.rows.normalize_rows import FILE_COLUMN, ORDER_COLUMN, write_rows_as_json
from contracts.ingestion.rows.quarantine import Quarantine
from contracts.ingestion.rows.rejections import RejectionCount
from contracts.ingestion.rows.unlisted_items import describe_repairable, explain_unlisted
from contracts.ingestion.rows.user_partitions import UserPartitions
from contracts.ingestion.rows.whole_log import NO_ROWS, LogStatistics, count_log
from contracts.table_schema import UTC_TIME

_ORDER_ORIGIN: Final = pl.datetime(2000, 1, 1, time_zone="UTC", time_unit="us")
"""Time given to the last event of each user in a log that holds an order but no time."""
_LEAST_OUTLYING: Final = timedelta(days=400)
"""A time is far from all others only beyond this, and beyond five times the span of the middle 98 %."""
_MIN_TIMES: Final = 20
"""Of fewer times none is far from the others."""
_ZERO_GUEST: Final = r"^0+$"
_ODD_SHARE: Final = 0.25
_TIMES_THE_MEAN: Final = 3
"""Whoever holds more of a log than both is named."""
_MIN_GUEST_SHARE: Final = 0.01
_NOBODYS_ADDRESSES: Final = ("noreply", "no-reply", "pos", "info", "shop", "store", "sales", "test", "none")
"""What stands before the @ where a shop gives customers without an address its own."""
_MANY_TIMES_THE_MEAN: Final = 10
_SEVERAL_TIMES_THE_MEAN: Final = 2
_MIN_UNLISTED_SHARE: Final = 0.001
"""Of fewer events the catalogue's ids are not looked through."""
_ACTIVE_AGAIN: Final = 0.9
"""Where so many users are as many as their behaviors, nobody has a history."""
_QUARANTINED_AT_ONCE: Final = 100_000
"""Rows as JSON take many times their own memory."""


def reject_implausible(
    log: UserPartitions,
    catalogue: pl.DataFrame,
    config: DataConfig,
    rejections: RejectionCount,
    quarantine: Quarantine,
    scratch: Path,
) -> LogStatistics:
    """Takes implausible rows out of the partitions, and judges all that was lost of the log.

    Args:
        log: kept rows of the log.
        catalogue: the items.
        config: the user's data.
        rejections: what was lost so far.
        quarantine: where lost rows go.
        scratch: folder for what does not fit into memory.

    Returns:
        Counts of the log before.

    Raises:
        UserError: too much is lost.
    """
    statistics = count_log(log.files, scratch) if log.has_rows else NO_ROWS
    is_ordered = config.events.order_column is not None
    rules: dict[str, pl.Expr] = {}
    # Times that are made of an order say nothing: a long history is no wrong clock.
    if not is_ordered and statistics.num_rows >= _MIN_TIMES:
        rules["timestamp: far from all others"] = _mark_outlying_times(statistics)
    if _has_zero_guest(statistics):
        reason = "user_id: 0 holds so much of the log that it stands for guests"
        rules[reason] = pl.col("user_id").str.contains(_ZERO_GUEST)
    rules["item_id: not in the catalogue"] = ~pl.col("item_id").is_in(catalogue["item_id"].implode())
    unlisted: Counter[str] = Counter()
    if is_ordered:
        for number, events in log.iterate_partitions():
            timed = events.with_columns(timestamp=_derive_time_from_order()).drop(ORDER_COLUMN)
            log.replace_rows(number, timed)
    # By file: a guest may hold so much that memory does not take the partition.
    for path, events in log.iterate_files():
        kept = events
        for reason, rule in rules.items():
            is_broken = kept.select(rule.fill_null(False)).to_series()
            if is_broken.any():
                broken_rows = kept.filter(is_broken)
                rejections.reject_more(broken_rows, reason)
                quarantine_events(broken_rows, reason, quarantine)
                if reason.startswith("item_id"):
                    unlisted.update(dict(broken_rows["item_id"].value_counts().iter_rows()))
                kept = kept.filter(~is_broken)
        if len(kept) < len(events):
            log.replace_file(path, kept)
    if unlisted.total() > 0.5 * max(rejections.num_rows, 1) and config.max_lost_share < 1:
        explain_unlisted(unlisted, catalogue, rejections.num_rows)
    if unlisted.total() >= max(_MIN_UNLISTED_SHARE * rejections.num_rows, 1):
        rejections.explanation = describe_repairable(unlisted, catalogue)
    rejections.judge(config, quarantine.first_row)
    return statistics


def describe_users(statistics: LogStatistics, config: DataConfig) -> list[str]:
    """Says what is odd about the users of a log, a sentence each."""
    notes = []
    share = statistics.num_of_busiest_user / max(statistics.num_behaviors, 1)
    is_small = statistics.num_users < MIN_USERS or statistics.num_behaviors < MIN_BEHAVIORS
    is_odd = share > max(_ODD_SHARE, _TIMES_THE_MEAN / max(statistics.num_users, 1))
    address = statistics.busiest_user.lower().partition("@")
    if address[1] and address[0] in (*config.events.guests, *_NOBODYS_ADDRESSES):
        is_odd = is_odd or share > 1 / max(statistics.num_users, 1)
    if statistics.num_users == 1:
        notes.append(f"all events are of one user, '{statistics.busiest_user}'")
    elif is_odd and statistics.num_behaviors >= _MIN_TIMES and (is_small or config.bots.max_share is None):
        notes.append(
            f"one of {statistics.num_users:,} users, '{statistics.busiest_user}', holds {share:.0%} of all "
            "behaviors; so few users do not tell what is usual. Is it a guest, a test or a script? Then name "
            "it in data.events.guests"
        )
    viewed_share = statistics.num_of_busiest_viewer / max(statistics.num_impressions, 1)
    is_monitor = viewed_share > max(_ODD_SHARE, _TIMES_THE_MEAN / max(statistics.num_users, 1))
    if is_monitor and statistics.num_impressions >= _MIN_TIMES and statistics.num_users > 1:
        notes.append(
            f"one of {statistics.num_users:,} users, '{statistics.busiest_viewer}', was shown "
            f"{viewed_share:.0%} of all impressions: is it a script that watches the shop? Then name "
            "it in data.events.guests"
        )
    zero_share = statistics.num_of_user_zero / max(statistics.num_rows, 1)
    is_much = zero_share > max(_SEVERAL_TIMES_THE_MEAN / max(statistics.num_users, 1), _MIN_GUEST_SHARE)
    if is_much and not _has_zero_guest(statistics):
        notes.append(
            f"the user id 0 holds {zero_share:.0%} of the log, and is kept as a user: does it stand for "
            "guests? Then name it in data.events.guests"
        )
    num_active = statistics.num_active_users
    if statistics.num_behaviors >= _MIN_TIMES and num_active >= _ACTIVE_AGAIN * statistics.num_behaviors:
        notes.append(
            f"{num_active:,} users have {statistics.num_behaviors:,} behaviors: hardly anybody has a "
            "history. Does user_id name visits or events?"
        )
    if statistics.num_user_variants:
        notes.append(
            f"{statistics.num_user_variants:,} user ids are those of other users but for upper and lower "
            "case or the form of accents; they are kept apart. If they are one, write them alike by a query: "
            "`lower(nfc_normalize(user_id)) as user_id`"
        )
    if statistics.num_unpadded_users:
        notes.append(
            f"{statistics.num_unpadded_users:,} user ids are those of other users without the zeros in "
            "front, which spreadsheets drop; they are kept apart. If they are one, write them alike by a "
            "query: `lpad(user_id, 8, '0') as user_id`"
        )
    return notes


def quarantine_events(rows: pl.DataFrame, reason: str, quarantine: Quarantine) -> None:
    """Sends events to quarantine for one reason."""
    for part in rows.iter_slices(_QUARANTINED_AT_ONCE):
        _quarantine_part(part, reason, quarantine)


def _quarantine_part(rows: pl.DataFrame, reason: str, quarantine: Quarantine) -> None:
    reasons = pl.Series([[reason]], dtype=pl.List(pl.String)).new_from_index(0, len(rows))
    filled = rows.select(column.name for column in rows.drop(FILE_COLUMN) if column.null_count() < len(rows))
    quarantine.add_rows(write_rows_as_json(filled), reasons, rows[FILE_COLUMN])


def _derive_time_from_order() -> pl.Expr:
    """An order without time becomes one day per step, counted back from a common end, so that the last events
    of all users fall into the same part of the split."""
    steps_to_end = pl.col(ORDER_COLUMN).rank("ordinal", descending=True).over("user_id")
    return (_ORDER_ORIGIN - pl.duration(days=steps_to_end.cast(pl.Int64) - 1)).cast(UTC_TIME)


def _mark_outlying_times(statistics: LogStatistics) -> pl.Expr:
    """Times so far from all others that a clock was wrong."""
    low = datetime.combine(statistics.find_day(0.01), time(), tzinfo=UTC)
    high = datetime.combine(statistics.find_day(0.99), time.max, tzinfo=UTC)
    reach = max(5 * (high - low), _LEAST_OUTLYING)
    return (pl.col("timestamp") - low < -reach) | (pl.col("timestamp") - high > reach)


def _has_zero_guest(statistics: LogStatistics) -> bool:
    """Whether the user id 0 stands for everybody who did not log in."""
    mean = statistics.num_rows / max(statistics.num_users, 1)
    return statistics.num_of_user_zero > max(
        _MANY_TIMES_THE_MEAN * mean, _MIN_GUEST_SHARE * statistics.num_rows
    )
