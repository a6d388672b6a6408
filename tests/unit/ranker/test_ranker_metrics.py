from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import ndcg_score, roc_auc_score

from models.ranker.evaluation.ranking_metrics import (
    compute_auc,
    compute_calibration_error,
    compute_gauc,
    compute_log_loss,
    measure_lists,
)
from models.ranker.training.calibration import fit_platt_scaling


def _draw_lists(seed: int, *, ties: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
    scores, labels, offsets = _draw_lists(seed, ties=ties)
    list_slices = [slice(a, b) for a, b in pairwise(offsets)]
    expected = [ndcg_score([labels[list_slice]], [scores[list_slice]], k=10) for list_slice in list_slices]
    np.testing.assert_allclose(measure_lists(scores, labels, offsets).ndcg, expected, rtol=1e-9)
    assert compute_auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


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
    assert compute_gauc(scores, labels, users) == pytest.approx(np.average(values, weights=weights))


def test_constant_scores_earn_chance_only() -> None:
    scores, labels = np.zeros(100, np.float32), np.arange(100) == 0
    list_metrics = measure_lists(scores, labels, np.array([0, 100]))
    assert list_metrics.hit_rate[0] == pytest.approx(0.1)
    assert compute_auc(scores, labels) == 0.5


@settings(max_examples=20, deadline=None)
@given(size=st.integers(1, 40), full_size=st.integers(40, 60))
def test_chance_on_a_short_list_is_that_of_a_full_one(size: int, full_size: int) -> None:
    short, full = (
        measure_lists(np.zeros(length), np.arange(length) == 0, np.array([0, length]), full_size=full_size)
        for length in (size, full_size)
    )
    assert short.ndcg[0] == pytest.approx(full.ndcg[0])
    assert short.hit_rate[0] == pytest.approx(10 / full_size)


def test_a_win_over_few_is_worth_less_than_a_win_over_many() -> None:
    offsets = np.array([0, 5, 55, 155])
    labels = np.isin(np.arange(155), offsets)
    measured = measure_lists(labels.astype(np.float32), labels, offsets, full_size=100)
    assert (np.diff(measured.ndcg) > 0.1).all()
    assert measured.ndcg[-1] == 1
    # A full list is measured as it is.
    scores = np.random.default_rng(0).random(155)
    corrected, plain = (
        measure_lists(scores, labels, offsets, full_size=size).ndcg[-1] for size in (100, None)
    )
    assert corrected == pytest.approx(plain)


def test_a_short_list_gets_what_full_lists_of_equal_rankers_get() -> None:
    # The positive's quantile is uniform: what is expected of it at full size is then exact.
    rng = np.random.default_rng(0)
    num_lists, size, full_size = 200_000, 4, 12
    positive, negatives = rng.random(num_lists), rng.random((num_lists, full_size - 1))
    short_ranks = (negatives[:, : size - 1] > positive[:, None]).sum(axis=1)
    full_ranks = (negatives > positive[:, None]).sum(axis=1)
    gains = np.where(full_ranks < 10, 1 / np.log2(full_ranks + 2), 0)
    for rank in range(size):
        scores = np.where(np.arange(size) == rank, 0.5, np.where(np.arange(size) < rank, 1.0, 0.0))
        measured = measure_lists(scores, np.arange(size) == rank, np.array([0, size]), full_size=full_size)
        assert measured.ndcg[0] == pytest.approx(gains[short_ranks == rank].mean(), abs=0.01)


def test_a_list_without_a_positive_has_no_ranking_metric() -> None:
    list_metrics = measure_lists(
        np.arange(4, dtype=np.float32), np.array([True, False, False, False]), np.array([0, 2, 4])
    )
    assert np.isnan(list_metrics.ndcg).tolist() == [False, True]
    assert np.isnan(compute_auc(np.ones(3, np.float32), np.zeros(3, bool)))


def test_log_loss_and_calibration_error() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(20_000).astype(np.float32)
    labels = rng.random(20_000) < p
    assert compute_log_loss(p, labels) == pytest.approx(
        sklearn_log_loss(labels, p.astype(np.float64)), rel=1e-5
    )
    assert compute_calibration_error(p, labels) < 0.02
    assert compute_calibration_error(np.clip(p + 0.2, 0, 1), labels) > 0.1


@settings(max_examples=15, deadline=None)
@given(scale=st.floats(0.2, 3), shift=st.floats(-4, 2))
def test_platt_finds_the_affine_map_that_made_the_labels(scale: float, shift: float) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1.5, 40_000).astype(np.float32)
    labels = rng.random(40_000) < 1 / (1 + np.exp(-(scale * logits + shift)))
    fitted_map = fit_platt_scaling(logits, labels)
    assert fitted_map == pytest.approx((scale, shift), abs=0.25)


def test_platt_leaves_what_it_cannot_mend() -> None:
    logits = np.linspace(-2, 2, 50, dtype=np.float32)
    assert fit_platt_scaling(logits, np.zeros(50, bool)) == (1.0, 0.0)
    assert fit_platt_scaling(logits, logits < 0) == (1.0, 0.0)
