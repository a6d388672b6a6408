"""Measures one exported ranker on the lists of one protocol."""

from typing import NamedTuple

import numpy as np

from contracts.array_types import DoubleArray, IntArray
from models.ranker.evaluation.exported_ranker import CandidateScores
from models.ranker.evaluation.ranking_metrics import (
    compute_auc,
    compute_calibration_error,
    compute_gauc,
    compute_log_loss,
    measure_lists,
)
from models.ranker.lists.mapped_lists import RankingLists


class MeasuredRanker(NamedTuple):
    """What a ranker did on the lists of one protocol."""

    summary: dict[str, float]
    """Metric -> value; a metric that the lists do not allow is absent."""
    ndcg: DoubleArray
    """NDCG@10 of each list, [N]; NaN where a list has no positive."""


def measure_ranker(
    lists: RankingLists, scores: CandidateScores, users: IntArray, *, full_size: int | None = None
) -> MeasuredRanker:
    """Ranking metrics of the score against clicks, and the quality of the probabilities.

    Args:
        lists: the lists.
        scores: the ranker's scores of all their candidates.
        users: user of each list, [N], counted from 0.
        full_size: as in `measure_lists`.
    """
    offsets = np.asarray(lists.offsets)
    clicks, orders = np.asarray(lists.clicks), np.asarray(lists.orders)
    candidate_users = np.repeat(users, np.diff(offsets))
    per_list = measure_lists(scores.score, clicks, offsets, full_size=full_size)
    earned_revenue = float(np.asarray(lists.values).sum())
    metrics = {
        "auc": compute_auc(scores.score, clicks),
        "gauc": compute_gauc(scores.score, clicks, candidate_users),
        "ndcg10": average_measured(per_list.ndcg),
        "hr10": average_measured(per_list.hit_rate),
        "log_loss": compute_log_loss(scores.click, clicks),
        "ece": compute_calibration_error(scores.click, clicks),
        "order_auc": compute_auc(scores.order, orders),
        "order_ece": compute_calibration_error(scores.order, orders),
    }
    if scores.value is not None and earned_revenue:
        # Expected revenue over what was earned: 1 is right.
        metrics["expected_over_earned"] = float(scores.value.sum()) / earned_revenue
    metrics["lists"] = float(len(lists))
    summary = {name: value for name, value in metrics.items() if not np.isnan(value)}
    return MeasuredRanker(summary, per_list.ndcg)


def average_measured(values: DoubleArray) -> float:
    """Mean of the lists that have the metric; NaN where none has."""
    measured_values = values[~np.isnan(values)]
    return float(measured_values.mean()) if len(measured_values) else float("nan")
