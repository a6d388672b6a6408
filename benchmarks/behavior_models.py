"""Every model of the behaviour benchmark on one task: trained on what is visible, its lists of the asked users.

A job trains one model, or a family that shares its training, and keeps the lists in a file named by the sources that
made them, so a second run of the benchmark takes over what has not changed.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch

from benchmarks.behavior_protocol import LIST_LENGTH, Ints, Kind, Task
from benchmarks.behavior_tasks import Bench, prepare, raw_vectors
from benchmarks.peers import linear
from benchmarks.peers.bert4rec import bert4rec
from benchmarks.peers.generative import generative
from benchmarks.peers.log import PeerLog, Recommender, by_score, lists_of, make_log
from benchmarks.peers.sasrec import sasrec
from benchmarks.peers.training import PeerConfig
from benchmarks.results import ROOT
from contracts.artifacts import read_table
from contracts.dataset import read_dataset
from contracts.digests import digest_file, digest_value
from contracts.pretrained import MINILM
from contracts.tables import ITEMS
from models.behavior.catalogue import Catalogue, read_catalogue
from models.behavior.config import BehaviorConfig, DecodingConfig
from models.behavior.decode import Decoder
from models.behavior.histories import distinct_behaviors
from models.behavior.model import load_model, make_decoder
from models.behavior.recommend import Moment, top_items, trend_prior
from models.behavior.train import train_behavior_model
from models.knowledge.config import SemanticIdConfig
from models.knowledge.semantic_ids import quantise

ALL_TIME = {"train_fraction": 1.0, "decoding.trend_days": 36_500.0}
"""The visible log is learnt from to its end. Hidden behaviours are of all times, so the prior popularity is too."""
_PEERS = ROOT / "peers"


class Lists(NamedTuple):
    """What a model named."""

    items: Ints
    """[U, K] item numbers, -1 where there is none; rows of users who were not asked hold -1."""
    users_per_s: float
    """Users served in a second of one thread's processor time, of this one run."""


class Job(NamedTuple):
    """What one process works on."""

    dataset: str
    kind: Kind
    models: str
    """A key of `PEERS` or of `VARIANTS`, or `linear`."""


PEERS: dict[str, PeerConfig] = {
    "bert4rec_text": PeerConfig(),
    "bert4rec": PeerConfig(learning_rate=2e-3),
    "sasrec": PeerConfig(),
    "generative": PeerConfig(epochs=10, learning_rate=2e-3),
}
"""Trained peers -> their settings, chosen on validation users of `scientific`."""
_MAX_BEHAVIORS_SEEN = 45_000
"""Behaviours of an epoch: a larger log gets fewer epochs, so that each peer takes about as many steps everywhere."""
ELSEWHERE = {"kinds.weight": 0.8, "kinds.satiation": 2.0, "decoding.popularity_weight": 0.4}
"""What suits behaviours elsewhere; chosen on the truth of a shop of another seed."""
VARIANTS: dict[str, dict[str, Any]] = {
    "model": {},
    "without_knowledge": {},
    "pretrained": {"network.pretrained": MINILM},
    "elsewhere": ELSEWHERE,
    "elsewhere_without_pseudo": ELSEWHERE | {"kinds.pseudo_users": 0.0},
}
"""Trainings of the behaviour model -> what differs from its configuration. `without_knowledge` is given the vectors and
semantic ids of other items at random."""
DECODINGS: dict[str, dict[str, Any]] = {
    "steps2": {"num_steps": 2, "num_slots": 4},
    "steps4": {"num_steps": 4, "num_slots": 4},
    "slots1": {"num_slots": 1},
    "slots4": {"num_slots": 4},
    "popularity1": {"popularity_weight": 1.0},
    "popularity0": {"popularity_weight": 0.0},
}
"""Ways of decoding of the full model -> what differs from its configuration."""
PARTIAL: dict[str, dict[str, float]] = {
    "without_associations": {"association": 0.0},
    "without_context": {"context": 0.0},
}
"""The full model alone without a part of its score -> the weights that differ."""


