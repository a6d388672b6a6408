from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
import torch
from behavior_shop import START, TRAIN_END, Shop, shop_embeddings, shop_events, write_shop
from safetensors.torch import load_file

from contracts.artifacts import read_lineage
from contracts.dataset import read_dataset
from contracts.digests import digest_file
from contracts.errors import UserError
from models.behavior import fit
from models.behavior.checkpoint import Progress
from models.behavior.config import BehaviorConfig
from models.behavior.train import train_behavior_model, training_end

WEIGHTS = "weights.safetensors"


def train(shop: Shop, config: BehaviorConfig, folder: Path) -> str:
    train_behavior_model(*shop, config, checkpoints=folder / "checkpoints", out=folder / "out")
    return digest_file(folder / "out" / WEIGHTS)


def test_it_learns_users_tastes(model: Path) -> None:
    metrics = read_lineage(model).metrics
    assert metrics["future_inferred_recall_at_10"] > 1.5 * metrics["future_popularity_recall_at_10"]
    assert metrics["train_loss"] > 0


def test_same_seed_same_weights(shop: Shop, config: BehaviorConfig, model: Path, tmp_path: Path) -> None:
    assert train(shop, config, tmp_path) == digest_file(model / WEIGHTS)
    assert train(shop, config.model_copy(update={"seed": 1}), tmp_path) != digest_file(model / WEIGHTS)


def test_events_after_the_training_end_change_nothing(config: BehaviorConfig, model: Path, tmp_path: Path) -> None:
    future = {"user_id": "u00", "item_id": "i35", "timestamp": TRAIN_END, "event_type": "order"}
    events = shop_events()
    planted = pl.concat([events, pl.DataFrame([future]).select(events.columns)])
    assert train(write_shop(tmp_path, events=planted), config, tmp_path) == digest_file(model / WEIGHTS)


def test_a_killed_run_resumes_exactly(
    shop: Shop, config: BehaviorConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    often = config.model_copy(update={"training": config.training.model_copy(update={"checkpoint_steps": 2})})
    curves = []
    monkeypatch.setattr(fit.Fitted, "metrics", property(lambda fitted: curves.append(fitted) or {}))
    whole = train(shop, often, tmp_path / "whole")
    save, kills = fit.save_progress, []

    def save_then_die(path: Path, progress: Progress, *state: object) -> None:
        save(path, progress, *state)  # type: ignore[arg-type]
        moment = (len(progress.train_losses), progress.step)
        if moment in {(0, 2), (1, 0), (3, 2)} and moment not in kills:
            kills.append(moment)
            raise KeyboardInterrupt

    monkeypatch.setattr(fit, "save_progress", save_then_die)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            train(shop, often, tmp_path / "killed")
        assert not (tmp_path / "killed" / "out").exists()
    assert train(shop, often, tmp_path / "killed") == whole
    assert kills == [(0, 2), (1, 0), (3, 2)], "in the middle of an epoch as at its end"
    assert curves[0] == curves[1], "the loss curve is the same to the last bit"
    assert not list((tmp_path / "killed" / "checkpoints").iterdir())


def test_bfloat16_trains_weights_that_stay_in_float32(shop: Shop, config: BehaviorConfig, tmp_path: Path) -> None:
    half = config.model_copy(update={"training": config.training.model_copy(update={"precision": "bfloat16"})})
    train(shop, half, tmp_path)
    assert {tensor.dtype for tensor in load_file(tmp_path / "out" / WEIGHTS).values()} == {torch.float32}
    metrics = read_lineage(tmp_path / "out").metrics
    assert metrics["future_inferred_recall_at_10"] > 1.5 * metrics["future_popularity_recall_at_10"]


def test_a_catalogue_larger_than_the_softmax_is_sampled(shop: Shop, config: BehaviorConfig, tmp_path: Path) -> None:
    small = config.model_copy(update={"training": config.training.model_copy(update={"max_softmax_items": 20})})
    train(shop, small, tmp_path)
    metrics = read_lineage(tmp_path / "out").metrics
    assert metrics["future_inferred_recall_at_10"] > metrics["future_popularity_recall_at_10"]


def test_the_training_end_is_a_share_of_the_behaviours_before_train_end(shop: Shop) -> None:
    log = read_dataset(shop.dataset)
    until = training_end(log, 0.5)
    counts = [len(log.behaviors.filter(pl.col("timestamp") < time)) for time in (until, TRAIN_END)]
    assert abs(counts[0] / counts[1] - 0.5) < 0.01
    assert training_end(log, 1.0) == TRAIN_END


def test_one_behaviour_is_enough(config: BehaviorConfig, tmp_path: Path) -> None:
    at = [START, TRAIN_END - timedelta(seconds=1)]
    events = pl.DataFrame({"user_id": "u", "item_id": ["i00", "i01"], "timestamp": at, "event_type": "click"})
    train(write_shop(tmp_path, events=events), config, tmp_path)
    assert read_lineage(tmp_path / "out").metrics["train_behaviors"] == 1


def test_a_catalogue_of_one_item(config: BehaviorConfig, tmp_path: Path) -> None:
    shop = write_shop(
        tmp_path, events=shop_events().filter(pl.col("item_id") == "i00"), embeddings=shop_embeddings().head(1)
    )
    train(shop, config, tmp_path)
    assert read_lineage(tmp_path / "out").metrics["weight_popularity"] == 1


def test_nothing_to_train_on_is_the_users_error(config: BehaviorConfig, tmp_path: Path) -> None:
    shop = write_shop(tmp_path, events=shop_events().filter(pl.col("event_type") == "impression"))
    with pytest.raises(UserError, match="no behaviour"):
        train(shop, config, tmp_path)


def test_a_training_that_diverges_is_told(shop: Shop, config: BehaviorConfig, tmp_path: Path) -> None:
    wild = config.model_copy(update={"training": config.training.model_copy(update={"learning_rate": 1e30})})
    with pytest.raises(UserError, match="training diverged"):
        train(shop, wild, tmp_path)


def test_mixed_spaces_are_refused(config: BehaviorConfig, tmp_path: Path) -> None:
    mixed = pl.concat([shop_embeddings().head(20), shop_embeddings("space-b").tail(20)])
    with pytest.raises(UserError, match="space-a, space-b"):
        train(write_shop(tmp_path, embeddings=mixed), config, tmp_path)
