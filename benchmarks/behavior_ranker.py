"""What a ranker gains from inferred behaviours: items, confidences and the candidate's own log-probability.

`scientific`, contemporaneous lists. The base is the product's ranker on the history alone (knowledge, no inferred
behaviours). A listwise re-ranker is fitted on the validation lists to the base's score, the candidate's popularity and
the length of the history; the rows differ only in what else it may read. Placebo lists stand where the inferred items
stood, with their confidences: random items, or the most popular ones that the user has not logged. All models of
behaviour learnt from what lies before the validation lists; the history at the time of a list is what they read.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import polars as pl
import torch

from benchmarks.behavior_candidates import NUM_LISTED, Judges, Lists, read_lists
from benchmarks.behavior_models import behavior_code, open_decoder, open_to_the_end, peer_code
from benchmarks.behavior_protocol import Ints, Reals, Task, read_task, write_visible
from benchmarks.behavior_quality import COMMAND, ratio
from benchmarks.behavior_tasks import make_space, raw_vectors
from benchmarks.peers import linear
from benchmarks.peers.bert4rec import bert4rec
from benchmarks.peers.log import NO_ITEM, Floats, PeerLog, make_log
from benchmarks.peers.training import PeerConfig
from benchmarks.reranker import fit_reranker, ndcg10, score
from benchmarks.results import ROOT, Row, make_row
from contracts.artifacts import read_table
from contracts.dataset import before, read_dataset
from contracts.digests import digest_value
from contracts.ingestion.ingest import ingest
from contracts.tables import ITEMS, TRAINING_SET
from feature_repo.build import build_features
from feature_repo.join import join_features
from models.behavior.catalogue import read_catalogue
from models.behavior.decode import Decoder
from models.behavior.infer import infer_behaviors
from models.behavior.train import train_behavior_model
from models.ranker.bootstrap import compare
from models.ranker.config import FeatureConfig, RankerConfig
from models.ranker.lists import TEST, VALIDATION, build_lists
from models.ranker.rows import encode_rows, read_vectors
from models.ranker.scoring import ExportedRanker
from models.ranker.train import TRAINING_SET_FILE, train_ranker
from pipelines.config import load_config

_DATASET, _PROTOCOL, _SEEDS = "scientific", "contemporaneous", 3
_BASE = ("ranker", "popularity", "length")
_OTHERS = ("ease", "bert4rec_text")
FEATURES: dict[str, tuple[str, ...]] = {
    "history": _BASE,
    "placebo_random": (*_BASE, "random"),
    "placebo_popular": (*_BASE, "popular"),
    "inferred_items": (*_BASE, "inferred"),
    "inferred": (*_BASE, "inferred", "log_probability"),
    "inferred_listed": (*_BASE, "inferred", "listed"),
    "inferred_parts": (*_BASE, "inferred", "log_probability", "parts"),
    "ease_bert": (*_BASE, *_OTHERS),
    "ease_bert_inferred": (*_BASE, *_OTHERS, "inferred", "log_probability"),
}
"""Row -> what the re-ranker reads. `random`, `popular` and `inferred` are what a list says of the candidate; `parts` is
what the log-probability is made of, `listed` what a list of the served length keeps of it."""
_COMPARED = (
    ("over_history", "inferred", "history"),
    ("listed_over_history", "inferred_listed", "history"),
    ("parts_over_history", "inferred_parts", "history"),
    ("items_over_history", "inferred_items", "history"),
    ("over_placebo_random", "inferred", "placebo_random"),
    ("over_placebo_popular", "inferred", "placebo_popular"),
    ("over_ease_bert", "ease_bert_inferred", "ease_bert"),
)


class Prepared(NamedTuple):
    """Artifact folders."""

    dataset: Path
    space: Path
    behavior_model: Path
    training_set: Path


class Part(NamedTuple):
    """The lists of a part of the log with the features of their candidates, the ranker's score apart."""

    lists: Lists
    features: dict[str, list[Floats]]


def measure(*, quick: bool) -> list[Row]:
    """All rows of the ranker's gain; `quick`: one seed."""
    os.chdir(ROOT.parent)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    folder = prepare()
    parts = _parts(folder)
    found: dict[str, list[Reals]] = {name: [] for name in FEATURES}
    for seed in range(1 if quick else _SEEDS):
        for name, values in _seed(folder, parts, seed).items():
            print(f"ranker, seed {seed}: {name} NDCG@10 {values.mean():.4f}", flush=True)
            found[name].append(values)
    return list(_rows(found, parts[TEST].lists.users))


