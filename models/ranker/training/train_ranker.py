"""The train_ranker step: it turns a training set into a ranker that can be served."""

import math
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch

from contracts.array_types import FloatArray, IntArray
from contracts.artifacts import create_artifact, write_json
from contracts.dataset import read_dataset
from contracts.embedding_aspects import read_aspects
from contracts.errors import UserError
from models.ranker.config import RankerConfig
from models.ranker.export.export_ranker import export_ranker, write_golden_rows
from models.ranker.inputs.graph_feed import build_list_feed, gather_lists
from models.ranker.inputs.item_encoder import ItemEncoder, ItemTable
from models.ranker.inputs.ranker_spec import RankerSpec
from models.ranker.lists.build_lists import TRAIN, VALIDATION
from models.ranker.lists.encode_catalogue import (
    encode_catalogue,
    fit_encoder,
    read_fold_vectors,
    read_item_vectors,
)
from models.ranker.lists.encode_lists import TRAINING_SET_FILE, assign_user_folds, encode_lists
from models.ranker.lists.general_search_unit import HistorySearch, plan_search
from models.ranker.lists.item_statistics import ItemActivity
from models.ranker.lists.mapped_lists import RankingLists
from models.ranker.network.ranker_network import Ranker
from models.ranker.training.calibration import calibrate_heads, fit_confidence_fusion, scale_expected_revenue
from models.ranker.training.enhancement_trial import ENHANCEMENTS_FILE, try_enhancement
from models.ranker.training.list_batches import CatalogueTensors, build_catalogue_tensors
from models.ranker.training.ranker_trainer import RankerTrainer
from models.training.checkpoint import locate_checkpoint
from models.training.device import set_num_threads
from models.training.worker_processes import join_workers, launch_workers

_GOLDEN_LISTS = 8


def train_ranker(
    training_set: Path,
    dataset: Path,
    item_embeddings: Path,
    config: RankerConfig,
    *,
    checkpoints: Path,
    out: Path,
) -> None:
    """Trains, calibrates and exports one ranker.

    Where the log says what was shown, inferred behaviors must prove themselves. The ranker is trained with
    and without them, and they are kept only if the validation pages surely say that they pay
    (`enhancement_trial.py`, `enhancements.json`).

    Writes `ranker.onnx`, `weights.safetensors`, `spec.json`, the vocabularies, `golden.npz` and
    `training.json`. Training resumes from `checkpoints` exactly where it was killed, as long as inputs
    and config are the same. The checkpoint is removed when the ranker is written.

    Raises:
        UserError: the training set holds no training list.
    """
    inputs = {"training_set": training_set, "dataset": dataset, "item_embeddings": item_embeddings}
    with (
        tempfile.TemporaryDirectory() as scratch_folder,
        create_artifact(out, kind="ranker", inputs=inputs, config=config) as artifact,
    ):
        scratch = Path(scratch_folder)
        train_into = partial(train_ranker_into, inputs, checkpoints=checkpoints, scratch=scratch)
        is_shown = read_training_protocol(training_set / TRAINING_SET_FILE) == "impressions"
        if config.features.inferred and is_shown:
            plain_config = config.model_copy(
                update={"features": config.features.model_copy(update={"inferred": False})}
            )
            plain, enhanced = scratch / "plain", scratch / "enhanced"
            reports = {
                plain: train_into(config=plain_config, folder=plain),
                enhanced: train_into(config=config, folder=enhanced),
            }
            trial = try_enhancement(
                enhanced, plain, **inputs, scratch=scratch / "trial", num_threads=config.num_threads
            )
            kept = enhanced if trial.is_kept else plain
            shutil.copytree(kept, artifact.path, dirs_exist_ok=True)
            write_json(artifact.path / ENHANCEMENTS_FILE, {"inferred": trial._asdict()})
            artifact.metrics |= reports[kept] | {"enhancement.inferred.gain": trial.gain}
        else:
            artifact.metrics |= train_into(config=config, folder=artifact.path)
        spec = RankerSpec.read(artifact.path)
        artifact.labels |= {"model_name": spec.model_name, "version": spec.version}
        artifact.labels["space"] = read_item_vectors(item_embeddings)[1]
    for trained_config in _list_trained_configs(config):
        locate_checkpoint(checkpoints, "ranker", inputs.values(), trained_config).unlink(missing_ok=True)


