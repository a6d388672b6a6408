"""Ranking and calibration metrics over lists of unequal length, vectorised.

Legend: N lists, M candidates of all lists (flat), offsets [N + 1] as in `RankingRows`.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Reals = npt.NDArray[np.float64]

TOP = 10


class ListMetrics(NamedTuple):
    """Metrics of each list, [N]; NaN where a list has no positive."""

    ndcg: Reals
    """NDCG@10, binary gains."""
    hit_rate: Reals
    """Is a positive among the first ten?"""


def list_metrics(scores: npt.NDArray[np.float32], labels: Bools, offsets: Ints) -> ListMetrics:
    """NDCG@10 and HR@10 of each list.

    Ties count as the mean over all orders of the tied candidates, so that constant scores earn nothing by the order
    in which the candidates were given.
    """
    lists = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    gain = _expected_gains(scores, lists, offsets, 1 / np.log2(np.arange(TOP) + 2))
    hits = _expected_gains(scores, lists, offsets, np.ones(TOP))
    positives = np.bincount(lists, labels, len(offsets) - 1)
    ideal = np.concatenate([[np.nan], np.cumsum(1 / np.log2(np.arange(TOP) + 2))])[
        np.minimum(positives, TOP).astype(np.int64)
    ]
    ndcg = np.bincount(lists, gain * labels, len(offsets) - 1) / ideal
    found = np.bincount(lists, hits * labels, len(offsets) - 1)
    return ListMetrics(ndcg, np.where(positives > 0, np.minimum(found, 1), np.nan))


def _expected_gains(scores: npt.NDArray[np.float32], lists: Ints, offsets: Ints, gains: Reals) -> Reals:
    """Gain of each candidate's rank, averaged over the ranks of its ties, [M]."""
    order = np.lexsort((-scores, lists))
    rank = np.arange(len(order)) - offsets[lists[order]]
    gain = np.where(rank < len(gains), gains[np.minimum(rank, len(gains) - 1)], 0.0)
    ranked, owner = scores[order], lists[order]
    is_start = np.ones(len(order), bool)
    is_start[1:] = (ranked[1:] != ranked[:-1]) | (owner[1:] != owner[:-1])
    tie = np.cumsum(is_start) - 1
    expected = np.empty(len(order))
    expected[order] = (np.bincount(tie, gain) / np.bincount(tie))[tie]
    return expected


def auc(scores: npt.NDArray[np.float32], labels: Bools) -> float:
    """Area under the ROC curve (Mann-Whitney, ties count half); NaN with one class only."""
    return float(group_auc(scores, labels, np.zeros(len(scores), np.int64), 1)[0])


def group_auc(scores: npt.NDArray[np.float32], labels: Bools, groups: Ints, num_groups: int) -> Reals:
    """AUC within each group, [num_groups]; NaN where a group has one class only."""
    order = np.lexsort((scores, groups))
    ranked, owner, positive = scores[order], groups[order], labels[order]
    is_start = np.ones(len(order), bool)
    is_start[1:] = (ranked[1:] != ranked[:-1]) | (owner[1:] != owner[:-1])
    tie = np.cumsum(is_start) - 1
    rank = np.arange(1, len(order) + 1, dtype=np.float64)
    mean_rank = (np.bincount(tie, rank) / np.bincount(tie))[tie] if len(order) else rank
    sizes = np.bincount(groups, minlength=num_groups)
    mean_rank -= (np.cumsum(sizes) - sizes)[owner]
    positives = np.bincount(owner, positive, num_groups)
    pairs = positives * (sizes - positives)
    wins = np.bincount(owner, mean_rank * positive, num_groups) - positives * (positives + 1) / 2
    return np.where(pairs > 0, wins / np.where(pairs > 0, pairs, 1), np.nan)


def gauc(scores: npt.NDArray[np.float32], labels: Bools, users: Ints) -> float:
    """AUC within each user, averaged with the number of candidates as weight; NaN where no user has both classes.

    Source: Zhu et al., "Optimized Cost per Click in Taobao Display Advertising" (arXiv 1703.02091).
    """
    num_users = int(users.max(initial=-1)) + 1
    values = group_auc(scores, labels, users, num_users)
    known = ~np.isnan(values)
    weights = np.bincount(users, minlength=num_users)[known]
    return float(np.average(values[known], weights=weights)) if known.any() else float("nan")


def log_loss(probabilities: npt.NDArray[np.float32], labels: Bools) -> float:
    """Mean negative log-likelihood, nats."""
    p = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-np.where(labels, np.log(p), np.log1p(-p)).mean())


def calibration_error(probabilities: npt.NDArray[np.float32], labels: Bools, *, num_bins: int = 20) -> float:
    """Expected calibration error over bins of equal size (ECE; Naeini et al., AAAI 2015)."""
    order = np.argsort(probabilities, kind="stable")
    bins = np.arange(len(order)) * num_bins // max(len(order), 1)
    gap = np.bincount(bins, probabilities[order].astype(np.float64) - labels[order])
    return float(np.abs(gap).sum() / len(order))
