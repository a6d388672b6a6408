import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from ranker_shop import Shop, tiny_config
from safetensors.torch import load_file

from contracts.artifacts import read_lineage, verify_artifact
from models.ranker.config import IDS_ONLY, RankerFeatures
from models.ranker.inputs.item_encoder import Feed
from models.ranker.inputs.ranker_spec import GOLDEN_FILE, MODEL_FILE, WEIGHTS_FILE, RankerSpec
from models.ranker.training import ranker_trainer
from models.ranker.training import train_ranker as train_module
from models.ranker.training.enhancement_trial import ENHANCEMENTS_FILE, EnhancementTrial
from models.ranker.training.ranker_trainer import RankerTrainer
from models.ranker.training.train_ranker import train_ranker


def _run_graph(ranker: Path, feed: Feed) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(ranker / MODEL_FILE).run(None, feed)


def _read_golden(ranker: Path) -> tuple[Feed, list[np.ndarray]]:
    with np.load(ranker / GOLDEN_FILE, allow_pickle=False) as golden:
        feed = {
            name.removeprefix("input_"): golden[name] for name in golden.files if name.startswith("input_")
        }
        return feed, [golden[f"output_{name}"] for name in ("click", "order", "score")]


def test_the_graph_gives_the_golden_outputs(ranker: Path) -> None:
    feed, expected = _read_golden(ranker)
    for output, golden_output in zip(_run_graph(ranker, feed), expected, strict=True):
        np.testing.assert_allclose(output, golden_output, atol=1e-5)
    click, order, score = expected
    assert ((click > 0) & (click < 1)).all()
    np.testing.assert_allclose(score, click + order, rtol=1e-5)


def test_a_score_depends_on_its_list_but_not_on_the_batch(ranker: Path) -> None:
    feed, _ = _read_golden(ranker)
    together = _run_graph(ranker, feed)[2]
    for row in range(2):
        alone = {name: values[row : row + 1] for name, values in feed.items()}
        np.testing.assert_allclose(_run_graph(ranker, alone)[2][0], together[row], atol=1e-5)
        turned = {
            name: values[:, ::-1].copy() if name.startswith("candidate_") else values
            for name, values in alone.items()
        }
        np.testing.assert_allclose(_run_graph(ranker, turned)[2][0], together[row, ::-1], atol=1e-5)


def test_without_the_list_a_score_does_not_depend_on_its_company(shop: Shop, tmp_path: Path) -> None:
    config = tiny_config(max_epochs=1, features=RankerFeatures(list_composition=False, counts=False))
    train_ranker(*shop.inputs, config, checkpoints=tmp_path / "c", out=tmp_path / "r")
    feed, _ = _read_golden(tmp_path / "r")
    together = _run_graph(tmp_path / "r", feed)[2]
    for column in range(3):
        alone = {
            name: values[:1, column : column + 1] if name.startswith("candidate_") else values[:1]
            for name, values in feed.items()
        }
        assert _run_graph(tmp_path / "r", alone)[2][0, 0] == pytest.approx(together[0, column], abs=1e-5)


def test_a_user_without_any_history_gets_scores(ranker: Path) -> None:
    feed, _ = _read_golden(ranker)
    blank = {name: v if name.startswith("candidate_") else np.zeros_like(v) for name, v in feed.items()}
    assert all(np.isfinite(values).all() for values in _run_graph(ranker, blank))


def test_padding_behind_the_history_changes_nothing(ranker: Path) -> None:
    feed, _ = _read_golden(ranker)
    padded = feed["history_ids"] == 0
    assert padded.any()
    noisy = {name: values.copy() for name, values in feed.items()}
    for name in (
        "history_categories",
        "history_brands",
        "history_vectors",
        "history_types",
        "history_ages_s",
    ):
        noisy[name][padded] = 1
    np.testing.assert_allclose(_run_graph(ranker, noisy)[2], _run_graph(ranker, feed)[2], atol=1e-5)


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
        RankerFeatures(item_id=False),
        RankerFeatures(similarity=False, recency=False, evidence=False),
        RankerFeatures(knowledge=False, brand=False, price=False),
        RankerFeatures(context=True, statistics=True),
        RankerFeatures(price=False, similarity=False, knowledge=False),
        RankerFeatures(
            item_id=False,
            category=False,
            brand=False,
            price=False,
            inferred=False,
            recency=False,
            user_summary=False,
        ),
    ],
)
def test_every_switch_trains_and_exports(shop: Shop, tmp_path: Path, features: RankerFeatures) -> None:
    config = tiny_config(features=features, max_epochs=1, history_length=4)
    train_ranker(*shop.inputs, config, checkpoints=tmp_path / "c", out=tmp_path / "r")
    assert RankerSpec.read(tmp_path / "r").features == features