def _list_trained_configs(config: RankerConfig) -> list[RankerConfig]:
    plain_features = config.features.model_copy(update={"inferred": False})
    return [config, config.model_copy(update={"features": plain_features})]


def train_ranker_into(
    inputs: dict[str, Path], *, config: RankerConfig, checkpoints: Path, scratch: Path, folder: Path
) -> dict[str, float]:
    """Trains, calibrates and exports one ranker into a folder; returns what is to be told of it."""
    folder.mkdir(exist_ok=True)
    if config.num_processes > 1:
        launch_workers(config.num_processes, train_as_worker, *inputs.values(), config, checkpoints)
    checkpoint = locate_checkpoint(checkpoints, "ranker", inputs.values(), config)
    with tempfile.TemporaryDirectory(dir=scratch) as lists_folder:
        prepared = _prepare_inputs(**inputs, config=config, scratch=Path(lists_folder))
        network, catalogue, lists = (prepared.network, prepared.catalogue, prepared.lists)
        trainer = _train_network(prepared, config, checkpoint)
        fusion_gain = 0.0
        # The head is fitted on sampled lists, whose order says nothing of pages.
        if config.features.inferred and not prepared.is_shown:
            fusion_gain = fit_confidence_fusion(network, catalogue, lists.validation, seed=config.seed)
        calibrate_heads(network, catalogue, lists.validation)
        if config.has_value_head:
            scale_expected_revenue(network, catalogue, lists.validation)
        spec = export_ranker(
            network,
            prepared.encoder,
            config,
            space=prepared.space,
            vector_dim=prepared.vector_dim,
            folder=folder,
        )
        golden_lists = gather_lists(
            lists.train,
            np.arange(min(_GOLDEN_LISTS, len(lists.train))),
            history=spec.history_length,
            inferred=spec.inferred_length,
        )
        golden_feed = build_list_feed(spec, prepared.table, golden_lists)
        write_golden_rows(network, spec, golden_feed, folder)
        _write_training_report(folder / "training.json", trainer, network)
    progress = trainer.state.progress
    metrics = {
        "epochs": float(progress.num_epochs),
        "lists": float(len(lists.train)),
        "samples_per_s": trainer.samples_per_s,
        "validation.fusion_gain": fusion_gain,
    }
    if not math.isnan(progress.best_score):
        metrics["validation.score"] = progress.best_score
    return metrics


def train_as_worker(
    training_set: Path, dataset: Path, item_embeddings: Path, config: RankerConfig, checkpoints: Path
) -> None:
    """Trains as one of the processes that torchrun or `launch_workers` started; leaves the checkpoint.

    `train_ranker` with the same arguments goes on from there, which then is to calibrate and to export.
    """
    checkpoint = locate_checkpoint(checkpoints, "ranker", (training_set, dataset, item_embeddings), config)
    with tempfile.TemporaryDirectory() as scratch:
        prepared = _prepare_inputs(training_set, dataset, item_embeddings, config, Path(scratch))
        _train_network(prepared, config, checkpoint)


class _TrainingInputs(NamedTuple):
    """What a training starts from."""

    network: Ranker
    encoder: ItemEncoder
    table: ItemTable
    catalogue: CatalogueTensors
    lists: "_TrainingLists"
    folds: IntArray
    """Fold of each training list's user."""
    space: str
    vector_dim: int
    is_shown: bool
    """Are the training lists pages that were shown (`impressions`)?"""


