"""The step that trains the behavior model."""

import math
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from contracts.artifacts import create_artifact
from contracts.dataset import Dataset, read_dataset, select_events_before
from contracts.errors import UserError
from models.behavior.behavior_model import (
    BehaviorModel,
    BehaviorModelCard,
    find_complements,
    make_decoder,
    make_item_tensors,
    save_model,
    tabulate_associations,
)
from models.behavior.config import BehaviorConfig
from models.behavior.decoding.cooccurrence import fit_cooccurrence
from models.behavior.decoding.slot_decoder import SlotDecoder
from models.behavior.decoding.top_items import LogSnapshot, estimate_trend_prior
from models.behavior.network.denoiser import Denoiser, build_denoiser
from models.behavior.sequences.behavior_catalogue import BehaviorCatalogue, read_behavior_catalogue
from models.behavior.sequences.sequence_tensors import count_items, smooth_log_prior
from models.behavior.sequences.user_sequences import cut_training_sequences, find_distinct_behaviors
from models.behavior.training.denoiser_trainer import DenoiserTrainer, TrainingCurves
from models.behavior.training.score_tuning import measure_future_recall, tune_score_weights
from models.training.checkpoint import locate_checkpoint
from models.training.worker_processes import join_workers, launch_workers

_HELD_OUT_SHARE = 0.1
"""Share of users that choose the epoch and the weights of the score's terms: more would starve training."""


class BehaviorTrainingData(NamedTuple):
    """What training sees: everything before `until`."""

    catalogue: BehaviorCatalogue
    until: datetime
    train: pl.DataFrame
    """Behaviors (from `find_distinct_behaviors`) of the users that the weights are fitted to."""
    held_out: pl.DataFrame
    """Those of the users that choose the epoch and the weights of the score's terms."""


def train_behavior_model(
    dataset: Path,
    item_embeddings: Path,
    config: BehaviorConfig,
    *,
    checkpoints: Path,
    out: Path,
    knowledge: Path | None = None,  # noqa: ARG001 - compiled pipelines pass it
) -> None:
    """Trains on the first `train_fraction` of the behaviors before `train_end`, and writes the model.

    The behaviors between the training's end and `train_end` measure it: recall of each user's new items,
    beside that of popularity, in the lineage's metrics.

    Args:
        dataset: dataset artifact.
        item_embeddings: artifact of the embed step.
        config: the settings.
        checkpoints: folder in which a killed run goes on; this run's file is removed when it is done.
        out: the artifact to write.
        knowledge: not read; compiled pipelines pass the knowledge artifact.

    Raises:
        UserError: there is nothing to train on, or the embeddings do not fit the dataset.
    """
    log = read_dataset(dataset)
    data = split_training_data(log, read_behavior_catalogue(log.items, item_embeddings), config)
    inputs = {"dataset": dataset, "item_embeddings": item_embeddings}
    checkpoint = locate_checkpoint(checkpoints, "behavior", (dataset, item_embeddings), config)
    if config.training.num_processes > 1:
        launch_workers(
            config.training.num_processes, train_as_worker, dataset, item_embeddings, config, checkpoints
        )
    with create_artifact(out, kind="behavior_model", inputs=inputs, config=config) as artifact:
        denoiser, curves = build_and_train_denoiser(data, config, checkpoint)
        all_behaviors = pl.concat([data.train, data.held_out]).sort("user_id", "time_us")
        snapshot = LogSnapshot(data.until, all_behaviors, data.catalogue)
        model, decoder = assemble_model(denoiser, data, snapshot, config)
        model = save_model(artifact.path, model, data.catalogue)
        weights = {f"weight_{name}": weight for name, weight in model.card.weights.model_dump().items()}
        artifact.metrics |= {**curves.summarize_metrics(), **weights, "train_behaviors": len(data.train)}
        artifact.metrics |= measure_future_recall(decoder, model.card.model_weights, snapshot, log, config)
        artifact.labels |= {"behavior_model_version": model.card.version, "space": model.card.space}
    checkpoint.unlink(missing_ok=True)


