"""Every model of the behavior benchmark: it learns what is visible and names lists for the asked users.

A job trains one model, or a family that shares its training, and keeps the lists in a file named by the
sources that made them, so a second run of the benchmark takes over what has not changed.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.behavior.hidden_behaviors import LIST_LENGTH, Task
from benchmarks.behavior.peers import linear
from benchmarks.behavior.peers.bert4rec import train_bert4rec
from benchmarks.behavior.peers.generative import train_generative_peer
from benchmarks.behavior.peers.log import (
    PeerLog,
    Recommender,
    make_peer_log,
    recommend_by_score,
    recommend_to_users,
)
from benchmarks.behavior.peers.sasrec import train_sasrec
from benchmarks.behavior.peers.training import PeerConfig
from benchmarks.behavior.task_inputs import BehaviorBench, prepare_bench, read_raw_vectors
from benchmarks.shared.results import REPOSITORY, digest_sources
from contracts.array_types import IntArray
from contracts.artifacts import read_table
from contracts.dataset import read_dataset
from contracts.digests import digest_file, digest_value
from contracts.tables import ITEMS
from models.behavior.behavior_model import load_model, make_decoder
from models.behavior.config import BehaviorConfig
from models.behavior.decoding.top_items import LogSnapshot, estimate_trend_prior, rank_whole_catalogue
from models.behavior.sequences.behavior_catalogue import read_behavior_catalogue
from models.behavior.sequences.user_sequences import find_distinct_behaviors
from models.behavior.training.train_behavior_model import train_behavior_model
from models.knowledge.config import SemanticIdConfig
from models.knowledge.embedding.semantic_ids import fit_semantic_ids

_PEERS = REPOSITORY / "benchmarks" / "behavior" / "peers"


class Job(NamedTuple):
    """What one process works on."""

    dataset: str
    models: str
    """`model` (alone, and as it ships), `linear` (all untrained peers), or a key of `PEER_SETTINGS`."""


PEER_SETTINGS: dict[str, PeerConfig] = {
    "bert4rec_text": PeerConfig(),
    "bert4rec": PeerConfig(learning_rate=2e-3),
    "sasrec": PeerConfig(),
    "generative": PeerConfig(epochs=10, learning_rate=2e-3),
}
"""Trained peers -> their settings, chosen on validation users of `scientific`."""
PUBLIC_PEERS = ("bert4rec_text", "sasrec", "generative")
"""The trained peers that are measured on public data sets."""
_MAX_BEHAVIORS_SEEN = 45_000
"""A larger log gets fewer epochs, so that each peer takes about as many steps everywhere."""


def run_model_job(job: Job) -> dict[str, IntArray]:
    """Names lists with the models of one job."""
    return name_lists_once(prepare_bench(job.dataset), job.models)


def name_lists_once(bench: BehaviorBench, models: str = "model") -> dict[str, IntArray]:
    """Trains and infers, or reads what an earlier run of the same code left.

    Args:
        bench: The task, and what is read beside it.
        models: As in `Job`.

    Returns:
        Model -> its lists [U, K] of item numbers, -1 where there is none; rows of users who were not asked
        hold -1.
    """
    torch.set_num_threads(1)
    is_peer = models != "model"
    maker_digests = [digest_peer_code(bench.task, models) if is_peer else _digest_training(bench)]
    if models == "generative":
        maker_digests.append(bench.space.name)
    lists_file = bench.folder / "lists" / f"{models}-{digest_value(maker_digests)}.npz"
    if not lists_file.is_file():
        lists_file.parent.mkdir(parents=True, exist_ok=True)
        new_lists = _recommend_with_peer(bench, models) if is_peer else _infer_with_model(bench)
        np.savez(lists_file, allow_pickle=False, **new_lists)
    with np.load(lists_file, allow_pickle=False) as stored_lists:
        return dict(stored_lists)


def read_peer_log(bench: BehaviorBench) -> PeerLog:
    """What peers learn from. The generative one reads residual codes of the behavior model's space."""
    catalogue = read_behavior_catalogue(read_table(bench.task.dataset / "items.parquet", ITEMS), bench.space)
    assert catalogue.item_ids.equals(bench.task.item_ids)
    semantic_ids = fit_semantic_ids(catalogue.vectors, catalogue.item_ids, SemanticIdConfig(), seed=0)
    raw_vectors = read_raw_vectors(bench.config, bench.task.dataset, bench.folder)
    return make_peer_log(bench.task, raw_vectors, semantic_ids.codes.astype(np.int64))


