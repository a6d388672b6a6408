"""Ranking and calibration metrics over lists of unequal length, vectorized.

Legend: N lists, M candidates of all lists (flat), offsets [N + 1] as in `RankingLists`.
"""

from typing import NamedTuple

import numpy as np

from contracts.array_types import BoolArray, DoubleArray, FloatArray, IntArray

TOP = 10


class ListMetrics(NamedTuple):
    """Metrics of each list, [N]; NaN where a list has no positive."""

    ndcg: DoubleArray
    """NDCG@10, binary gains."""
    hit_rate: DoubleArray
    """Is a positive among the first ten?"""


def measure_lists(
    scores: FloatArray | DoubleArray, labels: BoolArray, offsets: IntArray, *, full_size: int | None = None
) -> ListMetrics:
    """NDCG@10 and HR@10 of each list.

    Ties count as the mean over all orders of the tied candidates, so that constant scores earn nothing by the
    order in which the candidates were given.

    Args:
        scores: of all candidates, [M].
        labels: of all candidates, [M].
        offsets: list n has the candidates offsets[n] to offsets[n + 1].
        full_size: candidates that each list should have. A shorter list of one positive gets the metrics that
            it is expected to have at that size (`_expect_gains`). None: lists count as they are.
    """
    num_lists = len(offsets) - 1
    list_numbers = np.repeat(np.arange(num_lists), np.diff(offsets))
    discounts = 1 / np.log2(np.arange(TOP) + 2)
    rank_gains = _average_tied_gains(scores, list_numbers, offsets, discounts, full_size)
    rank_hits = _average_tied_gains(scores, list_numbers, offsets, np.ones(TOP), full_size)
    positives = np.bincount(list_numbers, labels, num_lists)
    # No positive, no ideal: such a list has no NDCG.
    ideal_by_positives = np.concatenate([[np.nan], np.cumsum(discounts)])
    ideal_gain = ideal_by_positives[np.minimum(positives, TOP).astype(np.int64)]
    ndcg = np.bincount(list_numbers, rank_gains * labels, num_lists) / ideal_gain
    num_hits = np.bincount(list_numbers, rank_hits * labels, num_lists)
    return ListMetrics(ndcg, np.where(positives > 0, np.minimum(num_hits, 1), np.nan))


def _average_tied_gains(
    scores: FloatArray | DoubleArray,
    list_numbers: IntArray,
    offsets: IntArray,
    gain_by_rank: DoubleArray,
    full_size: int | None,
) -> DoubleArray:
    """Gain of each candidate's rank, averaged over the ranks of its ties, [M]."""
    order = np.lexsort((-scores, list_numbers))
    rank = np.arange(len(order)) - offsets[list_numbers[order]]
    if full_size is None:
        last_rank = len(gain_by_rank) - 1
        ranked_gains = np.where(rank <= last_rank, gain_by_rank[np.minimum(rank, last_rank)], 0.0)
    else:
        list_sizes = np.diff(offsets)[list_numbers]
        ranked_gains = _expect_gains(gain_by_rank, full_size)[np.minimum(list_sizes, full_size), rank]
    tie_groups = _group_ties(scores[order], list_numbers[order])
    tied_gains = np.empty(len(order))
    tied_gains[order] = (np.bincount(tie_groups, ranked_gains) / np.bincount(tie_groups))[tie_groups]
    return tied_gains


def _expect_gains(gain_by_rank: DoubleArray, full_size: int) -> DoubleArray:
    """Gain that a positive at a rank of a short list is expected to have at full size, [L + 1, L].

    Row l, column k: k of the l - 1 negatives are above the positive. How many of the missing ones are is not
    known. Each is one more draw of Polya's urn: it is above with (k + 1) / (l + 1), and then counts as seen.
    So a positive at a random place of a short list is at a random place of the full one, and chance
    stays chance exactly; a score from few negatives counts as less sure.
    """
    gains = np.zeros((full_size + 1, full_size))
    gains[full_size, : len(gain_by_rank)] = gain_by_rank[:full_size]
    for size in range(full_size - 1, 0, -1):
        ranks = np.arange(size)
        is_above = (ranks + 1) / (size + 1)
        gains[size, :size] = (
            is_above * gains[size + 1, 1 : size + 1] + (1 - is_above) * gains[size + 1, :size]
        )
    return gains


def _group_ties(sorted_scores: FloatArray | DoubleArray, sorted_groups: IntArray) -> IntArray:
    """Number of the tie that each candidate is in; equal scores of one group are a tie."""
    is_first = np.ones(len(sorted_scores), bool)
    is_first[1:] = (sorted_scores[1:] != sorted_scores[:-1]) | (sorted_groups[1:] != sorted_groups[:-1])
    return np.cumsum(is_first) - 1


def compute_auc(scores: FloatArray | DoubleArray, labels: BoolArray) -> float:
    """Area under the ROC curve (Mann-Whitney, ties count half); NaN with one class only."""
    return float(compute_group_auc(scores, labels, np.zeros(len(scores), np.int64), 1)[0])


def compute_group_auc(
    scores: FloatArray | DoubleArray, labels: BoolArray, groups: IntArray, num_groups: int
) -> DoubleArray:
    """AUC within each group, [num_groups]; NaN where a group has one class only."""
    order = np.lexsort((scores, groups))
    sorted_groups, is_positive = groups[order], labels[order]
    ranks = np.arange(1, len(order) + 1, dtype=np.float64)
    if len(order):
        tie_groups = _group_ties(scores[order], sorted_groups)
        ranks = (np.bincount(tie_groups, ranks) / np.bincount(tie_groups))[tie_groups]
    group_sizes = np.bincount(groups, minlength=num_groups)
    # From ranks over all candidates to ranks within the group.
    ranks -= (np.cumsum(group_sizes) - group_sizes)[sorted_groups]
    positives = np.bincount(sorted_groups, is_positive, num_groups)
    num_pairs = positives * (group_sizes - positives)
    rank_sums = np.bincount(sorted_groups, ranks * is_positive, num_groups)
    won_pairs = rank_sums - positives * (positives + 1) / 2
    return np.where(num_pairs > 0, won_pairs / np.where(num_pairs > 0, num_pairs, 1), np.nan)


def compute_gauc(scores: FloatArray | DoubleArray, labels: BoolArray, users: IntArray) -> float:
    """AUC within each user, averaged with the number of candidates as weight; NaN where no user has both
    classes.

    Source: Zhu et al., "Optimized Cost per Click in Taobao Display Advertising" (arXiv 1703.02091).
    """
    num_users = int(users.max(initial=-1)) + 1
    user_auc = compute_group_auc(scores, labels, users, num_users)
    has_auc = ~np.isnan(user_auc)
    weights = np.bincount(users, minlength=num_users)[has_auc]
    return float(np.average(user_auc[has_auc], weights=weights)) if has_auc.any() else float("nan")


def compute_log_loss(probabilities: FloatArray, labels: BoolArray) -> float:
    """Mean negative log-likelihood, nats."""
    clipped = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-np.where(labels, np.log(clipped), np.log1p(-clipped)).mean())


def compute_calibration_error(probabilities: FloatArray, labels: BoolArray, *, num_bins: int = 20) -> float:
    """Expected calibration error over bins of equal size (ECE; Naeini et al., AAAI 2015)."""
    order = np.argsort(probabilities, kind="stable")
    bins = np.arange(len(order)) * num_bins // max(len(order), 1)
    bin_gaps = np.bincount(bins, probabilities[order].astype(np.float64) - labels[order])
    return float(np.abs(bin_gaps).sum() / len(order))
