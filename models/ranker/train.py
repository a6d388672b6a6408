"""The train_ranker step: training set in, a ranker that can be served out."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from contracts.artifacts import new_artifact, read_lineage, write_json
from contracts.aspects import read_aspects
from contracts.dataset import read_dataset
from contracts.digests import code_version, digest_value
from contracts.errors import UserError
from models.ranker.batches import CatalogueTensors, catalogue_tensors
from models.ranker.calibration import fit_platt
from models.ranker.checkpoint import Progress
from models.ranker.config import RankerConfig
from models.ranker.encoding import UNKNOWN, Floats, ItemEncoder
from models.ranker.export import export_ranker, write_golden_rows
from models.ranker.feed import build_feed
from models.ranker.fusion import Opinions, fit_fusion, stack_opinions
from models.ranker.lists import TRAIN, VALIDATION
from models.ranker.network import Ranker, order_logit
from models.ranker.records import RankingRows
from models.ranker.rows import (
    ItemTable,
    encode_catalogue,
    encode_rows,
    fit_encoder,
    read_codes,
    read_folds,
    read_vectors,
    user_folds,
)
from models.ranker.search import Search
from models.ranker.statistics import ItemLog
from models.ranker.training import Trainer, score_lists, spread, use_threads
from models.workers import join_workers, launch

TRAINING_SET_FILE = "training_set.parquet"
_GOLDEN_LISTS = 8
_FUSED_LISTS = 10_000


def train_ranker(
    training_set: Path, dataset: Path, item_embeddings: Path, config: RankerConfig, *, checkpoints: Path, out: Path
) -> None:
    """Trains, calibrates and exports one ranker.

    Writes `ranker.onnx`, `weights.safetensors`, `spec.json`, the vocabularies, `golden.npz` and `training.json`.
    Training resumes from `checkpoints` exactly where it was killed, as long as inputs and config are the same.

    Raises:
        UserError: the training set holds no training list.
    """
    inputs = {"training_set": training_set, "dataset": dataset, "item_embeddings": item_embeddings}
    if config.num_processes > 1:
        launch(config.num_processes, fit_together, *inputs.values(), config, checkpoints)
    with (
        tempfile.TemporaryDirectory() as scratch,
        new_artifact(out, kind="ranker", inputs=inputs, config=config) as made,
    ):
        known = _prepare(training_set, dataset, item_embeddings, config, Path(scratch))
        network, catalogue, rows = known.network, known.catalogue, known.rows
        trainer = _train(known, config, checkpoints)
        gain = _fuse(network, catalogue, rows.validation, config) if config.features.confidences else 0.0
        _calibrate(network, catalogue, rows.calibration, config)
        if config.value_head:
            _scale_values(network, catalogue, rows.calibration, config)
        spec = export_ranker(
            network, known.encoder, config, space=known.space, vector_dim=known.vector_dim, folder=made.path
        )
        golden = build_feed(spec, known.table, rows.train, np.arange(min(_GOLDEN_LISTS, len(rows.train))))
        write_golden_rows(network, spec, golden, made.path, quantized=config.quantized)
        progress = trainer.progress
        _describe(made.path / "training.json", progress, trainer, network)
        made.metrics |= {"validation.ndcg10": progress.best_metric, "epochs": progress.epoch, "lists": len(rows.train)}
        made.metrics["validation.fusion_gain"] = gain
        made.metrics["samples_per_s"] = trainer.samples_per_s
        made.labels |= {"model_name": spec.model_name, "version": spec.version, "space": known.space}


def fit_together(
    training_set: Path, dataset: Path, item_embeddings: Path, config: RankerConfig, checkpoints: Path
) -> None:
    """Trains as one of the processes that torchrun or `launch` started and leaves the finished checkpoint.

    `train_ranker` with the same arguments goes on from there, which then is to calibrate and to export.
    """
    with tempfile.TemporaryDirectory() as scratch:
        _train(_prepare(training_set, dataset, item_embeddings, config, Path(scratch)), config, checkpoints)


class _Prepared(NamedTuple):
    """What a training starts from."""

    network: Ranker
    encoder: ItemEncoder
    table: ItemTable
    catalogue: CatalogueTensors
    rows: "_Rows"
    folds: npt.NDArray[np.int64]
    """Fold of each training list's user."""
    space: str
    vector_dim: int
    run: str
    """Digest of inputs, configuration and code: whose checkpoints are its own."""


def _prepare(
    training_set: Path, dataset: Path, item_embeddings: Path, config: RankerConfig, scratch: Path
) -> _Prepared:
    use_threads(config.num_threads)
    torch.manual_seed(config.seed)
    data = read_dataset(dataset)
    vectors, space, vector_dim = read_vectors(item_embeddings)
    encoder = fit_encoder(data, config, dim=vector_dim)
    table = encode_catalogue(data.items, vectors, encoder)
    aspects = read_aspects(item_embeddings, length=vector_dim)
    codes = torch.from_numpy(read_codes(item_embeddings, encoder)) if config.features.semantic_id else None
    network = Ranker(config, encoder.sizes, tuple(aspects.values()), codes)
    if network.lens is not None:
        # Only items that training saw may shape the lens.
        network.lens.fit(table.features.vectors[table.features.ids > UNKNOWN].astype(np.float32))
    folds = read_folds(item_embeddings, data.items["item_id"]) if config.features.vectors else None
    catalogue = catalogue_tensors(network, table, folds if network.lens is None else None)
    protocol = training_protocol(training_set / TRAINING_SET_FILE)
    log = ItemLog.index(data.behaviors, table.names) if config.features.statistics else None
    search = table.search(config.search_length, network.aspects[0] if network.lens is None else vector_dim)
    encode = partial(encode_rows, training_set / TRAINING_SET_FILE, table.names, log=log)
    learnt = folds if search is not None and len(catalogue.folds) else None
    rows = _read_rows(encode, protocol, config, scratch, search, learnt)
    own = user_folds(training_set / TRAINING_SET_FILE, split=TRAIN, protocol=protocol, num_folds=len(catalogue.folds))
    if config.value_head:
        network.usual_order.fill_(_usual_order(rows.train))
    digests = [read_lineage(path).digest for path in (training_set, dataset, item_embeddings)]
    run = digest_value([*digests, config.model_dump(mode="json"), code_version()])
    return _Prepared(network, encoder, table, catalogue, rows, own, space, vector_dim, run)


