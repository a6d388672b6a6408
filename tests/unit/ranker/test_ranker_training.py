import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from ranker_shop import Shop, tiny_config
from safetensors.torch import load_file

from contracts.artifacts import read_lineage
from models.ranker import training
from models.ranker.config import IDS_ONLY, FeatureConfig
from models.ranker.encoding import Feed
from models.ranker.spec import GOLDEN_FILE, MODEL_FILE, WEIGHTS_FILE, RankerSpec
from models.ranker.train import train_ranker


def _run(ranker: Path, feed: Feed) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(ranker / MODEL_FILE).run(None, feed)


def _golden(ranker: Path) -> tuple[Feed, list[np.ndarray]]:
    with np.load(ranker / GOLDEN_FILE, allow_pickle=False) as golden:
        feed = {name.removeprefix("input_"): golden[name] for name in golden.files if name.startswith("input_")}
        return feed, [golden[f"output_{name}"] for name in ("click", "order", "score")]


def test_the_graph_gives_the_golden_outputs(ranker: Path) -> None:
    feed, expected = _golden(ranker)
    for found, wanted in zip(_run(ranker, feed), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    click, order, score = expected
    assert ((click > 0) & (click < 1)).all()
    np.testing.assert_allclose(score, click + order, rtol=1e-5)


def test_a_score_does_not_depend_on_its_company(ranker: Path) -> None:
    """Neither the batch nor the other candidates change a candidate's score."""
    feed, _ = _golden(ranker)
    together = _run(ranker, feed)[2]
    for row in range(2):
        for column in range(3):
            alone = {
                name: values[row : row + 1, column : column + 1]
                if name.startswith("candidate_")
                else values[row : row + 1]
                for name, values in feed.items()
            }
            assert _run(ranker, alone)[2][0, 0] == pytest.approx(together[row, column], abs=1e-5)


def test_a_user_without_any_history_gets_scores(ranker: Path) -> None:
    feed, _ = _golden(ranker)
    blank = {name: v if name.startswith("candidate_") else np.zeros_like(v) for name, v in feed.items()}
    assert all(np.isfinite(values).all() for values in _run(ranker, blank))


def test_padding_behind_the_history_changes_nothing(ranker: Path) -> None:
    feed, _ = _golden(ranker)
    padded = feed["history_ids"] == 0
    assert padded.any()
    noisy = {name: values.copy() for name, values in feed.items()}
    for name in ("history_categories", "history_brands", "history_vectors", "history_types", "history_ages_s"):
        noisy[name][padded] = 1
    np.testing.assert_allclose(_run(ranker, noisy)[2], _run(ranker, feed)[2], atol=1e-5)


def test_the_spec_describes_the_graph(ranker: Path, baseline: Path) -> None:
    for folder in (ranker, baseline):
        spec = RankerSpec.read(folder)
        session = onnxruntime.InferenceSession(folder / MODEL_FILE)
        assert [tensor.name for tensor in session.get_inputs()] == [tensor.name for tensor in spec.inputs]
        assert [tensor.name for tensor in session.get_outputs()] == ["click", "order", "score"]
        assert spec.model_name == f"ranker_{spec.version[:8]}"
        assert (folder / WEIGHTS_FILE).is_file()
        assert all((folder / name).is_file() for name in spec.vocabularies.values())
        assert read_lineage(folder).labels["version"] == spec.version


def test_the_baseline_takes_no_vectors(ranker: Path, baseline: Path) -> None:
    spec = RankerSpec.read(baseline)
    assert spec.space is None
    assert not [name for name in spec.input_names if "vectors" in name or "inferred" in name]
    assert RankerSpec.read(ranker).space == "test-space"


@pytest.mark.parametrize(
    "features",
    [
        FeatureConfig(item_id=False),
        FeatureConfig(similarity=False, recency=False, event_type=False, evidence=False),
        FeatureConfig(knowledge=False, brand=False, price=False),
        FeatureConfig(semantic_id=True, price_relation=True, context=True, statistics=True),
        FeatureConfig(price=False, price_relation=True, similarity=False, knowledge=False),
        FeatureConfig(
            item_id=False, category=False, brand=False, price=False, inferred=False, recency=False, user_summary=False
        ),
    ],
)
def test_every_switch_trains_and_exports(shop: Shop, tmp_path: Path, features: FeatureConfig) -> None:
    config = tiny_config(features=features, max_epochs=1, history_length=4)
    train_ranker(*shop.inputs, config, checkpoints=tmp_path / "c", out=tmp_path / "r")
    assert RankerSpec.read(tmp_path / "r").features == features


def test_a_killed_training_goes_on_as_if_it_had_not_been(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(max_epochs=2, checkpoint_minutes=0)
    train_ranker(*shop.inputs, config, checkpoints=tmp_path / "whole", out=tmp_path / "a")
    real_step, steps = training.Trainer._step, []

    def step_then_die(self: training.Trainer, *args: object) -> None:
        if len(steps) == 11:
            raise KeyboardInterrupt
        steps.append(1)
        real_step(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(training.Trainer, "_step", step_then_die)
    with pytest.raises(KeyboardInterrupt):
        train_ranker(*shop.inputs, config, checkpoints=tmp_path / "cut", out=tmp_path / "b")
    monkeypatch.setattr(training.Trainer, "_step", real_step)
    assert not (tmp_path / "b").exists()
    torch.manual_seed(99)
    train_ranker(*shop.inputs, config, checkpoints=tmp_path / "cut", out=tmp_path / "b")
    whole, resumed = (load_file(tmp_path / name / WEIGHTS_FILE) for name in ("a", "b"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert RankerSpec.read(tmp_path / "a").version == RankerSpec.read(tmp_path / "b").version


def test_a_checkpoint_of_another_config_is_not_resumed(shop: Shop, tmp_path: Path) -> None:
    for dim in (16, 24):
        config = tiny_config(dim=dim, max_epochs=1, features=IDS_ONLY)
        train_ranker(*shop.inputs, config, checkpoints=tmp_path / "c", out=tmp_path / "r")
    assert load_file(tmp_path / "r" / WEIGHTS_FILE)["items.norm.weight"].shape == (24,)


def test_training_learns_the_tastes_and_is_calibrated(ranker: Path) -> None:
    told = json.loads((ranker / "training.json").read_text())
    # 15 negatives: chance is 0.28.
    assert told["best_validation_ndcg10"] > 0.5
    assert all(scale > 0 for scale, _ in told["calibration"])


def test_a_quantized_graph_says_much_the_same(shop: Shop, ranker: Path, tmp_path: Path) -> None:
    train_ranker(
        *shop.inputs, tiny_config(quantized=True), checkpoints=tmp_path / "checkpoints", out=tmp_path / "small"
    )
    feed, expected = _golden(ranker)
    for found, wanted in zip(_run(tmp_path / "small", feed), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=0.1)
    own, golden = _golden(tmp_path / "small")
    first = {name: values[:1] for name, values in own.items()}
    for found, wanted in zip(_run(tmp_path / "small", first), golden, strict=True):
        np.testing.assert_allclose(found, wanted[:1], atol=1e-5)
    assert [path.name for path in (tmp_path / "small").glob("*.onnx")] == [MODEL_FILE]
    assert load_file(tmp_path / "small" / WEIGHTS_FILE).keys() == load_file(ranker / WEIGHTS_FILE).keys()
