import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranker_shop import Shop, tiny_config, write_embeddings

from contracts.dataset import Dataset, before
from contracts.errors import UserError
from models.ranker.bootstrap import Comparison, compare
from models.ranker.config import EvaluationConfig
from models.ranker.decision import decide
from models.ranker.evaluate import evaluate_ranker
from models.ranker.reliability import reliability, reliability_svg
from models.ranker.rows import encode_rows, read_vectors
from models.ranker.scoring import ExportedRanker
from models.ranker.slices import slice_lists, slice_means, training_events
from models.ranker.train import train_ranker

CONFIG = EvaluationConfig(num_bootstrap=200, batch_size=32, num_threads=1, max_ece=0.2)


def test_the_challenger_is_measured_against_baseline_and_champion(
    shop: Shop, ranker: Path, baseline: Path, tmp_path: Path
) -> None:
    evaluate_ranker(ranker, baseline, *shop.inputs, CONFIG, champion=ranker, out=tmp_path / "e")
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert metrics["gate_protocol"] == "contemporaneous"
    assert set(metrics["rankers"]) == {"challenger", "baseline", "champion"}
    found = metrics["rankers"]["challenger"]["contemporaneous"]
    assert found["auc"] > 0.7
    assert {"auc", "gauc", "ndcg10", "hr10", "log_loss", "ece"} <= set(found)
    same = metrics["ndcg10_comparisons"]["champion"]
    assert same["difference"] == same["low"] == same["high"] == 0
    assert json.loads((tmp_path / "e" / "decision.json").read_text()).keys() == {"promote", "reasons"}
    report = (tmp_path / "e" / "report.md").read_text()
    assert "## contemporaneous (decides)" in report
    assert f"| {found['auc']:.4f} |" in report
    assert {"cold items (under 5 training events)", "known users (the others)"} & set(metrics["slices"]["challenger"])
    assert found["lists"] < sum(part["candidates"] for part in metrics["reliability"]) <= 16 * found["lists"]
    card = (tmp_path / "e" / "model_card.md").read_text()
    assert f"| contemporaneous | {found['lists']:,.0f} |" in card
    assert "no click-through rates" in card
    assert (tmp_path / "e" / "reliability.svg").read_text().startswith("<svg")


def test_impressions_are_measured_too_and_decide_when_told_to(shown_shop: Shop, tmp_path: Path) -> None:
    train_ranker(*shown_shop.inputs, tiny_config(max_epochs=1), checkpoints=tmp_path / "c", out=tmp_path / "r")
    config = CONFIG.model_copy(update={"gate_protocol": "impressions"})
    evaluate_ranker(tmp_path / "r", tmp_path / "r", *shown_shop.inputs, config, champion=None, out=tmp_path / "e")
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert {"impressions", "contemporaneous"} <= set(metrics["rankers"]["challenger"])
    assert "## impressions (decides)" in (tmp_path / "e" / "report.md").read_text()
    decision = json.loads((tmp_path / "e" / "decision.json").read_text())
    assert decision["promote"] is False


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


def _comparison(low: float) -> Comparison:
    return Comparison(0.2, 0.1, 0.1, low, 0.2, 2.0)


@pytest.mark.parametrize(
    ("baseline", "champion", "ece", "promoted"),
    [(0.01, 0.0, 0.01, True), (-0.01, 0.0, 0.01, False), (0.01, -0.01, 0.01, False), (0.01, 0.0, 0.2, False)],
)
def test_the_rule(baseline: float, champion: float, ece: float, promoted: bool) -> None:
    comparisons = {"baseline": _comparison(baseline), "champion": _comparison(champion)}
    decision = decide(comparisons, ece=ece, config=EvaluationConfig(), notes=["a note"])
    assert decision.promote is promoted
    assert decision.reasons[0].startswith("passed" if promoted else "failed")
    assert decision.reasons[-1] == "a note"


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), gain=st.floats(-0.5, 0.5))
def test_the_interval_of_a_constant_gain_is_the_gain(seed: int, gain: float) -> None:
    rng = np.random.default_rng(seed)
    theirs, users = rng.random(100), rng.integers(0, 20, 100)
    theirs[0] = np.nan
    found = compare(theirs + gain, theirs, users, num_bootstrap=100, confidence=0.9, seed=seed)
    assert (found.low, found.difference, found.high) == pytest.approx((gain, gain, gain))


def test_the_interval_covers_the_truth_when_users_vary() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(60):
        users = rng.integers(0, 80, 400)
        gains = rng.normal(0.1, 0.3, 80)[users] + rng.normal(0, 0.1, 400)
        found = compare(gains, np.zeros(400), users, num_bootstrap=200, confidence=0.9, seed=seed)
        covered += found.low < 0.1 < found.high
    assert covered >= 46


def test_reliability_of_honest_probabilities_is_the_diagonal() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random(200_000).astype(np.float32)
    bins = reliability(probabilities, rng.random(200_000) < probabilities)
    assert [found.candidates for found in bins] == [20_000] * 10
    assert all(found.observed == pytest.approx(found.predicted, abs=0.02) for found in bins)
    assert reliability_svg(bins, title="t").count("<circle") == 10
    assert reliability(probabilities[:3], np.array([True, False, True]))[0].candidates == 1


def test_slices_are_made_by_the_target_and_the_user(shop: Shop, data: Dataset, ranker: Path, tmp_path: Path) -> None:
    vectors, space, _ = read_vectors(shop.inputs.item_embeddings)
    opened = ExportedRanker(ranker, data.items, vectors, space=space, num_threads=1)
    path = shop.inputs.training_set / "training_set.parquet"
    kept = {"split": "test", "protocol": "contemporaneous"}
    rows = encode_rows(path, opened.table.names, lengths=(10, 4), scratch=tmp_path, **kept)
    counts = training_events(before(data.behaviors, data.split.train_end), opened.table.names)
    slices = slice_lists(rows, opened.table, counts)
    frame = pl.read_parquet(path).filter(**kept).select("item_ids", "clicks", "history_item_ids")
    seen = dict(before(data.behaviors, data.split.train_end).group_by("item_id").len().iter_rows())
    targets = [items[clicks.index(True)] for items, clicks in frame.select("item_ids", "clicks").iter_rows()]
    assert next(iter(slices.values())).tolist() == [seen.get(target, 0) < 5 for target in targets]
    is_new = frame["history_item_ids"].list.len().fill_null(0) < 3
    assert slices["new users (under 3 behaviours)"].tolist() == is_new.to_list()
    assert (sum(slices[f"{band} price"].astype(int) for band in ("low", "middle", "high")) <= 1).all()
    means = slice_means(np.ones(len(rows)), slices)
    assert all(found == {"ndcg10": 1, "lists": slices[name].sum()} for name, found in means.items())
