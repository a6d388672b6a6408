"""Measures one exported ranker on the lists of one protocol."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.ranker.metrics import Reals, auc, calibration_error, gauc, list_metrics, log_loss
from models.ranker.records import RankingRows
from models.ranker.scoring import Scores


class Measured(NamedTuple):
    """What a ranker did on the lists of one protocol."""

    summary: dict[str, float]
    """Metric -> value; a metric that the lists do not allow is absent."""
    ndcg: Reals
    """NDCG@10 of each list, [N]; NaN where a list has no positive."""


def measure(rows: RankingRows, scores: Scores, users: npt.NDArray[np.int64]) -> Measured:
    """Ranking metrics of the score against clicks, and the quality of the probabilities.

    Args:
        rows: the lists.
        scores: the ranker's scores of all their candidates.
        users: user of each list, [N], counted from 0.
    """
    offsets = np.asarray(rows.offsets)
    clicks, orders = np.asarray(rows.clicks), np.asarray(rows.orders)
    owners = np.repeat(users, np.diff(offsets))
    per_list = list_metrics(scores.score, clicks, offsets)
    earned = float(np.asarray(rows.values).sum())
    values = {
        "auc": auc(scores.score, clicks),
        "gauc": gauc(scores.score, clicks, owners),
        "ndcg10": _mean(per_list.ndcg),
        "hr10": _mean(per_list.hit_rate),
        "log_loss": log_loss(scores.click, clicks),
        "ece": calibration_error(scores.click, clicks),
        "order_auc": auc(scores.order, orders),
        "order_ece": calibration_error(scores.order, orders),
        "expected_over_earned": _over_earned(scores, earned),
        "lists": float(len(rows)),
    }
    return Measured({name: value for name, value in values.items() if not np.isnan(value)}, per_list.ndcg)


def _over_earned(scores: Scores, earned: float) -> float:
    """Expected revenue over what was earned: 1 is right."""
    return float(scores.value.sum()) / earned if scores.value is not None and earned else float("nan")


def _mean(values: Reals) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