def run_job(job: Job) -> dict[str, Lists]:
    """Trains and infers, or reads what an earlier run of the same code left."""
    torch.set_num_threads(1)
    bench = prepare(job.dataset, job.kind)
    is_peer = job.models == "linear" or job.models in PEERS
    ours = [] if is_peer else [_variant_code(bench, job.models), DECODINGS, PARTIAL]
    made_of = [peer_code(bench.task, job.models)] if is_peer else ours
    if job.models == "generative":
        made_of.append(bench.space.name)
    folder = bench.folder / "lists" / f"{job.models}-{digest_value(made_of)}"
    if not (folder / "speed.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        found = _peer(bench, job.models) if is_peer else _behavior(bench, job.models)
        for name, lists in found.items():
            np.save(folder / f"{name}.npy", lists.items)
        speeds = {name: lists.users_per_s for name, lists in found.items()}
        (folder / "speed.json").write_text(json.dumps(speeds), encoding="utf-8")
    speeds = json.loads((folder / "speed.json").read_text(encoding="utf-8"))
    return {name: Lists(np.load(folder / f"{name}.npy"), speed) for name, speed in speeds.items()}


def run_all(jobs: list[Job]) -> list[dict[str, Lists]]:
    """Every job, as many at once as there are cores."""
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=get_context("spawn")) as pool:
        return list(pool.map(run_job, jobs))


def peer_log(bench: Bench) -> PeerLog:
    """What peers learn from. The generative one reads residual codes of the same space as the behaviour model."""
    catalogue = read_catalogue(read_table(bench.task.dataset / "items.parquet", ITEMS), bench.space)
    assert catalogue.item_ids.equals(bench.task.item_ids)
    config = SemanticIdConfig(method="residual")
    names = bench.task.item_ids.to_numpy().astype(str)
    codes = quantise(catalogue.vectors, config, seed=0, order=names).codes.astype(np.int64)
    return make_log(bench.task, raw_vectors(bench.config, bench.task.dataset, bench.folder), codes)


def behavior_config(bench: Bench, variant: str) -> BehaviorConfig:
    """The data set's own configuration; training may see all that is visible."""
    return open_to_the_end(bench.config.behavior, VARIANTS[variant])


def behavior_code() -> str:
    """Digest of the room's sources: what was trained by them is used again."""
    return digest_value([digest_file(path) for path in sorted((ROOT.parent / "models" / "behavior").glob("*.py"))])


def open_to_the_end(config: BehaviorConfig, changes: dict[str, Any]) -> BehaviorConfig:
    """The configuration with `changes` (dotted key -> value); training sees all before the training end."""
    tree = config.model_dump()
    for key, value in (ALL_TIME | changes).items():
        branch, _, leaf = key.rpartition(".")
        (tree[branch] if branch else tree)[leaf] = value
    return BehaviorConfig.model_validate(tree)


def behavior_model(bench: Bench, variant: str) -> Path:
    """The trained artifact of a variant; made once per code and configuration."""
    config, space = behavior_config(bench, variant), _space(bench, variant)
    out = bench.folder / f"behavior-{variant}-{_variant_code(bench, variant)}"
    if not out.exists():
        train_behavior_model(
            bench.task.dataset,
            space,
            config,
            checkpoints=bench.folder / "checkpoints",
            out=out,
            knowledge=bench.knowledge,
        )
    return out


def _variant_code(bench: Bench, variant: str) -> str:
    """Digest of all that a training is made of."""
    config = behavior_config(bench, variant).model_dump(mode="json")
    return digest_value([behavior_code(), config, _space(bench, variant).name, bench.knowledge.name])


def _space(bench: Bench, variant: str) -> Path:
    return bench.shuffled if variant == "without_knowledge" else bench.space


