"""Divides a log in time into training, validation and test."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from contracts.dataset import Split
from contracts.errors import UserError
from contracts.ingestion.config import SplitConfig
from contracts.ingestion.rows.sorted_events import find_times


def divide_log(events_path: Path, counts: Mapping[str, int], config: SplitConfig, cutoff: datetime) -> Split:
    """Finds the moments that divide the log (behaviors decide, not impressions).

    Args:
        events_path: the log, sorted by time.
        counts: its `events` and `behaviors`, from `count_events`.
        config: the parts' shares.
        cutoff: the end of the log.

    Raises:
        UserError: the behaviors are too few or too close in time to be divided.
    """
    if config.kind == "leave_last_out":
        (last_time,) = find_times(events_path, [counts["events"] - 1])
        return Split(train_end=last_time - timedelta(days=1), validation_end=last_time, cutoff=cutoff)
    num_behaviors = counts["behaviors"]
    if num_behaviors < 3:
        raise UserError(
            f"{num_behaviors} behavior(s) (click, cart or order) in the log before {cutoff}, its end; "
            "at least 3 are needed to divide it"
        )
    validation_row = min(int(num_behaviors * (config.train + config.validation)), num_behaviors - 1)
    train_row = int(num_behaviors * config.train)
    if not 0 < train_row < validation_row:
        raise UserError(
            f"the log holds {num_behaviors} behaviors (clicks, carts and orders) before {cutoff}, its end: "
            f"too few for parts of {config.train:.0%} and {config.validation:.0%} before the test part. Ten "
            "are enough by default"
        )
    first_time, train_end, validation_end = find_times(
        events_path, [0, train_row, validation_row], of_behaviors=True
    )
    if not first_time < train_end < validation_end < cutoff:
        raise UserError(
            f"the log cannot be divided in time at {train_end} and {validation_end}: too many events share "
            "one moment; for logs with an order but no time use data.events.order_column and "
            "data.split.kind: leave_last_out"
        )
    return Split(train_end=train_end, validation_end=validation_end, cutoff=cutoff)