def prepare() -> Prepared:
    """Dataset, lists, space, behaviour model, inferred behaviours, training set; made once per code."""
    config = load_config(Path(f"configs/{_DATASET}.yaml"))
    assert config.data is not None
    data, behavior = config.data, open_to_the_end(config.behavior, {"decoding.num_snapshots": 3})
    key = digest_value([data.model_dump(mode="json"), config.embedding.model_dump(mode="json")])
    folder = config.home / "bench_behavior" / f"ranker-{key}"
    dataset, lists = folder / "dataset", folder / "lists"
    _run({dataset: lambda: ingest(data, out=dataset), lists: lambda: build_lists(dataset, config.lists, out=lists)})
    knowledge, space = make_space(config, dataset, folder, config.embedding)
    made = folder / digest_value([behavior_code(), behavior.model_dump(mode="json"), space.name])
    made.mkdir(parents=True, exist_ok=True)
    model, inferred = made / "behavior_model", made / "inferred"
    features, joined = made / "features", made / "training_set"
    _run(
        {
            model: lambda: train_behavior_model(
                dataset, space, behavior, checkpoints=folder / "checkpoints", out=model, knowledge=knowledge
            ),
            inferred: lambda: infer_behaviors(dataset, space, model, behavior, out=inferred),
            features: lambda: build_features(dataset, space, inferred, config.features, out=features),
            joined: lambda: join_features(lists, features, config.features, out=joined),
        }
    )
    return Prepared(dataset, space, model, joined)


def _run(steps: dict[Path, Callable[[], object]]) -> None:
    """Runs the steps whose artifacts are not there yet."""
    for out, step in steps.items():
        if not out.exists():
            print(f"ranker: {out.name}", flush=True)
            step()


def _seed(folder: Prepared, parts: dict[str, Part], seed: int) -> dict[str, Reals]:
    """NDCG@10 of each test list, by row."""
    with TemporaryDirectory() as scratch:
        base = _train_base(folder, seed, Path(scratch))
    found = {}
    for name, wanted in FEATURES.items():
        inputs = {part: _stack(made, wanted, base[part]) for part, made in parts.items()}
        fitted, tested = parts[VALIDATION].lists, parts[TEST].lists
        model = fit_reranker(inputs[VALIDATION], fitted.mask, fitted.clicked, seed=seed)
        scores = score(model, torch.from_numpy(inputs[TEST]), torch.from_numpy(tested.mask)).numpy()
        found[name] = ndcg10(scores, tested.clicked)
    return found


def _stack(part: Part, wanted: tuple[str, ...], base: Floats) -> Floats:
    """Features [L, C, F]."""
    matrices = [base if name == "ranker" else matrix for name in wanted for matrix in part.features.get(name, [base])]
    return np.stack(matrices, axis=2).astype(np.float32)


def _train_base(folder: Prepared, seed: int, scratch: Path) -> dict[str, Floats]:
    """The product's ranker without inferred behaviours: its score of every candidate, by part."""
    config = RankerConfig(seed=seed, features=FeatureConfig(inferred=False))
    train_ranker(
        folder.training_set,
        folder.dataset,
        folder.space,
        config,
        checkpoints=scratch / "checkpoints",
        out=scratch / "ranker",
    )
    vectors, space, _ = read_vectors(folder.space)
    items = read_dataset(folder.dataset).items
    ranker = ExportedRanker(scratch / "ranker", items, vectors, space=space, num_threads=0)
    table = folder.training_set / TRAINING_SET_FILE
    lengths = (ranker.spec.history_length, ranker.spec.inferred_length)
    found = {}
    for part in (VALIDATION, TEST):
        rows = encode_rows(
            table, ranker.table.names, split=part, protocol=_PROTOCOL, lengths=lengths, scratch=scratch / part
        )
        flat = ranker.score(rows, batch_size=256).score
        counts = np.diff(rows.offsets)
        grid = np.zeros((len(counts), int(counts.max())), np.float32)
        grid[np.arange(grid.shape[1]) < counts[:, None]] = flat
        found[part] = grid
    return found


def _parts(folder: Prepared) -> dict[str, Part]:
    """The lists of validation and test with everything but the ranker's score."""
    config = load_config(Path(f"configs/{_DATASET}.yaml"))
    catalogue = read_catalogue(read_table(folder.dataset / "items.parquet", ITEMS), folder.space)
    task = _past(folder.dataset)
    behaviors = read_dataset(task.dataset).behaviors
    decoder, _ = open_decoder(folder.behavior_model, catalogue, behaviors, config.behavior.decoding, alone=False)
    table = read_table(folder.training_set / TRAINING_SET_FILE, TRAINING_SET)
    judges = {}
    for part in (VALIDATION, TEST):
        rows = table.filter((pl.col("protocol") == _PROTOCOL) & (pl.col("split") == part))
        judges[part] = Judges(read_lists(rows, catalogue, max_history=config.behavior.max_visible), catalogue.vectors)
    log = make_log(task, raw_vectors(config, task.dataset, folder.dataset.parent), catalogue.codes)
    peers = _peer_scores(folder, log, judges)
    length = config.behavior.decoding.num_inferred
    features = {part: _features(judge, decoder, task, length) for part, judge in judges.items()}
    return {part: Part(judge.lists, features[part] | peers[part]) for part, judge in judges.items()}


