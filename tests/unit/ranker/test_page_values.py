"""What a log says of pages that were never shown, and what the gate makes of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.ranker.config import EvaluationConfig
from models.ranker.evaluation.counterfactual_value import estimate_page_values
from models.ranker.evaluation.examination import estimate_examination
from models.ranker.evaluation.paired_bootstrap import MetricComparison
from models.ranker.evaluation.promotion_gate import PromotionDecision, decide_by_pages, overrule_gate

LOOKS = (1.0 + np.arange(64)) ** -0.6
NUM_LISTS, SIZE = 20_000, 10
CONFIG = EvaluationConfig()


def _draw_log(rng: np.random.Generator) -> tuple[Any, np.ndarray]:
    """Pages whose policy likes attractive items, and how attractive each candidate is."""
    attraction = rng.beta(1, 8, (NUM_LISTS, SIZE))
    order = np.argsort(-(attraction + rng.normal(0, 0.15, attraction.shape)), axis=1)
    attraction = np.take_along_axis(attraction, order, axis=1)
    clicks = rng.random(attraction.shape) < attraction * LOOKS[:SIZE]
    lists = SimpleNamespace(
        offsets=np.arange(NUM_LISTS + 1) * SIZE,
        clicks=clicks.ravel(),
        orders=clicks.ravel(),
        values=clicks.ravel().astype(np.float32),
        candidates=np.zeros(clicks.size),
    )
    return lists, attraction


@pytest.mark.parametrize("expects", [0.0, 0.1])
def test_the_estimate_is_what_the_pages_would_have_earned(expects: float) -> None:
    rng = np.random.default_rng(0)
    lists, attraction = _draw_log(rng)
    scores = attraction + rng.normal(0, 0.05, attraction.shape)
    places = np.argsort(np.argsort(-scores, axis=1), axis=1)
    truth = (attraction * LOOKS[places]).sum(1).mean()
    expected = {outcome: np.full(attraction.size, expects) for outcome in ("clicks", "orders", "value")}
    values = estimate_page_values(lists, scores.ravel(), LOOKS, expected, pool_factor=1.0)
    assert values.estimates["clicks"].mean() == pytest.approx(truth, rel=0.03)
    assert values.weighted["clicks"].mean() == pytest.approx(truth, rel=0.05)
    assert 0 < values.effective_lists <= NUM_LISTS


def test_a_pool_shows_only_its_best() -> None:
    lists, attraction = _draw_log(np.random.default_rng(0))
    expected = {outcome: attraction.ravel() for outcome in ("clicks", "orders", "value")}
    values = estimate_page_values(lists, attraction.ravel(), LOOKS, expected, pool_factor=5.0)
    best = -np.sort(-attraction, axis=1)[:, :2]
    truth = (best * np.array([LOOKS[:5].sum(), LOOKS[5:10].sum()])).sum(1).mean()
    assert values.estimates["clicks"].mean() == pytest.approx(truth, rel=0.03)


def test_examination_is_told_from_what_better_items_stand_higher(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    num_items, num_pages = 30, 60_000
    attraction = np.linspace(0.4, 0.02, num_items)
    weights = attraction / attraction.sum()
    shown, propensities = np.empty((num_pages, 3), np.int64), np.empty((num_pages, 3))
    left = np.tile(weights, (num_pages, 1))
    for place in range(3):
        chances = left / left.sum(1, keepdims=True)
        drawn = (chances.cumsum(1) < rng.random((num_pages, 1))).sum(1).clip(max=num_items - 1)
        shown[:, place], propensities[:, place] = drawn, chances[np.arange(num_pages), drawn]
        left[np.arange(num_pages), drawn] = 0
    looks = np.array([1.0, 0.5, 0.25])
    clicks = rng.random(shown.shape) < attraction[shown] * looks
    frame = pl.DataFrame(
        {
            "protocol": "impressions",
            "split": "train",
            "clicks": clicks.tolist(),
            "propensities": pl.Series(propensities.tolist(), dtype=pl.List(pl.Float32)),
        }
    )
    frame.write_parquet(tmp_path / "t.parquet")
    np.testing.assert_allclose(estimate_examination(tmp_path / "t.parquet")[:3], looks, atol=0.04)


def test_a_log_of_few_clicks_falls_back_on_a_power_law(tmp_path: Path) -> None:
    schema = {"protocol": pl.String, "split": pl.String, "clicks": pl.List(pl.Boolean)}
    frame = pl.DataFrame(schema=schema | {"propensities": pl.List(pl.Float32)})
    frame.write_parquet(tmp_path / "t.parquet")
    np.testing.assert_allclose(estimate_examination(tmp_path / "t.parquet"), LOOKS)


def _compare(difference: float, half_width: float) -> MetricComparison:
    return MetricComparison(
        1 + difference, 1, difference, difference - half_width, difference + half_width, 1 + difference
    )


@pytest.mark.parametrize(
    ("clicks", "orders", "effective", "ece", "promote", "says"),
    [
        ((0.1, 0.05), (0.1, 0.2), 500, 0.01, True, "passed: clicks"),
        ((-0.1, 0.05), (0.1, 0.2), 500, 0.01, False, "failed: clicks"),
        ((0.02, 0.05), (0.1, 0.2), 500, 0.01, False, "undecided: clicks"),
        ((0.1, 0.05), (-0.3, 0.2), 500, 0.01, False, "failed: orders"),
        ((0.1, 0.05), (0.1, 0.2), 50, 0.01, False, "undecided: the test pages"),
        ((0.1, 0.05), (0.1, 0.2), 500, 0.2, False, "failed: click ECE"),
    ],
)
def test_the_gate_on_pages(
    clicks: tuple[float, float],
    orders: tuple[float, float],
    effective: float,
    ece: float,
    promote: bool,
    says: str,
) -> None:
    comparisons = {"baseline": {"clicks": _compare(*clicks), "orders": _compare(*orders)}}
    decision = decide_by_pages(comparisons, effective_lists=effective, ece=ece, config=CONFIG, notes=[])
    assert decision.promote is promote
    assert any(reason.startswith(says) for reason in decision.reasons)


def test_against_the_champion_a_small_loss_is_allowed() -> None:
    decision = decide_by_pages(
        {"champion": {"clicks": _compare(0.0, 0.01)}},
        effective_lists=500,
        ece=0.01,
        config=CONFIG,
        notes=[],
    )
    assert decision.promote


def test_a_gate_that_only_reports_promotes_and_keeps_its_reasons():
    refused = PromotionDecision(False, ["undecided: too few pages"])
    assert overrule_gate(refused).promote
    assert overrule_gate(refused).reasons[-1] == "undecided: too few pages"
    passed = PromotionDecision(True, ["passed: all"])
    assert overrule_gate(passed) == passed
