"""The best items of each user at a moment: histories in, top lists out, in batches of bounded memory.

Letters of its own: N users, M items that were scored.
"""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor

from contracts.array_types import FloatArray, IntArray
from models.behavior.sequences.behavior_catalogue import BehaviorCatalogue
from models.behavior.sequences.sequence_tensors import (
    SequenceBatch,
    count_items,
    make_sequence_batch,
    smooth_log_prior,
)
from models.behavior.sequences.user_sequences import NO_ITEM, collect_user_histories, select_recent_behaviors

_MAX_SCORES = 20_000_000
"""Scores in memory at once (users of a batch times items)."""
_MAX_USERS = 512
_MAX_SHORTLISTED_USERS = 128
"""Users of a batch whose candidates alone are scored."""

CatalogueScorer = Callable[[SequenceBatch, Tensor], Tensor]
"""Maps histories [B, T] and excluded items [B, I] to confidences [B, I], 0 where excluded."""
CandidateScorer = Callable[[SequenceBatch, Tensor], tuple[Tensor, Tensor]]
"""Maps histories [B, T] and logged (row, item) pairs [Q, 2] to candidates and confidences, [B, M] each."""


class TopItems(NamedTuple):
    """The best items of each user, best first."""

    items: IntArray
    """Item number, `NO_ITEM` where the user has fewer, [N, K]."""
    scores: FloatArray
    """Confidence, 0 where empty, [N, K]."""


class LogSnapshot(NamedTuple):
    """What is known at a moment."""

    as_of: datetime
    """Everything below is strictly before it."""
    behaviors: pl.DataFrame
    """From `find_distinct_behaviors`."""
    catalogue: BehaviorCatalogue


def mark_unavailable_items(catalogue: BehaviorCatalogue, as_of: datetime) -> Tensor:
    """Marks items that could not be shown yet at a moment, [I]."""
    return torch.from_numpy(catalogue.available_us >= pl.select(pl.lit(as_of).dt.epoch("us")).item())


def estimate_trend_prior(snapshot: LogSnapshot, window_days: float) -> Tensor:
    """Estimates log P(item), [I], by the behaviors of the last days, smoothed by those of all time."""
    recent_behaviors = select_recent_behaviors(snapshot.behaviors, snapshot.as_of, window_days)
    ever_I, recent_I = (
        count_items(behaviors["item"].to_numpy(), len(snapshot.catalogue))
        for behaviors in (snapshot.behaviors, recent_behaviors)
    )
    return mix_trend_prior(ever_I, recent_I)


def mix_trend_prior(ever_I: FloatArray, recent_I: FloatArray) -> Tensor:
    """Mixes log P(item), [I]: the share in all behaviors and in recent ones.

    The recent ones count the more the more they are. Both shares are smoothed by one count for each item;
    with n recent behaviors theirs weighs n / (n + I).
    """
    recent_weight = float(recent_I.sum() / (recent_I.sum() + len(recent_I)))
    recent_prior_I, prior_I = smooth_log_prior(recent_I).exp(), smooth_log_prior(ever_I).exp()
    mixed_I: Tensor = recent_weight * recent_prior_I + (1 - recent_weight) * prior_I
    return torch.log(mixed_I)


def make_popularity_scorer(log_prior_I: Tensor) -> CatalogueScorer:
    """Makes a scorer that knows nothing of the user."""

    def score_by_popularity(_histories: SequenceBatch, is_excluded_BI: Tensor) -> Tensor:
        return log_prior_I.exp().expand_as(is_excluded_BI).masked_fill(is_excluded_BI, 0.0)

    return score_by_popularity


def rank_whole_catalogue(
    snapshot: LogSnapshot, users: pl.Series, scorer: CatalogueScorer, *, max_history: int, num_items: int
) -> TopItems:
    """Ranks the catalogue for each user, without the items that the user has logged.

    Args:
        snapshot: what is known.
        users: ids, without repetition.
        scorer: gives the confidences.
        max_history: behaviors shown to the scorer.
        num_items: length K of the lists.
    """
    catalogue_size = len(snapshot.catalogue)
    is_unavailable_I = mark_unavailable_items(snapshot.catalogue, snapshot.as_of)

    def score_all_items(histories: SequenceBatch, logged: Tensor) -> tuple[Tensor, Tensor]:
        is_excluded_BI = is_unavailable_I.repeat(len(histories.items_BT), 1)
        is_excluded_BI[logged[:, 0], logged[:, 1]] = True
        confidences_BI = scorer(histories, is_excluded_BI)
        return torch.arange(catalogue_size).expand_as(confidences_BI), confidences_BI

    batch_size = int(np.clip(_MAX_SCORES // catalogue_size, 1, _MAX_USERS))
    return _rank_in_batches(snapshot, users, score_all_items, max_history, num_items, batch_size)


def rank_shortlists(
    snapshot: LogSnapshot, users: pl.Series, scorer: CandidateScorer, *, max_history: int, num_items: int
) -> TopItems:
    """Ranks candidates for each user. The scorer must know what is not available."""
    return _rank_in_batches(snapshot, users, scorer, max_history, num_items, _MAX_SHORTLISTED_USERS)


def _rank_in_batches(
    snapshot: LogSnapshot,
    users: pl.Series,
    scorer: CandidateScorer,
    max_history: int,
    num_items: int,
    batch_size: int,
) -> TopItems:
    """Goes through the users in batches of like length of history."""
    histories = collect_user_histories(snapshot.behaviors, users, snapshot.as_of, max_history)
    logged_items = _collect_logged_items(snapshot.behaviors, users)
    top_items = np.full((len(users), num_items), NO_ITEM, dtype=np.int64)
    top_scores = np.zeros((len(users), num_items), dtype=np.float32)
    by_length = np.argsort(histories.lengths, kind="stable")
    for start in range(0, len(users), batch_size):
        rows = by_length[start : start + batch_size]
        items_BM, scores_BM = scorer(make_sequence_batch(histories.rows(rows)), logged_items.list_pairs(rows))
        best = scores_BM.topk(min(num_items, scores_BM.shape[1]), dim=1)
        items_BK = items_BM.gather(1, best.indices).masked_fill(best.values <= 0, NO_ITEM)
        top_items[rows, : items_BK.shape[1]] = items_BK.numpy()
        top_scores[rows, : items_BK.shape[1]] = best.values.numpy()
    return TopItems(top_items, top_scores)


class _LoggedItems(NamedTuple):
    """Logged items of all users in one array: user u's are `items[starts[u] : starts[u + 1]]`."""

    items: IntArray
    starts: IntArray

    def list_pairs(self, users: IntArray) -> Tensor:
        """(place in `users`, item) of all that these users logged, [Q, 2]."""
        counts = self.starts[users + 1] - self.starts[users]
        places = np.repeat(np.arange(len(users)), counts)
        within_user = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        items = self.items[np.repeat(self.starts[users], counts) + within_user]
        return torch.from_numpy(np.stack([places, items], axis=1))


def _collect_logged_items(behaviors: pl.DataFrame, users: pl.Series) -> _LoggedItems:
    user_rows = pl.DataFrame({"user_id": users}).with_row_index("row")
    user_behaviors = behaviors.join(user_rows, on="user_id", how="inner").sort("row", "item")
    counts = np.bincount(user_behaviors["row"].to_numpy(), minlength=len(users))
    return _LoggedItems(user_behaviors["item"].to_numpy(), np.concatenate([[0], np.cumsum(counts)]))