def _train(known: _Prepared, config: RankerConfig, checkpoints: Path) -> Trainer:
    """Trains to the end, or finds that it has come there."""
    with join_workers(config.precision) as worker:
        trainer = Trainer(
            known.network,
            known.catalogue,
            known.rows.train,
            known.rows.validation,
            config,
            checkpoints=checkpoints,
            run=known.run,
            worker=worker,
            folds=known.folds,
        )
        trainer.fit()
    return trainer


def training_protocol(training_set: Path) -> str:
    """The label regime of the training lists: `impressions` where the log has them, else `contemporaneous`.

    Raises:
        UserError: there is no training list.
    """
    found = pl.scan_parquet(training_set).filter(pl.col("split") == TRAIN).select("protocol").unique().collect()
    if found.is_empty():
        raise UserError(f"{training_set} holds no training list; check data.split.train and the build_lists step.")
    protocols = set(found["protocol"])
    return "impressions" if "impressions" in protocols else "contemporaneous"


class _Rows(NamedTuple):
    """The lists of one training."""

    train: RankingRows
    validation: RankingRows
    """Contemporaneous lists, on which training stops: impressions carry the position bias of what showed them."""
    calibration: RankingRows
    """Validation lists of the training's own regime: their probabilities are the ones that are served."""


def _read_rows(
    encode: Callable[..., RankingRows],
    protocol: str,
    config: RankerConfig,
    scratch: Path,
    search: Search | None,
    folds: Floats | None,
) -> _Rows:
    lengths = (config.history_length, config.inferred_length)
    train, validation, calibration = (
        encode(split=part, protocol=kind, lengths=lengths, scratch=scratch / name, search=searched)
        for name, part, kind, searched in (
            ("train", TRAIN, protocol, search and search._replace(folds=folds)),
            ("validation", VALIDATION, "contemporaneous", search),
            ("calibration", VALIDATION, protocol, search),
        )
    )
    return _Rows(train, validation if len(validation) else calibration, calibration)


def _fuse(network: Ranker, catalogue: CatalogueTensors, rows: RankingRows, config: RankerConfig) -> float:
    """Fits the weight of the behaviour model's confidence; returns the relative gain of NDCG@10 on validation lists."""
    assert network.fusion is not None
    if not len(rows):
        return 0.0
    opinions = (
        Opinions(logits.click, batch.confidences_BC, batch.mask_BC, batch.clicks_BC)
        for batch, logits in score_lists(network, catalogue, rows, spread(len(rows), _FUSED_LISTS))
    )
    return fit_fusion(network.fusion, stack_opinions(opinions), seed=config.seed)


def _calibrate(network: Ranker, catalogue: CatalogueTensors, rows: RankingRows, config: RankerConfig) -> None:
    """Fits the affine calibration of both heads on validation lists."""
    if not len(rows):
        return
    clicks, click_labels, orders, order_labels = [], [], [], []
    for batch, logits in score_lists(network, catalogue, rows, spread(len(rows), config.max_validation_lists)):
        real = batch.mask_BC > 0
        clicks.append(logits.click[real].numpy())
        click_labels.append(batch.clicks_BC[real].numpy() > 0)
        orders.append(order_logit(logits)[real].numpy())
        order_labels.append(batch.orders_BC[real].numpy() > 0)
    fitted = [
        fit_platt(np.concatenate(clicks), np.concatenate(click_labels)),
        fit_platt(np.concatenate(orders), np.concatenate(order_labels)),
    ]
    network.calibration.copy_(torch.tensor(fitted))


def _scale_values(network: Ranker, catalogue: CatalogueTensors, rows: RankingRows, config: RankerConfig) -> None:
    """Makes the expected revenue of the validation lists what they earned."""
    expected = earned = 0.0
    for batch, logits in score_lists(network, catalogue, rows, spread(len(rows), config.max_validation_lists)):
        *_, value = network.calibrated(logits)
        expected += float((value * batch.mask_BC).sum())
        earned += float(batch.values_BC.sum())
    if expected > 0 and earned > 0:
        network.usual_order.mul_(earned / expected)


def _usual_order(rows: RankingRows) -> float:
    """Mean revenue of an order; 1 where nothing was ordered, or nothing has a price."""
    paid = rows.values[rows.orders & (rows.values > 0)]
    rows.release()
    return float(paid.mean()) if len(paid) else 1.0


def _describe(path: Path, progress: Progress, trainer: Trainer, network: Ranker) -> None:
    write_json(
        path,
        {
            "best_epoch": progress.best_epoch,
            "best_validation_ndcg10": progress.best_metric,
            "losses": progress.losses,
            "epochs": progress.epoch,
            "training_lists": len(trainer.train),
            "validation_lists": len(trainer.validation),
            "parameters": sum(value.numel() for value in network.parameters()),
            "calibration": network.calibration.tolist(),
        },
    )