def _features(judges: Judges, decoder: Decoder, task: Task, length: int) -> dict[str, list[Floats]]:
    lists, counts = judges.lists, task.visible_counts
    popularity = np.log1p(counts).astype(np.float32)[np.maximum(lists.candidates, 0)]
    lengths = (lists.histories != NO_ITEM).sum(axis=1, keepdims=True)
    inferred, confidences = judges.infer(decoder)
    random = np.random.default_rng(0).integers(0, len(counts), inferred.shape)
    return {
        "popularity": [popularity],
        "length": [np.broadcast_to(np.log1p(lengths), popularity.shape).astype(np.float32)],
        "random": judges.listed(random, confidences),
        "popular": judges.listed(_popular_lists(lists, counts), confidences),
        "inferred": judges.listed(inferred, confidences),
        "log_probability": [judges.log_probability(decoder)],
        "listed": [judges.listed_log_probability(decoder, length=length)],
        "parts": judges.parts(decoder),
    }


def _peer_scores(folder: Prepared, log: PeerLog, judges: dict[str, Judges]) -> dict[str, dict[str, list[Floats]]]:
    """Part -> peer -> its scores; kept, since a peer trains for minutes."""
    path = folder.training_set.parent / f"peers-{peer_code(log.task, 'bert4rec_text')}.npz"
    if not path.is_file():
        peers = {"ease": linear.ease(log), "bert4rec_text": bert4rec(log, PeerConfig(), text=True)}
        found = {f"{part} {name}": judge.scored(peers[name]) for part, judge in judges.items() for name in peers}
        np.savez(path, allow_pickle=False, **found)
    stored = np.load(path)
    return {part: {name: [stored[f"{part} {name}"]] for name in _OTHERS} for part in judges}


def _past(dataset: Path) -> Task:
    """What lies before the validation lists; their targets choose the peers' settings."""
    whole = read_dataset(dataset)
    split = whole.split
    known = before(whole.behaviors, split.train_end)
    late = before(whole.behaviors, split.validation_end).filter(pl.col("timestamp") >= split.train_end)
    hidden = late.join(known, on=["user_id", "item_id"], how="anti").group_by("user_id", "item_id")
    frame = hidden.agg(pl.col("timestamp").min()).sort("user_id", "item_id")
    write_visible(whole, frame, kind="time", out=dataset.parent / "past")
    return read_task(_DATASET, dataset.parent / "past", frame, seed=0)


def _popular_lists(lists: Lists, counts: Ints) -> Ints:
    """The most popular items that the user has not logged."""
    order = np.argsort(-counts, kind="stable")[: NUM_LISTED + lists.histories.shape[1]]
    logged = (order[None, :, None] == lists.histories[:, None]).any(axis=2)
    first = np.argsort(logged, axis=1, kind="stable")[:, :NUM_LISTED]
    return np.asarray(order[first])


def _rows(found: dict[str, list[Reals]], users: Ints) -> Iterator[Row]:
    for name, values in found.items():
        yield _row(f"behavior.ranker.{name}.ndcg10", [float(value.mean()) for value in values])
    for name, ours, theirs in _COMPARED:
        prefix = f"behavior.ranker.{name}.ndcg10"
        pairs = list(zip(found[ours], found[theirs], strict=True))
        yield _row(f"{prefix}_ratio", [float(a.mean() / b.mean()) for a, b in pairs])
        yield _row(f"{prefix}_delta", [float(a.mean() - b.mean()) for a, b in pairs])
        first, second = (np.mean(np.stack(found[side]), axis=0) for side in (ours, theirs))
        interval = compare(first, second, users, num_bootstrap=2000, confidence=0.95, seed=0)
        yield _row(f"{prefix}_delta_low", [interval.low], note=", lower end of the 95 % interval over users")
        yield _row(
            f"{prefix}_ratio_low", [ratio(first, second).low], note=", lower end of the 95 % interval over users"
        )


def _row(row_id: str, values: list[float], note: str = "") -> Row:
    data = f"{_DATASET}, test part, contemporaneous candidates, re-ranker on the product's ranker{note}"
    seeds = range(len(values)) if len(values) > 1 else range(_SEEDS)
    unit = row_id.rsplit("_", 1)[-1] if "_ratio" in row_id or "_delta" in row_id else "NDCG@10"
    return make_row(row_id, values, unit=unit, better="higher", data=data, command=COMMAND, seeds=seeds)