def test_a_killed_training_goes_on_as_if_it_had_not_been(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(max_epochs=2)
    monkeypatch.setattr(ranker_trainer, "_CHECKPOINT_MINUTES", 0.0)
    train_ranker(*shop.inputs, config, checkpoints=tmp_path / "whole", out=tmp_path / "a")
    train_on_batch, steps = RankerTrainer.train_on_batch, []

    def train_then_die(trainer: RankerTrainer, rows: np.ndarray) -> tuple[float, float]:
        if len(steps) == 5:
            raise KeyboardInterrupt
        steps.append(1)
        return train_on_batch(trainer, rows)

    monkeypatch.setattr(RankerTrainer, "train_on_batch", train_then_die)
    with pytest.raises(KeyboardInterrupt):
        train_ranker(*shop.inputs, config, checkpoints=tmp_path / "cut", out=tmp_path / "b")
    monkeypatch.setattr(RankerTrainer, "train_on_batch", train_on_batch)
    assert not (tmp_path / "b").exists()
    assert len(list((tmp_path / "cut").iterdir())) == 1
    torch.manual_seed(99)
    train_ranker(*shop.inputs, config, checkpoints=tmp_path / "cut", out=tmp_path / "b")
    whole, resumed = (load_file(tmp_path / name / WEIGHTS_FILE) for name in ("a", "b"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert RankerSpec.read(tmp_path / "a").version == RankerSpec.read(tmp_path / "b").version
    assert not list((tmp_path / "cut").iterdir()), "a finished ranker needs no checkpoint"


def test_a_checkpoint_of_another_config_is_not_resumed(shop: Shop, tmp_path: Path) -> None:
    for dim in (16, 24):
        config = tiny_config(dim=dim, max_epochs=1, features=IDS_ONLY)
        train_ranker(*shop.inputs, config, checkpoints=tmp_path / "c", out=tmp_path / "r")
    assert load_file(tmp_path / "r" / WEIGHTS_FILE)["items.norm.weight"].shape == (24,)


def test_training_learns_the_tastes_and_is_calibrated(ranker: Path) -> None:
    report = json.loads((ranker / "training.json").read_text())
    # 15 negatives: chance is 0.28.
    assert report["best_validation_score"] > 0.5
    assert all(scale > 0 for scale, _ in report["calibration"])


def test_inferred_behaviors_are_kept_only_where_pages_say_that_they_pay(
    shown_shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(max_epochs=1)
    train_ranker(*shown_shop.inputs, config, checkpoints=tmp_path / "c", out=tmp_path / "r")
    trial = json.loads((tmp_path / "r" / ENHANCEMENTS_FILE).read_text())["inferred"]
    assert trial["low"] <= trial["gain"] <= trial["high"]
    assert trial["is_kept"] is (trial["low"] > 0)
    assert RankerSpec.read(tmp_path / "r").features.inferred is trial["is_kept"]
    assert not list((tmp_path / "c").iterdir()), "both checkpoints are done with"

    kept = EnhancementTrial(0.1, 0.05, 0.15, is_kept=True)
    monkeypatch.setattr(train_module, "try_enhancement", lambda *_, **__: kept)
    train_ranker(*shown_shop.inputs, config, checkpoints=tmp_path / "c", out=tmp_path / "k")
    assert RankerSpec.read(tmp_path / "k").features.inferred
    verify_artifact(tmp_path / "k")
