"""LightGBM on exactly what the network's score tower reads: the peer that a network has to beat.

An untrained network reads the lists. Its distributions (composition, counts, histograms) have few weights,
and start as sensible counters. They are joined by the codes of the candidate and the place on the page, which
is the first one when pages are scored.

Legend: B lists, C candidates, F features, M candidates of all lists.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import lightgbm
import numpy as np
import torch

from benchmarks.loop.prepared_shop import TRUTH_PROTOCOL, PreparedShop
from benchmarks.loop.scored_rankers import (
    RANKERS,
    TRAINING_SOURCES,
    RankerScores,
    describe_ranker,
    read_scores,
    write_scores,
)
from benchmarks.shared.results import digest_sources
from contracts.array_types import BoolArray, FloatArray, IntArray
from contracts.artifacts import read_lineage
from contracts.dataset import read_dataset
from contracts.digests import digest_value
from contracts.embedding_aspects import read_aspects
from models.ranker.evaluation.exported_ranker import CandidateScores
from models.ranker.lists.build_lists import TEST, TRAIN, VALIDATION
from models.ranker.lists.encode_catalogue import (
    encode_catalogue,
    fit_encoder,
    read_fold_vectors,
    read_item_vectors,
)
from models.ranker.lists.encode_lists import TRAINING_SET_FILE, assign_user_folds, encode_lists
from models.ranker.lists.item_statistics import ItemActivity
from models.ranker.lists.mapped_lists import RankingLists
from models.ranker.network.ranker_network import Ranker
from models.ranker.training.list_batches import (
    CatalogueTensors,
    build_catalogue_tensors,
    make_list_batch,
    represent_lists,
)

_LISTS_PER_BATCH: Final = 256
_NUM_CODES: Final = 4
"""Id, category, brand and price bucket: the first columns."""
_POSITION: Final = _NUM_CODES
_SETTINGS: Final[dict[str, Any]] = {
    "objective": "binary",
    "metric": "binary_logloss",
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "max_bin": 63,
    "num_threads": 1,
    "seed": 0,
    "verbosity": -1,
}
_MAX_TREES: Final = 1_500
_PATIENCE: Final = 50


class TableReader(NamedTuple):
    """An untrained network and the catalogue that it looks up."""

    network: Ranker
    catalogue: CatalogueTensors
    item_id_enum: Any
    activity: ItemActivity | None


class FeatureTable(NamedTuple):
    """Candidates as rows of a table."""

    features: FloatArray
    """[M, F] codes, place, and what the network reads."""
    clicks: BoolArray
    """[M]"""


def score_lightgbm_once(prepared: PreparedShop) -> RankerScores:
    """Trains LightGBM and scores it, or reads what was scored before by the same code."""
    inputs = [read_lineage(path).digest for path in (*prepared.ranker_inputs, prepared.truth_set)]
    code = digest_sources(*TRAINING_SOURCES, "benchmarks/loop/lightgbm_peer.py")
    scores_file = prepared.folder / "lightgbm" / f"{digest_value([inputs, code])}.npz"
    if not scores_file.exists():
        print(f"{prepared.name}: training lightgbm", flush=True)
        scores_file.parent.mkdir(parents=True, exist_ok=True)
        write_scores(scores_file, train_and_score(prepared))
    return read_scores(scores_file)


def train_and_score(prepared: PreparedShop) -> RankerScores:
    """Trains on the shown training pages, stops by the log loss of the validation pages."""
    reader = open_reader(prepared)
    train = read_table(reader, prepared.training_set, TRAIN, "impressions", use_folds=True)
    validation = read_table(reader, prepared.training_set, VALIDATION, "impressions")
    categorical = list(range(_NUM_CODES))
    train_data = lightgbm.Dataset(train.features, train.clicks, categorical_feature=categorical)
    booster = lightgbm.train(
        _SETTINGS,
        train_data,
        num_boost_round=_MAX_TREES,
        valid_sets=[train_data.create_valid(validation.features, validation.clicks)],
        callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
    )
    print(f"{prepared.name}: lightgbm stopped at {booster.best_iteration} trees", flush=True)
    parts = (
        read_table(reader, lists_folder, TEST, protocol)
        for lists_folder, protocol in (
            (prepared.training_set, "impressions"),
            (prepared.truth_set, TRUTH_PROTOCOL),
        )
    )
    return RankerScores(*(_score_table(booster, part) for part in parts))


def open_reader(prepared: PreparedShop) -> TableReader:
    """Builds the untrained network of the full ranker."""
    config = describe_ranker(RANKERS["full"])
    data = read_dataset(prepared.dataset)
    vectors, _, dim = read_item_vectors(prepared.space)
    encoder = fit_encoder(data, dim=dim)
    table = encode_catalogue(data.items, vectors, encoder)
    aspects = tuple(read_aspects(prepared.space, length=dim).values())
    torch.manual_seed(config.seed)
    network = Ranker(config, encoder.table_sizes, aspects).eval()
    folds = read_fold_vectors(prepared.space, data.items["item_id"])
    activity = None
    if config.features.statistics:
        activity = ItemActivity.index_behaviors(data.behaviors, table.item_id_enum)
    return TableReader(network, build_catalogue_tensors(table, folds), table.item_id_enum, activity)


def read_table(
    reader: TableReader,
    lists_folder: Path,
    split: str,
    protocol: str,
    *,
    use_folds: bool = False,
) -> FeatureTable:
    """Reads all lists of a part and protocol; `use_folds`: each user's items as learned without them."""
    lists_file = lists_folder / TRAINING_SET_FILE
    num_folds = len(reader.catalogue.folds) if use_folds else 0
    config = describe_ranker(RANKERS["full"])
    lengths = (config.history_length, config.inferred_length)
    folds = assign_user_folds(lists_file, split=split, protocol=protocol, num_folds=num_folds)
    with _open_lists(lists_file, reader, split, protocol, lengths) as lists:
        batches = [
            (rows, fold if num_folds else None)
            for fold in np.unique(folds).tolist()
            for rows in _divide_rows(np.flatnonzero(folds == fold))
        ]
        parts = [_read_batch(reader, lists, rows, fold) for rows, fold in batches]
    return FeatureTable(
        np.concatenate([part.features for part in parts]), np.concatenate([part.clicks for part in parts])
    )


