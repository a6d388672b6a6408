"""The best items of each user at a moment: histories in, top lists out, in batches of bounded memory.

Shape letters: U users, N items, K items per list.
"""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import numpy as np
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
_MAX_SHORTLISTED = 128
"""Users of a batch whose candidates alone are scored."""

Scorer = Callable[[Batch, Tensor], Tensor]
"""Maps histories [B, T] and excluded items [B, N] to confidences [B, N], 0 where excluded."""
Shortlister = Callable[[Batch, Tensor], tuple[Tensor, Tensor]]
"""Maps histories [B, T] and logged (row, item) pairs [E, 2] to candidates and confidences, [B, W] each."""


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
        return unavailable(self.catalogue, self.as_of)


def unavailable(catalogue: Catalogue, as_of: datetime) -> Tensor:
    """Items that could not be shown yet at a moment, [N]."""
    return torch.from_numpy(catalogue.available_us >= pl.select(pl.lit(as_of).dt.epoch("us")).item())


def trend_prior(moment: Moment, window_days: float) -> Tensor:
    """log P(item) by the behaviours of the last `window_days`, smoothed by those of all time, [N]."""
    of_late = latest(moment.behaviors, moment.as_of, window_days)
    size = len(moment.catalogue)
    return smoothed_prior(*(item_counts(frame["item"].to_numpy(), size) for frame in (moment.behaviors, of_late)))


def smoothed_prior(ever_n: FloatArray, recent_n: FloatArray) -> Tensor:
    """log P(item), [N]: the share in all behaviours and in recent ones, which count the more the more they are.

    Both shares are smoothed by one count for each item; with n recent behaviours theirs weighs n / (n + N).
    """
    trust = float(recent_n.sum() / (recent_n.sum() + len(recent_n)))
    mixed: Tensor = trust * log_prior(recent_n).exp() + (1 - trust) * log_prior(ever_n).exp()
    return torch.log(mixed)


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
    size = len(moment.catalogue)
    unavailable_n = moment.unavailable_n

    def score(histories: Batch, logged: Tensor) -> tuple[Tensor, Tensor]:
        excluded_bn = unavailable_n.repeat(len(histories.items_bt), 1)
        excluded_bn[logged[:, 0], logged[:, 1]] = True
        confidences_bn = scorer(histories, excluded_bn)
        return torch.arange(size).expand_as(confidences_bn), confidences_bn

    batch_size = int(np.clip(_MAX_SCORES // size, 1, _MAX_USERS))
    lists = _Lists(moment, users, max_history, num_items, choice)
    return lists.rank(score, batch_size)


def top_of_shortlists(
    moment: Moment,
    users: pl.Series,
    shortlister: Shortlister,
    *,
    max_history: int,
    num_items: int,
    choice: Choice = SUREST,
) -> TopItems:
    """As `top_items`, by what scores only a few candidates per user; it must know what is not available."""
    lists = _Lists(moment, users, max_history, num_items, choice)
    return lists.rank(shortlister, _MAX_SHORTLISTED)


def popularity(log_prior_n: Tensor) -> Scorer:
    """A scorer that knows nothing of the user."""

    def score(_histories: Batch, excluded_bn: Tensor) -> Tensor:
        return log_prior_n.exp().expand_as(excluded_bn).masked_fill(excluded_bn, 0.0)

    return score


class _Lists(NamedTuple):
    """The lists that are wanted."""

    moment: Moment
    users: pl.Series
    max_history: int
    num_items: int
    choice: Choice

    def rank(self, shortlister: Shortlister, batch_size: int) -> TopItems:
        """Goes through the users in batches of like length of history."""
        moment, users = self.moment, self.users
        histories = user_histories(moment.behaviors, users, moment.as_of, self.max_history)
        logged, numbers = _logged(moment.behaviors, users), hash_ids(users)
        vectors_nv = torch.from_numpy(moment.catalogue.vectors)
        items = np.full((len(users), self.num_items), EMPTY, dtype=np.int64)
        scores = np.zeros((len(users), self.num_items), dtype=np.float32)
        by_length = np.argsort(histories.lengths, kind="stable")
        for start in range(0, len(users), batch_size):
            rows = by_length[start : start + batch_size]
            items_bm, scores_bm = shortlister(to_batch(histories.rows(rows)), logged.pairs(rows))
            found, score = choose(
                scores_bm, items_bm, vectors_nv, numbers[rows], num_items=self.num_items, choice=self.choice
            )
            width = found.shape[1]
            items[rows, :width] = found.masked_fill(score <= 0, EMPTY).numpy()
            scores[rows, :width] = score.numpy()
        return TopItems(items, scores)


class _Logged(NamedTuple):
    """Logged items of all users in one array: user u's are `items[starts[u] : starts[u + 1]]`."""

    items: IntArray
    starts: IntArray

    def pairs(self, users: IntArray) -> Tensor:
        """(place in `users`, item) of all that these users logged, [E, 2]."""
        counts = self.starts[users + 1] - self.starts[users]
        place = np.repeat(np.arange(len(users)), counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return torch.from_numpy(np.stack([place, self.items[np.repeat(self.starts[users], counts) + within]], axis=1))


def _logged(behaviors: pl.DataFrame, users: pl.Series) -> _Logged:
    rows = pl.DataFrame({"user_id": users}).with_row_index("row")
    pairs = behaviors.join(rows, on="user_id", how="inner").sort("row", "item")
    counts = np.bincount(pairs["row"].to_numpy(), minlength=len(users))
    return _Logged(pairs["item"].to_numpy(), np.concatenate([[0], np.cumsum(counts)]))
