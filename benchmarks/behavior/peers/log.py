"""What a peer may learn from, and how its scores become lists.

Shape letters: U users, B users of a batch, T behaviors, N items, L levels of the semantic id, K places of a
list.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from benchmarks.behavior.hidden_behaviors import LIST_LENGTH, Task, average_metric, measure_lists
from contracts.array_types import BoolArray, FloatArray, IntArray

NO_ITEM = -1
_MAX_SCORES = 20_000_000

Scorer = Callable[[IntArray], FloatArray]
"""Histories [B, T] (oldest first, `NO_ITEM` behind the last) -> score of every item, [B, N]."""
Recommender = Callable[[IntArray, BoolArray], IntArray]
"""Histories [B, T] and what may not be named, [B, N] -> the best items, best first, then `NO_ITEM`."""


class PeerLog(NamedTuple):
    """The visible log of a task as arrays."""

    task: Task
    histories: IntArray
    """[U, T] each user's latest behaviors, oldest first, `NO_ITEM` behind the last."""
    clicks: sp.csr_matrix
    """[U, N] 1 where the user has the item in his visible log."""
    vectors: FloatArray
    """[N, d] raw text vectors of unit norm."""
    codes: IntArray
    """[N, L] semantic ids."""

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.task.item_ids)

    @property
    def history_lengths(self) -> IntArray:
        """Behaviors per user, [U]."""
        return np.asarray((self.histories != NO_ITEM).sum(axis=1), dtype=np.int64)

    @property
    def validation_users(self) -> IntArray:
        """The users who choose."""
        return np.intersect1d(self.task.asked_users, np.flatnonzero(self.task.is_validation))


def make_peer_log(task: Task, vectors: FloatArray, codes: IntArray, *, max_history: int = 50) -> PeerLog:
    """Lays out the visible behaviors of a task."""
    user_rows, item_rows = task.visible["user"].to_numpy(), task.visible["item"].to_numpy()
    matrix_shape = (len(task.users), len(task.item_ids))
    ones = np.ones(len(user_rows), np.float32)
    click_matrix = sp.csr_matrix((ones, (user_rows, item_rows)), shape=matrix_shape)
    num_behaviors = np.bincount(user_rows, minlength=matrix_shape[0])
    history_places = np.arange(len(user_rows)) - (np.cumsum(num_behaviors) - num_behaviors)[user_rows]
    history_places -= np.maximum(num_behaviors - max_history, 0)[user_rows]
    histories = np.full((matrix_shape[0], min(max_history, num_behaviors.max())), NO_ITEM, dtype=np.int64)
    is_kept = history_places >= 0
    histories[user_rows[is_kept], history_places[is_kept]] = item_rows[is_kept]
    return PeerLog(task, histories, click_matrix, vectors, codes)


def recommend_by_score(scorer: Scorer) -> Recommender:
    """The items of the highest scores."""

    def recommend_items(histories: IntArray, excluded: BoolArray) -> IntArray:
        scores = np.where(excluded, -np.inf, scorer(histories))
        list_length = min(LIST_LENGTH, scores.shape[1])
        best_items = np.argpartition(-scores, list_length - 1, axis=1)[:, :list_length]
        best_scores = np.take_along_axis(scores, best_items, axis=1)
        score_order = np.argsort(-best_scores, axis=1, kind="stable")
        named_items = np.where(np.isinf(best_scores), NO_ITEM, best_items)
        return np.asarray(np.take_along_axis(named_items, score_order, axis=1))

    return recommend_items


def recommend_to_users(log: PeerLog, recommend: Recommender, users: IntArray) -> IntArray:
    """The lists of `users`, [U, K]; rows of the others hold `NO_ITEM`. Users of like history go together."""
    item_rows = np.full((len(log.task.users), LIST_LENGTH), NO_ITEM, dtype=np.int64)
    batch_size = max(1, min(512, _MAX_SCORES // log.num_items))
    history_lengths = log.history_lengths
    users_by_length = users[np.argsort(history_lengths[users], kind="stable")]
    for start in range(0, len(users_by_length), batch_size):
        batch_users = users_by_length[start : start + batch_size]
        histories = log.histories[batch_users, : history_lengths[batch_users].max()]
        batch_lists = recommend(histories, log.clicks[batch_users].toarray() > 0)
        item_rows[batch_users, : batch_lists.shape[1]] = batch_lists
    return item_rows


def measure_validation_recall(log: PeerLog, recommend: Recommender) -> float:
    """Recall@10 of the validation users: what every choice is made by."""
    validation_lists = recommend_to_users(log, recommend, log.validation_users)
    return average_metric(measure_lists(log.task, validation_lists), log.task, validation=True)
