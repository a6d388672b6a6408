"""Which items were turned to by the same users, and in which order: the log before the training end, nothing else."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.dataset import before, read_dataset
from contracts.shards import owners

Rows = NDArray[np.int64]
NO_ITEM = -1


class Engagement(NamedTuple):
    """T behaviours and what their users did before; numbers are rows of the catalogue."""

    users: Rows
    """[T]"""
    targets: Rows
    """[T] items turned to."""
    histories: Rows
    """[T, H] the user's behaviours before, newest first; NO_ITEM where there were no more."""
    folds: Rows
    """[T] the user's fold; 0 where there are no folds."""


def read_engagement(
    dataset: Path, item_ids: pl.Series, *, history_length: int, limit: int, seed: int, num_folds: int = 0
) -> Engagement:
    """Behaviours before the training end that were new to a user with a history.

    Args:
        dataset: The dataset artifact.
        item_ids: The catalogue's ids, [N].
        history_length: H, the behaviours looked back.
        limit: At most so many targets, drawn at random.
        seed: Of the draw.
        num_folds: Parts of the users, by a stable hash of their ids.
    """
    data = read_dataset(dataset)
    rows = pl.DataFrame({"item_id": item_ids}).with_row_index("row")
    log = before(data.behaviors, data.split.train_end).select("user_id", "item_id").with_row_index("at")
    log = log.join(rows, on="item_id", how="inner").sort("user_id", "at")
    users = log["user_id"].rank("dense").to_numpy().astype(np.int64)
    user_ids = log["user_id"].unique().sort()  # users[i] is the (1-based) place of its id here
    folds = owners(user_ids, max(num_folds, 1)).to_numpy().astype(np.int64)
    items = log["row"].to_numpy().astype(np.int64)
    followed = np.flatnonzero(users[1:] == users[:-1]) + 1
    if len(followed) > limit:
        followed = np.sort(np.random.default_rng(seed).choice(followed, limit, replace=False))
    histories = _look_back(users, items, followed, history_length)
    is_new = (histories != items[followed][:, None]).all(axis=1)
    chosen = followed[is_new]
    return Engagement(users[chosen], items[chosen], histories[is_new], folds[users[chosen] - 1])


def _look_back(users: Rows, items: Rows, places: Rows, length: int) -> Rows:
    """[P, length] items before each place of a log that is sorted by user, as long as the user is the same."""
    back = places[:, None] - np.arange(1, length + 1)
    same = (back >= 0) & (users[back.clip(min=0)] == users[places][:, None])
    return np.where(same, items[back.clip(min=0)], NO_ITEM)
