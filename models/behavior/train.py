"""The step that trains the behaviour model."""

import math
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from contracts.artifacts import new_artifact, read_lineage, read_table
from contracts.dataset import Dataset, before, read_dataset
from contracts.digests import code_version, digest_value
from contracts.errors import UserError
from contracts.tables import KNOWLEDGE
from models.behavior.catalogue import Catalogue, read_catalogue
from models.behavior.config import BehaviorConfig, KindsConfig
from models.behavior.cooccurrence import fit_cooccurrence
from models.behavior.decode import Decoder
from models.behavior.fit import Fitted, fit
from models.behavior.histories import distinct_behaviors, training_sequences
from models.behavior.kinds import fit_kinds
from models.behavior.measure import future_metrics, tune_weights
from models.behavior.model import BehaviorModel, ModelCard, associate, item_tensors, make_decoder, save_model
from models.behavior.network import Denoiser, build_denoiser
from models.behavior.recommend import Moment, trend_prior
from models.behavior.tensors import item_counts, log_prior
from models.workers import join_workers, launch


class TrainingData(NamedTuple):
    """What training sees: everything before `until`."""

    catalogue: Catalogue
    until: datetime
    train: pl.DataFrame
    """Behaviours (from `distinct_behaviors`) of the users that the weights are fitted to."""
    held_out: pl.DataFrame
    """Those of the users that choose the epoch and the weights of the score's parts."""


def train_behavior_model(
    dataset: Path,
    item_embeddings: Path,
    config: BehaviorConfig,
    *,
    checkpoints: Path,
    out: Path,
    knowledge: Path | None = None,
) -> None:
    """Trains on the first `train_fraction` of the behaviours before `train_end`; writes weights and `model.json`.

    The behaviours between the training's end and `train_end` measure the model: recall of each user's new items, beside
    that of popularity, in the lineage's metrics.

    Args:
        dataset: dataset artifact.
        item_embeddings: artifact of the embed step.
        config: the settings.
        checkpoints: folder in which training resumes after a kill; this run's file is removed when it is done.
        out: the artifact to write.
        knowledge: knowledge artifact, which `config.kinds` needs.

    Raises:
        UserError: there is nothing to train on, the embeddings do not fit the dataset, or the knowledge is missing.
    """
    log = read_dataset(dataset)
    data = training_data(log, read_catalogue(log.items, item_embeddings), config)
    inputs = {"dataset": dataset, "item_embeddings": item_embeddings}
    claims = _read_knowledge(knowledge, config.kinds)
    if knowledge is not None and claims is not None:
        inputs["knowledge"] = knowledge
    checkpoint = checkpoint_file(dataset, item_embeddings, config, checkpoints)
    if config.training.num_processes > 1:
        launch(config.training.num_processes, fit_together, dataset, item_embeddings, config, checkpoints)
    with new_artifact(out, kind="behavior_model", inputs=inputs, config=config) as artifact:
        denoiser, fitted = fit_denoiser(data, config, checkpoint)
        moment = Moment(data.until, pl.concat([data.train, data.held_out]).sort("user_id", "time_us"), data.catalogue)
        model, decoder = tune(denoiser, data, moment, config, claims)
        model = save_model(artifact.path, model, data.catalogue)
        weights = {f"weight_{name}": weight for name, weight in model.card.weights.model_dump().items()}
        artifact.metrics |= {**fitted.metrics, **weights, "train_behaviors": len(data.train)}
        artifact.metrics |= future_metrics(decoder, model.card.model_weights, moment, log, config)
        artifact.labels |= {"behavior_model_version": model.card.version, "space": model.card.space}
    checkpoint.unlink(missing_ok=True)