def peer_code(task: Task, name: str) -> str:
    """Digest of a peer's sources and settings."""
    untrained = _PEERS / "linear.py"
    used = {untrained, _PEERS / "log.py"} if name == "linear" else set(_PEERS.glob("*.py")) - {untrained}
    sources = [digest_file(path) for path in sorted(used)]
    return digest_value([sources, _peer_config(task, name).model_dump() if name in PEERS else ""])


def _peer_config(task: Task, name: str) -> PeerConfig:
    share = min(1.0, _MAX_BEHAVIORS_SEEN / len(task.visible))
    return PEERS[name].model_copy(update={"epochs": math.ceil(PEERS[name].epochs * share)})


def _peer(bench: Bench, name: str) -> dict[str, Lists]:
    log = peer_log(bench)
    made = dict(_linear(log)) if name == "linear" else {name: _trained(log, name)}
    return {model: _timed(partial(lists_of, log, recommend), log.task.asked) for model, recommend in made.items()}


def _trained(log: PeerLog, name: str) -> Recommender:
    config = _peer_config(log.task, name)
    if name == "generative":
        return generative(log, config)
    return by_score(sasrec(log, config) if name == "sasrec" else bert4rec(log, config, text=name == "bert4rec_text"))


def _linear(log: PeerLog) -> Iterator[tuple[str, Recommender]]:
    yield "popularity", by_score(linear.popularity(log))
    yield "item_knn", by_score(linear.item_knn(log))
    text, ease = linear.text_knn(log), linear.ease(log)
    yield "text_knn", by_score(text)
    yield "ease", by_score(ease)
    for name, scorer in linear.ease_text(log, text).items():
        yield name, by_score(scorer)


def _behavior(bench: Bench, variant: str) -> dict[str, Lists]:
    """The model alone and as it ships; of the full model the other ways of decoding too."""
    shipped = "shipped" if variant == "model" else f"{variant}_shipped"
    found = {
        variant: _infer(bench, variant, {}, alone=True),
        shipped: _infer(bench, variant, {}, alone=False),
    }
    if variant == "model":
        found |= {name: _infer(bench, variant, how, alone=True) for name, how in DECODINGS.items()}
        found |= {name: _infer(bench, variant, {}, alone=True, weights=left) for name, left in PARTIAL.items()}
    return found


def open_decoder(
    artifact: Path, catalogue: Catalogue, behaviors: pl.DataFrame, decoding: DecodingConfig, *, alone: bool
) -> tuple[Decoder, Moment]:
    """A trained model at its training's end; `behaviors` are EVENTS rows before it that the prior is counted from."""
    model = load_model(artifact, catalogue, decoding)
    moment = Moment(model.card.trained_until, distinct_behaviors(behaviors, catalogue), catalogue)
    return make_decoder(model, catalogue, trend_prior(moment, decoding.trend_days), decoding, alone=alone), moment


def _infer(
    bench: Bench, variant: str, how: dict[str, Any], *, alone: bool, weights: dict[str, float] | None = None
) -> Lists:
    task, config, artifact = bench.task, behavior_config(bench, variant), behavior_model(bench, variant)
    catalogue = read_catalogue(read_table(task.dataset / "items.parquet", ITEMS), _space(bench, variant))
    decoding = config.decoding.model_copy(update=how)
    behaviors = read_dataset(task.dataset).behaviors
    decoder, moment = open_decoder(artifact, catalogue, behaviors, decoding, alone=alone)
    decoder = replace(decoder, weights=decoder.weights.model_copy(update=weights))

    def infer(users: Ints) -> Ints:
        length = config.max_history - decoding.num_slots
        found = np.full((len(task.users), LIST_LENGTH), -1, dtype=np.int64)
        names = task.users.gather(users)
        ranked = top_items(moment, names, decoder.confidences, max_history=length, num_items=LIST_LENGTH)
        found[users] = ranked.items
        return found

    return _timed(infer, task.asked)


def _timed(infer: Callable[[Ints], Ints], users: Ints) -> Lists:
    started = time.process_time()
    items = infer(users)
    return Lists(items, len(users) / (time.process_time() - started))
