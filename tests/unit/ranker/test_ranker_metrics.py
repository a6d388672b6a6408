from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import ndcg_score, roc_auc_score

from models.ranker.calibration import fit_platt
from models.ranker.metrics import auc, calibration_error, gauc, list_metrics, log_loss


def _lists(seed: int, *, ties: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 30, 20)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    scores = rng.standard_normal(offsets[-1]).astype(np.float32)
    labels = rng.random(offsets[-1]) < 0.2
    labels[offsets[:-1]] = True
    return (np.round(scores) if ties else scores), labels, offsets


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), ties=st.booleans())
def test_ranking_metrics_equal_sklearns(seed: int, ties: bool) -> None:
    scores, labels, offsets = _lists(seed, ties=ties)
    parts = [slice(a, b) for a, b in pairwise(offsets)]
    expected = [ndcg_score([labels[part]], [scores[part]], k=10) for part in parts]
    np.testing.assert_allclose(list_metrics(scores, labels, offsets).ndcg, expected, rtol=1e-9)
    assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_gauc_is_the_weighted_mean_of_the_users_auc(seed: int) -> None:
    rng = np.random.default_rng(seed)
    users, scores = rng.integers(0, 12, 200), rng.standard_normal(200).round(1).astype(np.float32)
    labels = rng.random(200) < 0.3
    values, weights = [], []
    for user in range(12):
        mine = users == user
        if labels[mine].any() and not labels[mine].all():
            values.append(roc_auc_score(labels[mine], scores[mine]))
            weights.append(mine.sum())
    assert gauc(scores, labels, users) == pytest.approx(np.average(values, weights=weights))


def test_constant_scores_earn_chance_only() -> None:
    scores, labels = np.zeros(100, np.float32), np.arange(100) == 0
    found = list_metrics(scores, labels, np.array([0, 100]))
    assert found.hit_rate[0] == pytest.approx(0.1)
    assert auc(scores, labels) == 0.5


def test_a_list_without_a_positive_has_no_ranking_metric() -> None:
    found = list_metrics(np.arange(4, dtype=np.float32), np.array([True, False, False, False]), np.array([0, 2, 4]))
    assert np.isnan(found.ndcg).tolist() == [False, True]
    assert np.isnan(auc(np.ones(3, np.float32), np.zeros(3, bool)))


def test_log_loss_and_calibration_error() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(20_000).astype(np.float32)
    labels = rng.random(20_000) < p
    assert log_loss(p, labels) == pytest.approx(sklearn_log_loss(labels, p.astype(np.float64)), rel=1e-5)
    assert calibration_error(p, labels) < 0.02
    assert calibration_error(np.clip(p + 0.2, 0, 1), labels) > 0.1


@settings(max_examples=15, deadline=None)
@given(scale=st.floats(0.2, 3), shift=st.floats(-4, 2))
def test_platt_finds_the_affine_map_that_made_the_labels(scale: float, shift: float) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1.5, 40_000).astype(np.float32)
    labels = rng.random(40_000) < 1 / (1 + np.exp(-(scale * logits + shift)))
    found = fit_platt(logits, labels)
    assert found == pytest.approx((scale, shift), abs=0.25)


def test_platt_leaves_what_it_cannot_mend() -> None:
    logits = np.linspace(-2, 2, 50, dtype=np.float32)
    assert fit_platt(logits, np.zeros(50, bool)) == (1.0, 0.0)
    assert fit_platt(logits, logits < 0) == (1.0, 0.0)