def tune(
    denoiser: Denoiser, data: TrainingData, moment: Moment, config: BehaviorConfig, knowledge: pl.DataFrame | None
) -> tuple[BehaviorModel, Decoder]:
    """The trained network with the other parts of its score; their weights are fitted to the held-out users, who then
    enter the co-occurrences too. Kinds, whose weights are given, come last."""
    size = len(data.catalogue)
    model = BehaviorModel(
        card=ModelCard(space=data.catalogue.space, network=denoiser.spec, trained_until=data.until),
        denoiser=denoiser,
        associations=associate(denoiser, data.catalogue, config.decoding),
        cooccurrences=fit_cooccurrence(data.train, size, config.cooccurrence),
    )
    prior = trend_prior(moment, config.decoding.trend_days)
    tuned = tune_weights(make_decoder(model, data.catalogue, prior, config.decoding), moment, data.held_out, config)
    card = model.card.model_copy(update={"weights": tuned.shipped, "model_weights": tuned.alone, "kinds": config.kinds})
    kinds = None if knowledge is None else fit_kinds(moment.behaviors, knowledge, data.catalogue, config.kinds)
    also = fit_cooccurrence(moment.behaviors, size, config.cooccurrence)
    model = model._replace(card=card, cooccurrences=also, kinds=kinds)
    return model, make_decoder(model, data.catalogue, prior, config.decoding)


def _read_knowledge(knowledge: Path | None, config: KindsConfig) -> pl.DataFrame | None:
    """The KNOWLEDGE table where kinds count."""
    if config.weight == 0 and config.satiation == 0:
        return None
    if knowledge is None:
        raise UserError("behavior.kinds needs knowledge: give the knowledge artifact, or set its weights to 0")
    return read_table(knowledge / "knowledge.parquet", KNOWLEDGE)


def fit_together(dataset: Path, item_embeddings: Path, config: BehaviorConfig, checkpoints: Path) -> None:
    """Trains as one of the processes that torchrun or `launch` started and leaves the finished checkpoint.

    `train_behavior_model` with the same arguments goes on from there, which then is to measure and to write the model.
    """
    log = read_dataset(dataset)
    data = training_data(log, read_catalogue(log.items, item_embeddings), config)
    fit_denoiser(data, config, checkpoint_file(dataset, item_embeddings, config, checkpoints))


def checkpoint_file(dataset: Path, item_embeddings: Path, config: BehaviorConfig, checkpoints: Path) -> Path:
    """The file of the run that has these inputs, this configuration and this code."""
    digests = [read_lineage(path).digest for path in (dataset, item_embeddings)]
    run = digest_value([*digests, config.model_dump(mode="json"), code_version()])
    return checkpoints / f"behavior-{run}.safetensors"


def training_data(log: Dataset, catalogue: Catalogue, config: BehaviorConfig) -> TrainingData:
    """Cuts the log at the training's end and divides its users.

    Raises:
        UserError: no behaviour is left.
    """
    until = training_end(log, config.train_fraction)
    behaviors = distinct_behaviors(before(log.behaviors, until), catalogue)
    if behaviors.is_empty():
        raise UserError(
            f"no behaviour (click, cart, order) with an embedded item before {until.isoformat()}; give an older log or "
            f"raise behavior.train_fraction (now {config.train_fraction:g})"
        )
    users = behaviors["user_id"].unique().sort()
    count = int(len(users) * config.training.validation_share)
    chosen = np.random.default_rng(config.seed).permutation(len(users))[:count]
    held_out = pl.col("user_id").is_in(users.gather(np.sort(chosen)).implode())
    return TrainingData(catalogue, until, behaviors.filter(~held_out), behaviors.filter(held_out))


def training_end(log: Dataset, train_fraction: float) -> datetime:
    """The moment before which the first `train_fraction` of the behaviours before `train_end` lie."""
    times = before(log.behaviors, log.split.train_end)["timestamp"].sort()
    position = math.ceil(len(times) * train_fraction)
    until = times[position] if position < len(times) else log.split.train_end
    assert isinstance(until, datetime)
    return until


def fit_denoiser(data: TrainingData, config: BehaviorConfig, checkpoint: Path) -> tuple[Denoiser, Fitted]:
    """Builds the network and trains it."""
    catalogue = data.catalogue
    denoiser = build_denoiser(catalogue, config)
    prior = log_prior(item_counts(data.train["item"].to_numpy(), len(catalogue)))
    with join_workers(config.training.precision) as worker:
        fitted = fit(
            denoiser,
            item_tensors(denoiser, catalogue, prior),
            training_sequences(data.train, config.max_history),
            training_sequences(data.held_out, config.max_history),
            config=config.training,
            seed=config.seed,
            checkpoint=checkpoint,
            worker=worker,
        )
    return denoiser, fitted