def _prepare_inputs(
    training_set: Path, dataset: Path, item_embeddings: Path, config: RankerConfig, scratch: Path
) -> _TrainingInputs:
    set_num_threads(config.num_threads)
    torch.manual_seed(config.seed)
    data = read_dataset(dataset)
    item_vectors, space, vector_dim = read_item_vectors(item_embeddings)
    encoder = fit_encoder(data, dim=vector_dim if config.features.reads_vectors else 0)
    table = encode_catalogue(data.items, item_vectors, encoder)
    aspect_lengths = read_aspects(item_embeddings, length=vector_dim)
    network = Ranker(config, encoder.table_sizes, tuple(aspect_lengths.values()))
    fold_vectors = None
    if config.features.reads_vectors:
        fold_vectors = read_fold_vectors(item_embeddings, data.items["item_id"])
    catalogue = build_catalogue_tensors(table, fold_vectors)
    lists_file = training_set / TRAINING_SET_FILE
    protocol = read_training_protocol(lists_file)
    item_activity = None
    if config.features.statistics:
        item_activity = ItemActivity.index_behaviors(data.behaviors, table.item_id_enum)
    search = plan_search(table.encoded_items.vectors, length=config.search_length, dim=network.aspects[0])
    encode_split = partial(encode_lists, lists_file, table.item_id_enum, activity=item_activity)
    search_folds = fold_vectors if search is not None and len(catalogue.folds) else None
    lists = _read_lists(encode_split, protocol, config, scratch, search, search_folds)
    list_folds = assign_user_folds(lists_file, split=TRAIN, protocol=protocol, num_folds=len(catalogue.folds))
    if config.has_value_head:
        network.usual_order.fill_(_mean_order_revenue(lists.train))
    return _TrainingInputs(
        network, encoder, table, catalogue, lists, list_folds, space, vector_dim, protocol == "impressions"
    )


def _train_network(prepared: _TrainingInputs, config: RankerConfig, checkpoint: Path) -> RankerTrainer:
    """Trains to the end, or sees in the checkpoint that the end is reached."""
    with join_workers(config.precision) as worker:
        trainer = RankerTrainer(
            prepared.network,
            prepared.catalogue,
            prepared.lists.train,
            prepared.lists.validation,
            config,
            worker,
            prepared.folds,
            prepared.is_shown,
        )
        trainer.train_network(checkpoint)
    return trainer


def read_training_protocol(training_set: Path) -> str:
    """The label regime of the training lists: `impressions` where the log has them, else `contemporaneous`.

    Raises:
        UserError: there is no training list.
    """
    protocols_frame = (
        pl.scan_parquet(training_set).filter(pl.col("split") == TRAIN).select("protocol").unique().collect()
    )
    if protocols_frame.is_empty():
        raise UserError(
            f"{training_set} holds no training list; check data.split.train and the build_lists step."
        )
    protocols = set(protocols_frame["protocol"])
    return "impressions" if "impressions" in protocols else "contemporaneous"


class _TrainingLists(NamedTuple):
    """The lists of one training."""

    train: RankingLists
    validation: RankingLists
    """Lists of the training's own regime: they choose the epoch and calibrate what is served."""


def _read_lists(
    encode: Callable[..., RankingLists],
    protocol: str,
    config: RankerConfig,
    scratch: Path,
    search: HistorySearch | None,
    folds: FloatArray | None,
) -> _TrainingLists:
    item_lengths = (config.history_length, config.inferred_length)
    train, validation = (
        encode(split=split, protocol=regime, lengths=item_lengths, scratch=scratch / name, search=list_search)
        for name, split, regime, list_search in (
            ("train", TRAIN, protocol, search and search._replace(fold_vectors=folds)),
            ("validation", VALIDATION, protocol, search),
        )
    )
    return _TrainingLists(train, validation)


def _mean_order_revenue(lists: RankingLists) -> float:
    """Mean revenue of an order; 1 where nothing was ordered, or nothing has a price."""
    order_revenues = lists.values[lists.orders & (lists.values > 0)]
    lists.release_pages()
    return float(order_revenues.mean()) if len(order_revenues) else 1.0


def _write_training_report(path: Path, trainer: RankerTrainer, network: Ranker) -> None:
    progress = trainer.state.progress
    write_json(
        path,
        {
            "best_epoch": progress.best_epoch,
            "best_validation_score": progress.best_score,
            "losses": progress.losses,
            "epochs": progress.num_epochs,
            "training_lists": len(trainer.train_lists),
            "validation_lists": len(trainer.validation_lists),
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "calibration": network.calibration.tolist(),
        },
    )
