"""The best items of each user at a moment: histories in, top lists out, in batches of bounded memory.

Shape letters: U users, N items, K items per list.
"""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from contracts.shards import hash_ids
from models.behavior.catalogue import Catalogue, FloatArray, IntArray
from models.behavior.choice import SUREST, Choice, choose
from models.behavior.histories import EMPTY, latest, user_histories
from models.behavior.tensors import Batch, item_counts, log_prior, to_batch

_MAX_SCORES = 20_000_000
"""Scores in memory at once (users of a batch times items)."""
_MAX_USERS = 512

Scorer = Callable[[Batch, Tensor], Tensor]
"""Maps histories [B, T] and excluded items [B, N] to confidences [B, N], 0 where excluded."""


class TopItems(NamedTuple):
    """The best items of each user, best first."""

    items: IntArray
    """Catalogue index, `EMPTY` where the user has fewer, [U, K]."""
    scores: FloatArray
    """Confidence, 0 where empty, [U, K]."""


class Moment(NamedTuple):
    """What is known at a moment."""

    as_of: datetime
    """Everything below is strictly before it."""
    behaviors: pl.DataFrame
    """From `distinct_behaviors`."""
    catalogue: Catalogue

    @property
    def unavailable_n(self) -> Tensor:
        """Items that could not be shown yet."""
        as_of_us = pl.select(pl.lit(self.as_of).dt.epoch("us")).item()
        return torch.from_numpy(self.catalogue.available_us >= as_of_us)


def trend_prior(moment: Moment, window_days: float) -> Tensor:
    """log P(item) by the behaviours of the last `window_days`, smoothed by those of all time, [N]."""
    of_late = latest(moment.behaviors, moment.as_of, window_days)
    size = len(moment.catalogue)
    return smoothed_prior(*(item_counts(frame["item"].to_numpy(), size) for frame in (moment.behaviors, of_late)))


def smoothed_prior(ever_n: FloatArray, recent_n: FloatArray) -> Tensor:
    """log P(item) by recent counts, smoothed by the share of each item in those of all time, [N]."""
    mixed = torch.from_numpy(recent_n) + log_prior(ever_n).exp() * len(ever_n)
    return torch.log(mixed / mixed.sum())


def top_items(
    moment: Moment,
    users: pl.Series,
    scorer: Scorer,
    *,
    max_history: int,
    num_items: int,
    choice: Choice = SUREST,
) -> TopItems:
    """Ranks the catalogue for each of `users`, without the items that the user has logged.

    Args:
        moment: what is known.
        users: ids, without repetition.
        scorer: gives the confidences.
        max_history: behaviours shown to the scorer.
        num_items: length K of the lists.
        choice: how lists are chosen by the confidences.
    """
    chooser = _Chooser(torch.from_numpy(moment.catalogue.vectors), hash_ids(users), num_items, choice)
    histories = user_histories(moment.behaviors, users, moment.as_of, max_history)
    logged = _logged(moment.behaviors, users)
    items = np.full((len(users), num_items), EMPTY, dtype=np.int64)
    scores = np.zeros((len(users), num_items), dtype=np.float32)
    batch_size = int(np.clip(_MAX_SCORES // len(moment.catalogue), 1, _MAX_USERS))
    by_length = np.argsort(histories.lengths, kind="stable")
    for start in range(0, len(users), batch_size):
        rows = by_length[start : start + batch_size]
        confidences = scorer(to_batch(histories.rows(rows)), _excluded(moment, logged, rows))
        found = chooser.choose(confidences, rows)
        width = found.items.shape[1]
        items[rows, :width], scores[rows, :width] = found
    return TopItems(items, scores)


def popularity(log_prior_n: Tensor) -> Scorer:
    """A scorer that knows nothing of the user."""

    def score(_histories: Batch, excluded_bn: Tensor) -> Tensor:
        return log_prior_n.exp().expand_as(excluded_bn).masked_fill(excluded_bn, 0.0)

    return score


class _Chooser(NamedTuple):
    vectors_nv: Tensor
    users_u: npt.NDArray[np.uint32]
    num_items: int
    choice: Choice

    def choose(self, confidences: Tensor, rows: IntArray) -> TopItems:
        items_bn = torch.arange(confidences.shape[1]).expand_as(confidences)
        users = self.users_u[rows]
        items, scores = choose(
            confidences, items_bn, self.vectors_nv, users, num_items=self.num_items, choice=self.choice
        )
        return TopItems(items.masked_fill(scores <= 0, EMPTY).numpy(), scores.numpy())


class _Logged(NamedTuple):
    """Logged items of all users in one array: user u's are `items[starts[u] : starts[u + 1]]`."""

    items: IntArray
    starts: IntArray


def _logged(behaviors: pl.DataFrame, users: pl.Series) -> _Logged:
    rows = pl.DataFrame({"user_id": users}).with_row_index("row")
    pairs = behaviors.join(rows, on="user_id", how="inner").sort("row", "item")
    counts = np.bincount(pairs["row"].to_numpy(), minlength=len(users))
    return _Logged(pairs["item"].to_numpy(), np.concatenate([[0], np.cumsum(counts)]))


def _excluded(moment: Moment, logged: _Logged, rows: IntArray) -> Tensor:
    counts = logged.starts[rows + 1] - logged.starts[rows]
    user = np.repeat(np.arange(len(rows)), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    item = logged.items[np.repeat(logged.starts[rows], counts) + within]
    excluded = moment.unavailable_n.repeat(len(rows), 1)
    excluded[torch.from_numpy(user), torch.from_numpy(item)] = True
    return excluded
