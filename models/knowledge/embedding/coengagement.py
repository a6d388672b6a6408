"""Which items the same users turned to, and in which order.

Only the log before the training end is read.
"""

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import polars as pl

from contracts.array_types import IntArray
from contracts.dataset import read_dataset, select_events_before
from contracts.shards import assign_shards

NO_ITEM: Final = -1
_MAX_HISTORY: Final = 20
"""Behaviors before a target that are looked at: older ones seldom tell what is wanted now."""
_MAX_TARGETS: Final = 500_000
"""Behaviors learned from at most, drawn at random from larger logs: bounds time and memory."""


class CoEngagement(NamedTuple):
    """T behaviors and what their users did before. Items are rows of the catalogue."""

    users: IntArray
    """[T]"""
    targets: IntArray
    """[T] items turned to."""
    histories: IntArray
    """[T, H] the user's behaviors before, newest first; NO_ITEM where there were no more."""
    folds: IntArray
    """[T] the user's fold; 0 where there are no folds."""


def read_coengagement(
    dataset: Path, item_ids: pl.Series, *, seed: int, num_folds: int = 0, max_targets: int = _MAX_TARGETS
) -> CoEngagement:
    """Reads the behaviors before the training end that were new to a user with a history.

    Args:
        dataset: The dataset artifact.
        item_ids: The catalogue's ids, [I].
        seed: Seed of the draw from a log of more targets.
        num_folds: Parts of the users, by a stable hash of their ids.
        max_targets: Behaviors to learn from at most.
    """
    data = read_dataset(dataset)
    item_rows = pl.DataFrame({"item_id": item_ids}).with_row_index("row")
    log = select_events_before(data.behaviors, data.split.train_end).select("user_id", "item_id")
    # The row's position keeps the order of time within a user.
    log = log.with_row_index("position").join(item_rows, on="item_id").sort("user_id", "position")
    user_numbers = log["user_id"].rank("dense").to_numpy().astype(np.int64)
    item_numbers = log["row"].to_numpy().astype(np.int64)
    distinct_users = log["user_id"].unique().sort()  # a user's number is the 1-based place here
    user_folds = assign_shards(distinct_users, max(num_folds, 1)).to_numpy().astype(np.int64)

    has_history = np.flatnonzero(user_numbers[1:] == user_numbers[:-1]) + 1
    if len(has_history) > max_targets:
        has_history = np.sort(np.random.default_rng(seed).choice(has_history, max_targets, replace=False))
    # A second look at an item of the history would teach nothing: the two are the same.
    histories = _gather_histories(user_numbers, item_numbers, has_history)
    is_new = (histories != item_numbers[has_history][:, None]).all(axis=1)
    rows = has_history[is_new]
    users = user_numbers[rows]
    return CoEngagement(users, item_numbers[rows], histories[is_new], user_folds[users - 1])


def _gather_histories(user_numbers: IntArray, item_numbers: IntArray, target_rows: IntArray) -> IntArray:
    """Returns [T, H] the items before each target, of a log that is sorted by user."""
    previous_rows = target_rows[:, None] - np.arange(1, _MAX_HISTORY + 1)
    clipped_rows = previous_rows.clip(min=0)
    is_same_user = (previous_rows >= 0) & (user_numbers[clipped_rows] == user_numbers[target_rows][:, None])
    return np.where(is_same_user, item_numbers[clipped_rows], NO_ITEM)
