"""What a peer may learn from, and how its scores become lists.

Shape letters: U users, B users of a batch, T behaviours, N items, L levels of the semantic id, K places of a list.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from benchmarks.behavior_protocol import LIST_LENGTH, Bools, Ints, Task, mean, measure_lists

Floats = npt.NDArray[np.float32]
NO_ITEM = -1
_MAX_SCORES = 20_000_000

Scorer = Callable[[Ints], Floats]
"""Histories [B, T] (oldest first, `NO_ITEM` behind the last) -> score of every item, [B, N]."""
Recommender = Callable[[Ints, Bools], Ints]
"""Histories [B, T] and what may not be named, [B, N] -> the best items, best first, `NO_ITEM` where there is none."""


class PeerLog(NamedTuple):
    """The visible log of a task as arrays."""

    task: Task
    histories: Ints
    """[U, T] each user's latest behaviours, oldest first, `NO_ITEM` behind the last."""
    clicks: sp.csr_matrix
    """[U, N] 1 where the user has the item in his visible log."""
    vectors: Floats
    """[N, d] raw text vectors of unit norm."""
    codes: Ints
    """[N, L] semantic ids."""

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.task.item_ids)

    @property
    def lengths(self) -> Ints:
        """Behaviours per user, [U]."""
        return np.asarray((self.histories != NO_ITEM).sum(axis=1), dtype=np.int64)

    @property
    def validation_users(self) -> Ints:
        """The users who choose."""
        return np.intersect1d(self.task.asked, np.flatnonzero(self.task.is_validation))


def make_log(task: Task, vectors: Floats, codes: Ints, *, max_history: int = 50) -> PeerLog:
    """Lays out the visible behaviours of a task."""
    user, item = task.visible["user"].to_numpy(), task.visible["item"].to_numpy()
    shape = (len(task.users), len(task.item_ids))
    clicks = sp.csr_matrix((np.ones(len(user), np.float32), (user, item)), shape=shape)
    counts = np.bincount(user, minlength=shape[0])
    place = np.arange(len(user)) - (np.cumsum(counts) - counts)[user]
    place -= np.maximum(counts - max_history, 0)[user]
    histories = np.full((shape[0], min(max_history, counts.max())), NO_ITEM, dtype=np.int64)
    histories[user[place >= 0], place[place >= 0]] = item[place >= 0]
    return PeerLog(task, histories, clicks, vectors, codes)


def by_score(scorer: Scorer) -> Recommender:
    """The items of the highest scores."""

    def recommend(histories: Ints, excluded: Bools) -> Ints:
        scores = np.where(excluded, -np.inf, scorer(histories))
        count = min(LIST_LENGTH, scores.shape[1])
        best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        values = np.take_along_axis(scores, best, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        named = np.where(np.isinf(values), NO_ITEM, best)
        return np.asarray(np.take_along_axis(named, order, axis=1))

    return recommend


def lists_of(log: PeerLog, recommend: Recommender, users: Ints) -> Ints:
    """The lists of `users`, [U, K]; rows of the others hold `NO_ITEM`. Users of like history go together."""
    found = np.full((len(log.task.users), LIST_LENGTH), NO_ITEM, dtype=np.int64)
    size = max(1, min(512, _MAX_SCORES // log.num_items))
    lengths = log.lengths
    ordered = users[np.argsort(lengths[users], kind="stable")]
    for start in range(0, len(ordered), size):
        rows = ordered[start : start + size]
        histories = log.histories[rows, : lengths[rows].max()]
        lists = recommend(histories, log.clicks[rows].toarray() > 0)
        found[rows, : lists.shape[1]] = lists
    return found


def validate(log: PeerLog, recommend: Recommender) -> float:
    """Recall@10 of the validation users: what every choice is made by."""
    lists = lists_of(log, recommend, log.validation_users)
    return mean(measure_lists(log.task, lists), log.task, validation=True)
