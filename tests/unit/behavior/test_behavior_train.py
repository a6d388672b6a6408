from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
import torch
from behavior_shop import START, TRAIN_END, BehaviorShop, make_shop_embeddings, make_shop_events, write_shop
from safetensors.torch import load_file

from contracts.artifacts import read_lineage
from contracts.dataset import read_dataset
from contracts.digests import digest_file
from contracts.errors import UserError
from models.behavior.config import BehaviorConfig
from models.behavior.training import denoiser_trainer
from models.behavior.training.train_behavior_model import find_training_end, train_behavior_model
from models.training import training_loop
from models.training.checkpoint import TrainingState, save_checkpoint

WEIGHTS = "weights.safetensors"


def train(shop: BehaviorShop, config: BehaviorConfig, folder: Path) -> str:
    train_behavior_model(*shop, config, checkpoints=folder / "checkpoints", out=folder / "out")
    return digest_file(folder / "out" / WEIGHTS)


def test_it_learns_users_tastes(model: Path) -> None:
    lineage_metrics = read_lineage(model).metrics
    assert (
        lineage_metrics["future_inferred_recall_at_10"]
        > 1.5 * lineage_metrics["future_popularity_recall_at_10"]
    )
    assert lineage_metrics["train_loss"] > 0


def test_same_seed_same_weights(
    shop: BehaviorShop, config: BehaviorConfig, model: Path, tmp_path: Path
) -> None:
    assert train(shop, config, tmp_path) == digest_file(model / WEIGHTS)
    assert train(shop, config.model_copy(update={"seed": 1}), tmp_path) != digest_file(model / WEIGHTS)


def test_events_after_the_training_end_change_nothing(
    config: BehaviorConfig, model: Path, tmp_path: Path
) -> None:
    future_event = {"user_id": "u00", "item_id": "i35", "timestamp": TRAIN_END, "event_type": "order"}
    events = make_shop_events()
    planted_events = pl.concat([events, pl.DataFrame([future_event]).select(events.columns)])
    assert train(write_shop(tmp_path, events=planted_events), config, tmp_path) == digest_file(
        model / WEIGHTS
    )


def test_a_killed_run_resumes_exactly(
    shop: BehaviorShop, config: BehaviorConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saving_often = config.model_copy(
        update={"training": config.training.model_copy(update={"checkpoint_steps": 2})}
    )
    loss_curves = []
    monkeypatch.setattr(
        denoiser_trainer.TrainingCurves, "summarize_metrics", lambda fit: loss_curves.append(fit) or {}
    )
    whole_run = train(shop, saving_often, tmp_path / "whole")
    kill_moments = []

    def save_then_die(path: Path, state: TrainingState) -> None:
        save_checkpoint(path, state)
        moment = (state.progress.num_epochs, state.progress.step)
        if moment in {(0, 2), (1, 0), (3, 2)} and moment not in kill_moments:
            kill_moments.append(moment)
            raise KeyboardInterrupt

    monkeypatch.setattr(training_loop, "save_checkpoint", save_then_die)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            train(shop, saving_often, tmp_path / "killed")
        assert not (tmp_path / "killed" / "out").exists()
    assert train(shop, saving_often, tmp_path / "killed") == whole_run
    assert kill_moments == [(0, 2), (1, 0), (3, 2)], "in the middle of an epoch as at its end"
    assert loss_curves[0] == loss_curves[1], "the loss curve is the same to the last bit"
    assert not list((tmp_path / "killed" / "checkpoints").iterdir())


def test_bfloat16_trains_weights_that_stay_in_float32(
    shop: BehaviorShop, config: BehaviorConfig, tmp_path: Path
) -> None:
    half_precision = config.model_copy(
        update={"training": config.training.model_copy(update={"precision": "bfloat16"})}
    )
    train(shop, half_precision, tmp_path)
    assert {tensor.dtype for tensor in load_file(tmp_path / "out" / WEIGHTS).values()} == {torch.float32}
    lineage_metrics = read_lineage(tmp_path / "out").metrics
    assert (
        lineage_metrics["future_inferred_recall_at_10"]
        > 1.5 * lineage_metrics["future_popularity_recall_at_10"]
    )


def test_a_catalogue_larger_than_the_softmax_is_sampled(
    shop: BehaviorShop, config: BehaviorConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denoiser_trainer, "_MAX_SOFTMAX_ITEMS", 20)
    train(shop, config, tmp_path)
    lineage_metrics = read_lineage(tmp_path / "out").metrics
    assert lineage_metrics["future_inferred_recall_at_10"] > lineage_metrics["future_popularity_recall_at_10"]


def test_the_training_end_is_a_share_of_the_behaviors_before_train_end(shop: BehaviorShop) -> None:
    event_log = read_dataset(shop.dataset)
    train_until = find_training_end(event_log, 0.5)
    num_behaviors = [
        len(event_log.behaviors.filter(pl.col("timestamp") < time)) for time in (train_until, TRAIN_END)
    ]
    assert abs(num_behaviors[0] / num_behaviors[1] - 0.5) < 0.01
    assert find_training_end(event_log, 1.0) == TRAIN_END


def test_one_behavior_is_enough(config: BehaviorConfig, tmp_path: Path) -> None:
    event_times = [START, TRAIN_END - timedelta(seconds=1)]
    events = pl.DataFrame(
        {"user_id": "u", "item_id": ["i00", "i01"], "timestamp": event_times, "event_type": "click"}
    )
    train(write_shop(tmp_path, events=events), config, tmp_path)
    assert read_lineage(tmp_path / "out").metrics["train_behaviors"] == 1


def test_a_catalogue_of_one_item(config: BehaviorConfig, tmp_path: Path) -> None:
    shop = write_shop(
        tmp_path,
        events=make_shop_events().filter(pl.col("item_id") == "i00"),
        embeddings=make_shop_embeddings().head(1),
    )
    train(shop, config, tmp_path)
    assert read_lineage(tmp_path / "out").metrics["weight_popularity"] == 1


def test_nothing_to_train_on_is_the_users_error(config: BehaviorConfig, tmp_path: Path) -> None:
    shop = write_shop(tmp_path, events=make_shop_events().filter(pl.col("event_type") == "impression"))
    with pytest.raises(UserError, match="no behavior"):
        train(shop, config, tmp_path)


def test_a_training_that_diverges_is_told(shop: BehaviorShop, config: BehaviorConfig, tmp_path: Path) -> None:
    wild_config = config.model_copy(
        update={"training": config.training.model_copy(update={"learning_rate": 1e30})}
    )
    with pytest.raises(UserError, match="training diverged"):
        train(shop, wild_config, tmp_path)


def test_mixed_spaces_are_refused(config: BehaviorConfig, tmp_path: Path) -> None:
    mixed_embeddings = pl.concat([make_shop_embeddings().head(20), make_shop_embeddings("space-b").tail(20)])
    with pytest.raises(UserError, match="space-a, space-b"):
        train(write_shop(tmp_path, embeddings=mixed_embeddings), config, tmp_path)