@contextmanager
def _open_lists(
    lists_file: Path, reader: TableReader, split: str, protocol: str, lengths: tuple[int, int]
) -> Iterator[RankingLists]:
    with TemporaryDirectory() as scratch:
        yield encode_lists(
            lists_file,
            reader.item_id_enum,
            split=split,
            protocol=protocol,
            lengths=lengths,
            scratch=Path(scratch),
            activity=reader.activity,
        )


def _divide_rows(rows: IntArray) -> list[IntArray]:
    return [rows[start : start + _LISTS_PER_BATCH] for start in range(0, len(rows), _LISTS_PER_BATCH)]


@torch.inference_mode()
def _read_batch(reader: TableReader, lists: RankingLists, rows: IntArray, fold: int | None) -> FeatureTable:
    batch = make_list_batch(lists, rows, fold)
    represented = represent_lists(reader.network, reader.catalogue, batch)
    _, distributions_BFC, _ = reader.network.read_lists(represented)
    is_real_BC = batch.mask_BC > 0
    positions_BC = torch.arange(is_real_BC.shape[1]).expand(is_real_BC.shape)
    columns_BC = [codes.float() for codes in represented.candidate_fields.values()]
    assert len(columns_BC) == _NUM_CODES
    read_BCF = torch.cat(
        [
            torch.stack([*columns_BC, positions_BC.float()], -1),
            *_list_plain_inputs(represented.inputs, is_real_BC),
            *(distribution.transpose(1, 2) for distribution in distributions_BFC),
        ],
        -1,
    )
    return FeatureTable(read_BCF[is_real_BC].numpy(), (batch.clicks_BC[is_real_BC] > 0).numpy())


def _list_plain_inputs(inputs: Any, is_real_BC: torch.Tensor) -> list[torch.Tensor]:
    """What the graph is given of candidates and of the page, as [B, C, F] each."""
    plain = []
    for name, values in inputs.items():
        if name.startswith("candidate_") and values.numel():
            plain.append((values if values.dim() == 3 else values.unsqueeze(-1)).float())
        elif name.startswith("context_") and values.dim() == 2 and values.shape[1] == 1:
            plain.append(values.unsqueeze(-1).expand(*is_real_BC.shape, 1).float())
    return plain


def _score_table(booster: lightgbm.Booster, table: FeatureTable) -> CandidateScores:
    table.features[:, _POSITION] = 0
    click = np.asarray(booster.predict(table.features), np.float32)
    return CandidateScores(click, np.zeros_like(click), click)
