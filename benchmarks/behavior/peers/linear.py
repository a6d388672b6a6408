"""Peers without training by gradient: popularity, item-kNN, text-kNN, EASE, EASE with text.

Shape letters: B users, T behaviors, N items, d length of a text vector.
"""

from collections.abc import Callable, Iterator

import numpy as np
import scipy.sparse as sp
import torch

from benchmarks.behavior.hidden_behaviors import average_metric, measure_lists
from benchmarks.behavior.peers.log import (
    NO_ITEM,
    PeerLog,
    Scorer,
    measure_validation_recall,
    recommend_by_score,
    recommend_to_users,
)
from contracts.array_types import FloatArray, IntArray

_SHRINKAGE = 10.0
_KNN_POWERS = (0.5, 0.7)
_EASE_PENALTIES = (100.0, 300.0, 1000.0)
_TEXT_WEIGHTS = (0.0, 0.03, 0.06, 0.1, 0.2, 0.4)
_CRITERIA = {"ease_text": ("all", "recall10"), "ease_text_nonhead": ("nonhead", "recall20")}


def score_popularity(log: PeerLog) -> Scorer:
    """How many users have the item."""
    item_counts = log.task.visible_counts.astype(np.float32)
    return lambda histories: np.broadcast_to(item_counts, (len(histories), len(item_counts)))


def score_item_knn(log: PeerLog) -> Scorer:
    """Sum of the shrunk co-occurrence with each behavior (Sarwar et al., WWW 2001); its norm is tuned."""
    pair_counts = _count_pairs(log)
    item_counts = pair_counts.diagonal().copy()
    np.fill_diagonal(pair_counts, 0)

    def build_scorer() -> Iterator[Scorer]:
        for power in _KNN_POWERS:
            item_norms = (item_counts + 1) ** power
            yield _multiply_histories(
                (pair_counts / (np.outer(item_norms, item_norms) + _SHRINKAGE)).astype(np.float32), log
            )

    return choose_best_scorer(log, build_scorer())


def score_text_knn(log: PeerLog) -> Scorer:
    """Largest cosine of the raw text vectors to any behavior."""
    item_cosines = log.vectors @ log.vectors.T

    def score_users(histories: IntArray) -> FloatArray:
        best_cosines = np.full((len(histories), log.num_items), -1, np.float32)
        for step_items in histories.T:
            user_rows = np.flatnonzero(step_items != NO_ITEM)
            best_cosines[user_rows] = np.maximum(best_cosines[user_rows], item_cosines[step_items[user_rows]])
        return best_cosines

    return score_users


def score_ease(log: PeerLog) -> Scorer:
    """EASE (Steck, "Embarrassingly shallow autoencoders", WWW 2019, eq. 8); the penalty is tuned."""
    gram_matrix = _count_pairs(log)
    return choose_best_scorer(
        log, (_multiply_histories(_solve_ease(gram_matrix, penalty), log) for penalty in _EASE_PENALTIES)
    )


def score_ease_with_text(log: PeerLog, text_scorer: Scorer) -> dict[str, Scorer]:
    """EASE's score plus a weight times the largest text cosine; penalty and weight are tuned together.

    Returns:
        `score_ease_with_text`, tuned for recall@10, and `ease_text_nonhead`, tuned for recall@20 outside the
        head: text costs recall among the most popular items and gains it elsewhere; a figure is compared with
        the mixture tuned for it.
    """
    gram_matrix = _count_pairs(log)
    best_values = dict.fromkeys(_CRITERIA, -1.0)
    best_scorers: dict[str, Scorer] = {}
    for penalty in _EASE_PENALTIES:
        ease_scorer = _multiply_histories(_solve_ease(gram_matrix, penalty), log)
        for text_weight in _TEXT_WEIGHTS:
            scorer = _mix_scorers(ease_scorer, text_scorer, text_weight)
            for name, value in _measure_criteria(log, scorer).items():
                if value > best_values[name]:
                    best_values[name], best_scorers[name] = value, scorer
    return best_scorers


def choose_best_scorer(log: PeerLog, scorers: Iterator[Scorer]) -> Scorer:
    """The scorer with the best validation recall@10; only two are alive at once."""
    best_scorer, best_recall = next(scorers), -1.0
    best_recall = measure_validation_recall(log, recommend_by_score(best_scorer))
    for scorer in scorers:
        recall = measure_validation_recall(log, recommend_by_score(scorer))
        if recall > best_recall:
            best_scorer, best_recall = scorer, recall
    return best_scorer


def mark_items(histories: IntArray, num_items: int) -> sp.csr_matrix:
    """[B, N] 1 for each behavior."""
    history_rows, history_columns = np.nonzero(histories != NO_ITEM)
    ones = np.ones(len(history_rows), np.float32)
    return sp.csr_matrix(
        (ones, (history_rows, histories[history_rows, history_columns])), shape=(len(histories), num_items)
    )


def _multiply_histories(weights: FloatArray, log: PeerLog) -> Scorer:
    return lambda histories: np.asarray(mark_items(histories, log.num_items) @ weights, np.float32)


def _count_pairs(log: PeerLog) -> FloatArray:
    return np.asarray((log.clicks.T @ log.clicks).toarray(), np.float32)


def _solve_ease(gram: FloatArray, penalty: float) -> FloatArray:
    """B = I - P / diag(P) with P = (X'X + penalty I)^-1, by Cholesky in single precision."""
    regularized_gram = torch.from_numpy(gram).clone()
    regularized_gram.diagonal().add_(penalty)
    inverse_gram = torch.cholesky_inverse(torch.linalg.cholesky(regularized_gram))
    item_weights = inverse_gram.div_(-inverse_gram.diagonal())
    item_weights.fill_diagonal_(0)
    return np.asarray(item_weights.numpy())


def _mix_scorers(first: Scorer, second: Scorer, weight: float) -> Scorer:
    return lambda histories: first(histories) + np.float32(weight) * second(histories)


def _measure_criteria(log: PeerLog, scorer: Scorer) -> dict[str, float]:
    """What each mixture is tuned for, on the validation users."""
    validation_lists = recommend_to_users(log, recommend_by_score(scorer), log.validation_users)
    scores = measure_lists(log.task, validation_lists)
    return {
        name: average_metric(scores, log.task, slice_name=slice_name, metric=metric, validation=True)
        for name, (slice_name, metric) in _CRITERIA.items()
        if slice_name in scores
    }


Fit = Callable[[PeerLog], Scorer]
