import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranker_shop import Shop, tiny_config, write_embeddings

from contracts.dataset import Dataset, select_events_before
from contracts.errors import UserError
from models.ranker.config import EvaluationConfig
from models.ranker.evaluation.evaluate_ranker import evaluate_ranker
from models.ranker.evaluation.exported_ranker import ExportedRanker
from models.ranker.evaluation.list_slices import average_slices, count_training_events, slice_lists
from models.ranker.evaluation.paired_bootstrap import (
    MetricComparison,
    compare_rankers,
    widen_by_seed_noise,
)
from models.ranker.evaluation.promotion_gate import decide_promotion
from models.ranker.evaluation.reference_scores import describe_leaks
from models.ranker.evaluation.reliability import draw_reliability, measure_reliability
from models.ranker.lists.encode_catalogue import read_item_vectors
from models.ranker.lists.encode_lists import encode_lists
from models.ranker.training.train_ranker import train_ranker

REFERENCE_NAMES = {
    "chance",
    "popularity",
    "minus popularity",
    "newness",
    "minus newness",
    "recency",
    "minus recency",
    "EASE",
}
CONFIG = EvaluationConfig(num_bootstrap=200, num_threads=1, max_ece=0.2)


def test_the_challenger_is_measured_against_baseline_and_champion(
    shop: Shop, ranker: Path, baseline: Path, tmp_path: Path
) -> None:
    evaluate_ranker(ranker, baseline, *shop.inputs, CONFIG, champion=ranker, out=tmp_path / "e")
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert metrics["gate_protocol"] == "contemporaneous"
    assert set(metrics["rankers"]) == {"challenger", "baseline", "champion"}
    our_metrics = metrics["rankers"]["challenger"]["contemporaneous"]
    assert our_metrics["auc"] > 0.7
    assert {"auc", "gauc", "ndcg10", "hr10", "log_loss", "ece"} <= set(our_metrics)
    with_itself = metrics["ndcg10_comparisons"]["champion"]
    assert with_itself["difference"] == with_itself["low"] == with_itself["high"] == 0
    with_baseline = metrics["ndcg10_comparisons"]["baseline"]
    luck = 1.96 * CONFIG.seed_noise * np.hypot(with_baseline["ours"], with_baseline["theirs"])
    assert with_baseline["high"] - with_baseline["difference"] > luck
    references = metrics["references"]["contemporaneous"]
    assert set(references) == REFERENCE_NAMES
    assert references["chance"]["auc"] == 0.5
    assert metrics["list_counts"]["contemporaneous"]["lists"] == our_metrics["lists"]
    assert json.loads((tmp_path / "e" / "decision.json").read_text()).keys() == {"promote", "reasons"}
    report = (tmp_path / "e" / "report.md").read_text()
    assert "## contemporaneous (decides)" in report
    assert f"| {our_metrics['auc']:.4f} |" in report
    assert f"| EASE | {references['EASE']['auc']:.4f} |" in report
    assert "events became lists of" in report
    assert "widened by the luck of the training seeds: 1.0%" in report
    assert {"cold items (under 5 training events)", "known users (the others)"} & set(
        metrics["slices"]["challenger"]
    )
    assert (
        our_metrics["lists"]
        < sum(reliability_bin["candidates"] for reliability_bin in metrics["reliability"])
        <= 16 * our_metrics["lists"]
    )
    card = (tmp_path / "e" / "model_card.md").read_text()
    assert f"| contemporaneous | {our_metrics['lists']:,.0f} |" in card
    assert "no click-through rates" in card
    assert f"| popularity | {references['popularity']['auc']:.4f} |" in card
    assert "<svg" in (tmp_path / "e" / "reliability.svg").read_text()


def test_impressions_are_measured_too_and_decide_when_told_to(shown_shop: Shop, tmp_path: Path) -> None:
    train_ranker(
        *shown_shop.inputs, tiny_config(max_epochs=1), checkpoints=tmp_path / "c", out=tmp_path / "r"
    )
    config = CONFIG.model_copy(update={"gate_protocol": "impressions"})
    evaluate_ranker(
        tmp_path / "r", tmp_path / "r", *shown_shop.inputs, config, champion=None, out=tmp_path / "e"
    )
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert {"impressions", "contemporaneous"} <= set(metrics["rankers"]["challenger"])
    assert "## impressions (decides)" in (tmp_path / "e" / "report.md").read_text()
    decision = json.loads((tmp_path / "e" / "decision.json").read_text())
    assert decision["promote"] is False
    assert set(metrics["references"]["impressions"]) == REFERENCE_NAMES


def test_a_champion_of_another_space_is_left_out_and_named(
    shop: Shop, ranker: Path, baseline: Path, tmp_path: Path
) -> None:
    other = write_embeddings(shop.inputs.dataset, tmp_path / "other", space="other-space")
    training_set, dataset, _ = shop.inputs
    config = tiny_config(max_epochs=1)
    train_ranker(training_set, dataset, other, config, checkpoints=tmp_path / "c", out=tmp_path / "r")
    evaluate_ranker(ranker, baseline, *shop.inputs, CONFIG, champion=tmp_path / "r", out=tmp_path / "e")
    reasons = json.loads((tmp_path / "e" / "decision.json").read_text())["reasons"]
    assert any("other-space" in reason for reason in reasons)
    with pytest.raises(UserError, match="space"):
        evaluate_ranker(tmp_path / "r", baseline, *shop.inputs, CONFIG, champion=None, out=tmp_path / "e")


def _make_comparison(low: float) -> MetricComparison:
    return MetricComparison(0.2, 0.1, 0.1, low, 0.2, 2.0)