def assemble_model(
    denoiser: Denoiser, data: BehaviorTrainingData, snapshot: LogSnapshot, config: BehaviorConfig
) -> tuple[BehaviorModel, SlotDecoder]:
    """Joins the trained network and the other terms of its score.

    The weights of the terms are fitted to the held-out users, who enter the co-occurrences only afterwards.
    """
    num_items = len(data.catalogue)
    model = BehaviorModel(
        card=BehaviorModelCard(space=data.catalogue.space, network=denoiser.spec, trained_until=data.until),
        denoiser=denoiser,
        associations=tabulate_associations(denoiser, data.catalogue),
        cooccurrences=fit_cooccurrence(data.train, num_items),
        complements=find_complements(denoiser, data.catalogue, config.complements.weight),
    )
    prior_I = estimate_trend_prior(snapshot, config.decoding.trend_days)
    untuned_decoder = make_decoder(model, data.catalogue, prior_I, config.decoding)
    tuned = tune_score_weights(untuned_decoder, snapshot, data.held_out, config)
    card = model.card.model_copy(update={"weights": tuned.shipped, "model_weights": tuned.alone})
    cooccurrences = fit_cooccurrence(snapshot.behaviors, num_items)
    model = model._replace(card=card, cooccurrences=cooccurrences)
    return model, make_decoder(model, data.catalogue, prior_I, config.decoding)


def train_as_worker(dataset: Path, item_embeddings: Path, config: BehaviorConfig, checkpoints: Path) -> None:
    """Trains as one of the processes that torchrun or `launch_workers` started, and leaves the checkpoint.

    `train_behavior_model` with the same arguments goes on from there: it measures and writes the model.
    """
    log = read_dataset(dataset)
    data = split_training_data(log, read_behavior_catalogue(log.items, item_embeddings), config)
    checkpoint = locate_checkpoint(checkpoints, "behavior", (dataset, item_embeddings), config)
    build_and_train_denoiser(data, config, checkpoint)


def split_training_data(
    log: Dataset, catalogue: BehaviorCatalogue, config: BehaviorConfig
) -> BehaviorTrainingData:
    """Cuts the log at the training's end and divides its users.

    Raises:
        UserError: no behavior is left.
    """
    until = find_training_end(log, config.train_fraction)
    behaviors = find_distinct_behaviors(select_events_before(log.behaviors, until), catalogue)
    if behaviors.is_empty():
        raise UserError(
            f"no behavior (click, cart, order) with an embedded item before {until.isoformat()}; give an "
            f"older log or raise behavior.train_fraction (now {config.train_fraction:g})"
        )
    users = behaviors["user_id"].unique().sort()
    shuffled_rows = np.random.default_rng(config.seed).permutation(len(users))
    held_out_rows = np.sort(shuffled_rows[: int(len(users) * _HELD_OUT_SHARE)])
    is_held_out = pl.col("user_id").is_in(users.gather(held_out_rows).implode())
    return BehaviorTrainingData(
        catalogue, until, behaviors.filter(~is_held_out), behaviors.filter(is_held_out)
    )


def find_training_end(log: Dataset, train_fraction: float) -> datetime:
    """Finds the moment before which the first `train_fraction` of the behaviors before `train_end` lie."""
    times = select_events_before(log.behaviors, log.split.train_end)["timestamp"].sort()
    position = math.ceil(len(times) * train_fraction)
    until = times[position] if position < len(times) else log.split.train_end
    assert isinstance(until, datetime)
    return until


def build_and_train_denoiser(
    data: BehaviorTrainingData, config: BehaviorConfig, checkpoint: Path
) -> tuple[Denoiser, TrainingCurves]:
    """Builds the network and trains it."""
    catalogue = data.catalogue
    denoiser = build_denoiser(catalogue, config)
    item_counts = count_items(data.train["item"].to_numpy(), len(catalogue))
    items = make_item_tensors(denoiser, catalogue, smooth_log_prior(item_counts))
    with join_workers(config.training.precision) as worker:
        trainer = DenoiserTrainer(
            denoiser,
            items,
            cut_training_sequences(data.train, config.max_history),
            cut_training_sequences(data.held_out, config.max_history),
            config.training,
            config.seed,
            worker,
        )
        return denoiser, trainer.train_network(checkpoint)