def train_model(bench: BehaviorBench) -> Path:
    """The trained behavior model; made once per code and configuration."""
    out = bench.folder / f"behavior-model-{_digest_training(bench)}"
    if not out.exists():
        train_behavior_model(
            bench.task.dataset,
            bench.space,
            _configure_model(bench),
            checkpoints=bench.folder / "checkpoints",
            out=out,
            knowledge=bench.knowledge,
        )
    return out


def _configure_model(bench: BehaviorBench) -> BehaviorConfig:
    """The data set's own configuration, but for times: hidden behaviors are of all times.

    So the visible log is learned from to its end, and the popularity of all times is the prior.
    """
    config = bench.config.behavior
    decoding = config.decoding.model_copy(update={"trend_days": 36_500.0})
    return config.model_copy(update={"train_fraction": 1.0, "decoding": decoding})


def _digest_training(bench: BehaviorBench) -> str:
    """Digest of all that a training is made of."""
    settings = _configure_model(bench).model_dump(mode="json")
    return digest_value([digest_sources("models/behavior"), settings, bench.space.name, bench.knowledge.name])


def digest_peer_code(task: Task, name: str) -> str:
    """Digest of a peer's sources and settings."""
    linear_file = _PEERS / "linear.py"
    trained_files = set(_PEERS.glob("*.py")) - {linear_file}
    peer_files = {linear_file, _PEERS / "log.py"} if name == "linear" else trained_files
    file_digests = [digest_file(path) for path in sorted(peer_files)]
    settings = _configure_peer(task, name).model_dump() if name in PEER_SETTINGS else ""
    return digest_value([file_digests, settings])


def _configure_peer(task: Task, name: str) -> PeerConfig:
    epoch_share = min(1.0, _MAX_BEHAVIORS_SEEN / len(task.visible))
    num_epochs = math.ceil(PEER_SETTINGS[name].epochs * epoch_share)
    return PEER_SETTINGS[name].model_copy(update={"epochs": num_epochs})


def _recommend_with_peer(bench: BehaviorBench, name: str) -> dict[str, IntArray]:
    log = read_peer_log(bench)
    recommenders = dict(_build_linear_peers(log)) if name == "linear" else {name: _train_peer(log, name)}
    asked_users = log.task.asked_users
    return {name: recommend_to_users(log, recommend, asked_users) for name, recommend in recommenders.items()}


def _train_peer(log: PeerLog, name: str) -> Recommender:
    config = _configure_peer(log.task, name)
    if name == "generative":
        return train_generative_peer(log, config)
    if name == "sasrec":
        return recommend_by_score(train_sasrec(log, config))
    return recommend_by_score(train_bert4rec(log, config, text=name == "bert4rec_text"))


def _build_linear_peers(log: PeerLog) -> Iterator[tuple[str, Recommender]]:
    yield "popularity", recommend_by_score(linear.score_popularity(log))
    yield "item_knn", recommend_by_score(linear.score_item_knn(log))
    text_scorer, ease_scorer = linear.score_text_knn(log), linear.score_ease(log)
    yield "text_knn", recommend_by_score(text_scorer)
    yield "ease", recommend_by_score(ease_scorer)
    for name, scorer in linear.score_ease_with_text(log, text_scorer).items():
        yield name, recommend_by_score(scorer)


def _infer_with_model(bench: BehaviorBench) -> dict[str, IntArray]:
    """The model alone and as it ships."""
    task, config = bench.task, _configure_model(bench)
    catalogue = read_behavior_catalogue(read_table(task.dataset / "items.parquet", ITEMS), bench.space)
    model = load_model(train_model(bench), catalogue)
    distinct_behaviors = find_distinct_behaviors(read_dataset(task.dataset).behaviors, catalogue)
    snapshot = LogSnapshot(model.card.trained_until, distinct_behaviors, catalogue)
    log_prior = estimate_trend_prior(snapshot, config.decoding.trend_days)
    lists_by_model = {}
    for name, is_alone in {"model": True, "shipped": False}.items():
        decoder = make_decoder(model, catalogue, log_prior, config.decoding, alone=is_alone)
        top_items = rank_whole_catalogue(
            snapshot,
            task.users.gather(task.asked_users),
            decoder.compute_confidences,
            max_history=config.max_history - config.decoding.num_slots,
            num_items=LIST_LENGTH,
        )
        lists_by_model[name] = np.full((len(task.users), LIST_LENGTH), -1, dtype=np.int64)
        lists_by_model[name][task.asked_users] = top_items.items
    return lists_by_model