@pytest.mark.parametrize(
    ("baseline", "champion", "ece", "promoted"),
    [(0.01, 0.0, 0.01, True), (-0.01, 0.0, 0.01, False), (0.01, -0.01, 0.01, False), (0.01, 0.0, 0.2, False)],
)
def test_the_rule(baseline: float, champion: float, ece: float, promoted: bool) -> None:
    comparisons = {"baseline": _make_comparison(baseline), "champion": _make_comparison(champion)}
    decision = decide_promotion(comparisons, ece=ece, config=EvaluationConfig(), notes=["a note"])
    assert decision.promote is promoted
    assert decision.reasons[0].startswith("passed" if promoted else "failed")
    assert decision.reasons[-1] == "a note"


def test_lists_that_popularity_wins_decide_nothing() -> None:
    from_chance = {
        "popularity": MetricComparison(0.09, 0.045, 0.045, 0.04, 0.05, 2.0),
        "newness": MetricComparison(0.05, 0.045, 0.005, -0.001, 0.011, 1.1),
        "recency": MetricComparison(0.03, 0.045, -0.015, -0.02, -0.01, 0.7),
    }
    leaks = describe_leaks(from_chance)
    assert [leak.split(" alone")[0] for leak in leaks] == ["popularity", "recency"]
    decision = decide_promotion(
        {"baseline": _make_comparison(0.01)}, ece=0.01, config=EvaluationConfig(), notes=[], leaks=leaks
    )
    assert not decision.promote
    assert decision.reasons[0].startswith(
        "undecided: popularity alone has NDCG@10 0.0900 where chance has 0.0450"
    )
    assert "lists.window" in decision.reasons[0]


def test_seed_noise_is_added_in_quadrature() -> None:
    comparison = MetricComparison(0.4, 0.3, 0.1, 0.1 - 0.03, 0.1 + 0.03, 4 / 3)
    widened = widen_by_seed_noise(comparison, 0.04 / (1.96 * 0.5))
    assert (widened.low, widened.difference, widened.high) == pytest.approx((0.05, 0.1, 0.15))
    assert widen_by_seed_noise(comparison, 0.0) == pytest.approx(comparison)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), gain=st.floats(-0.5, 0.5))
def test_the_interval_of_a_constant_gain_is_the_gain(seed: int, gain: float) -> None:
    rng = np.random.default_rng(seed)
    theirs, users = rng.random(100), rng.integers(0, 20, 100)
    theirs[0] = np.nan
    comparison = compare_rankers(theirs + gain, theirs, users, num_bootstrap=100, confidence=0.9, seed=seed)
    assert (comparison.low, comparison.difference, comparison.high) == pytest.approx((gain, gain, gain))


def test_the_interval_covers_the_truth_when_users_vary() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(60):
        users = rng.integers(0, 80, 400)
        gains = rng.normal(0.1, 0.3, 80)[users] + rng.normal(0, 0.1, 400)
        comparison = compare_rankers(
            gains, np.zeros(400), users, num_bootstrap=200, confidence=0.9, seed=seed
        )
        covered += comparison.low < 0.1 < comparison.high
    assert covered >= 46


def test_reliability_of_honest_probabilities_is_the_diagonal() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random(200_000).astype(np.float32)
    bins = measure_reliability(probabilities, rng.random(200_000) < probabilities)
    assert [reliability_bin.candidates for reliability_bin in bins] == [20_000] * 10
    assert all(
        reliability_bin.observed == pytest.approx(reliability_bin.predicted, abs=0.02)
        for reliability_bin in bins
    )
    plot = draw_reliability(bins, title="t")
    assert plot.count("<use ") > 10, "a marker per bin, beside the ticks"
    assert plot == draw_reliability(bins, title="t")
    assert measure_reliability(probabilities[:3], np.array([True, False, True]))[0].candidates == 1


def test_slices_are_made_by_the_target_and_the_user(
    shop: Shop, data: Dataset, ranker: Path, tmp_path: Path
) -> None:
    vectors, space, _ = read_item_vectors(shop.inputs.item_embeddings)
    exported_ranker = ExportedRanker(ranker, data.items, vectors, space=space, num_threads=1)
    path = shop.inputs.training_set / "training_set.parquet"
    list_kind = {"split": "test", "protocol": "contemporaneous"}
    ranking_lists = encode_lists(
        path, exported_ranker.table.item_id_enum, lengths=(10, 4), scratch=tmp_path, **list_kind
    )
    item_events = count_training_events(
        select_events_before(data.behaviors, data.split.train_end), exported_ranker.table.item_id_enum
    )
    slices = slice_lists(ranking_lists, exported_ranker.table, item_events)
    frame = pl.read_parquet(path).filter(**list_kind).select("item_ids", "clicks", "history_item_ids")
    training_counts = dict(
        select_events_before(data.behaviors, data.split.train_end).group_by("item_id").len().iter_rows()
    )
    targets = [items[clicks.index(True)] for items, clicks in frame.select("item_ids", "clicks").iter_rows()]
    assert next(iter(slices.values())).tolist() == [training_counts.get(target, 0) < 5 for target in targets]
    is_new = frame["history_item_ids"].list.len().fill_null(0) < 3
    assert slices["new users (under 3 behaviors)"].tolist() == is_new.to_list()
    assert (sum(slices[f"{band} price"].astype(int) for band in ("low", "middle", "high")) <= 1).all()
    means = average_slices(np.ones(len(ranking_lists)), slices)
    assert all(slice_mean == {"ndcg10": 1, "lists": slices[name].sum()} for name, slice_mean in means.items())
