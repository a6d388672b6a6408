"""Does knowledge help the ranker beyond raw text, and does the student find a new item's place?

Per data set: catalogue -> handbook's knowledge -> three spaces: the text encoder's raw vectors; the learnt space of raw
text alone; the learnt space with knowledge. Rankers of the same network, without inferred behaviours, are trained per
seed on each, and on ids alone, from the same lists ("contemporaneous" candidates), and measured once on the test part.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks.results import ROOT, Row, digest_sources, make_row
from contracts.artifacts import new_artifact, read_lineage, read_table, write_json, write_table
from contracts.dataset import read_dataset
from contracts.digests import digest_value
from contracts.ingestion.ingest import ingest
from contracts.tables import INFERRED_BEHAVIORS, ITEM_EMBEDDINGS, ITEMS
from feature_repo.build import build_features
from feature_repo.join import join_features
from models.knowledge.config import EmbeddingConfig
from models.knowledge.distill import distill_knowledge
from models.knowledge.embed import embed_items
from models.knowledge.encoder import Encoder
from models.knowledge.views import view_texts
from models.ranker.config import FeatureConfig, RankerConfig
from models.ranker.lists import TEST, build_lists
from models.ranker.measure import measure as measure_scores
from models.ranker.records import RankingRows
from models.ranker.rows import encode_rows, read_vectors
from models.ranker.scoring import ExportedRanker
from models.ranker.statistics import ItemLog
from models.ranker.train import TRAINING_SET_FILE, train_ranker
from pipelines.config import RunConfig, load_config
from pipelines.data import local_data

COMMAND = "make bench-knowledge"
DATASETS = ("electronics", "scientific")
NUM_PAIRED, NUM_OTHERS = 8, 3
PROTOCOLS = {"contemporaneous": "", "within_cold": "cold_"}
RAW_LENS = 128
"""Raw vectors of a text encoder need the ranker's whitening lens; it would only harm a learnt space."""
_TEXT_ONLY = FeatureConfig(inferred=False)
_IDS = FeatureConfig(inferred=False, knowledge=False, similarity=False)
RANKERS: dict[str, tuple[str, dict[str, Any], int]] = {
    "raw_text": ("raw", {"features": _TEXT_ONLY, "lens_dim": RAW_LENS}, NUM_PAIRED),
    "knowledge": ("knowledge", {"features": _TEXT_ONLY}, NUM_PAIRED),
    "learnt_text": ("text", {"features": _TEXT_ONLY}, NUM_OTHERS),
    "ids": ("raw", {"features": _IDS}, NUM_OTHERS),
}
"""Ranker -> its space, its configuration, its number of seeds."""


_MAKERS = (
    "benchmarks/knowledge_quality.py",
    "contracts",
    "models/knowledge",
    *(f"feature_repo/{name}.py" for name in ("build", "histories", "join")),
    *(f"models/ranker/{name}.py" for name in ("lists", "sampling")),
)
"""Sources of what `prepare` makes."""


class Trial(NamedTuple):
    """One ranker of one seed."""

    dataset: str
    ranker: str
    seed: int


def measure() -> list[Row]:
    """All rows of quality."""
    os.chdir(ROOT.parent)  # the configurations' paths are relative to the repository
    folders = {name: prepare(name) for name in DATASETS}
    trials = [
        Trial(name, ranker, seed)
        for name in DATASETS
        for seed in range(NUM_PAIRED)
        for ranker, (_, _, num_seeds) in RANKERS.items()
        if seed < num_seeds
    ]
    workers = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        found = dict(
            zip(trials, pool.map(run_trial, trials, [folders[trial.dataset] for trial in trials]), strict=True)
        )
    return [*_ladder(found), *_student(folders)]


def prepare(name: str, spaces: Sequence[str] = ("raw", "text", "knowledge")) -> Path:
    """Lists, features and spaces of a data set; reused as long as the code that makes them is the same.

    Args:
        name: Of its configuration.
        spaces: Those that are wanted; `raw` is always made.
    """
    config = load_config(Path(f"configs/{name}.yaml"))
    data = local_data(config)
    read = config.model_dump(mode="json", include={"data", "shop", "knowledge", "embedding", "features", "lists"})
    folder = config.home / "bench_knowledge" / digest_value([digest_sources(*_MAKERS), read])
    steps: dict[str, Callable[[Path], object]] = {
        "dataset": lambda out: ingest(data, out=out),
        "lists": lambda out: build_lists(folder / "dataset", config.lists, out=out),
        "knowledge": lambda out: distill_knowledge(
            folder / "dataset", config.knowledge, cache=folder / "cache", out=out
        ),
        "space_raw": lambda out: _embed_raw(folder / "dataset", config.embedding, out),
        "space_text": lambda out: _embed(folder, config, knowledge=False, out=out),
        "space_knowledge": lambda out: _embed(folder, config, knowledge=True, out=out),
        "inferred": lambda out: _infer_nothing(folder / "dataset", out),
        "features": lambda out: build_features(
            folder / "dataset", folder / "space_raw", folder / "inferred", config.features, out=out
        ),
        "training_set": lambda out: join_features(folder / "lists", folder / "features", config.features, out=out),
    }
    folder.mkdir(parents=True, exist_ok=True)
    unwanted = {f"space_{space}" for space in ("text", "knowledge") if space not in spaces}
    if len(unwanted) == 2:
        unwanted.add("knowledge")
    for step, run in steps.items():
        if step not in unwanted and not (folder / step).exists():
            print(f"{name}: {step}", flush=True)
            run(folder / step)
    return folder


def run_trial(trial: Trial, folder: Path) -> dict[str, float]:
    """Trains a ranker and measures it: `<protocol's prefix><metric>` -> value.

    What was measured is kept in the data set's folder, so a benchmark that was stopped goes on where it was.
    """
    space, options, _ = RANKERS[trial.ranker]
    config = RankerConfig(seed=trial.seed, num_threads=1, **options)
    inputs = RankerInputs(folder / "training_set", folder / "dataset", folder / f"space_{space}")
    found = measure_once(trial.ranker, config, inputs)
    print(*trial, *(f"{name} {value:.4f}" for name, value in found.items()), flush=True)
    return found


class RankerInputs(NamedTuple):
    """Artifact folders that a ranker is trained from."""

    training_set: Path
    dataset: Path
    space: Path


def measure_once(name: str, config: RankerConfig, inputs: RankerInputs) -> dict[str, float]:
    """What `train_and_score` gives, done once for this configuration, these inputs and the code of rankers as it is."""
    read = [config.model_dump(mode="json"), [read_lineage(path).digest for path in inputs]]
    key = digest_value([*read, digest_sources("models/ranker", "benchmarks/knowledge_quality.py")])
    kept = inputs.training_set.parent / "trials" / f"{name}-{config.seed}-{key}.json"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, train_and_score(config, inputs))
    found: dict[str, float] = json.loads(kept.read_text())
    return found


def train_and_score(config: RankerConfig, inputs: RankerInputs) -> dict[str, float]:
    """Trains a ranker and measures it on the test part: `<protocol's prefix><metric>` -> value."""
    with TemporaryDirectory() as scratch:
        out = Path(scratch) / "ranker"
        train_ranker(*inputs, config, checkpoints=Path(scratch) / "checkpoints", out=out)
        return dict(score_ranker(out, inputs, Path(scratch)))


def score_ranker(ranker: Path, inputs: RankerInputs, scratch: Path) -> Iterator[tuple[str, float]]:
    """Measures a trained ranker on the test lists of each protocol."""
    data = read_dataset(inputs.dataset)
    vectors, name, _ = read_vectors(inputs.space)
    opened = ExportedRanker(ranker, data.items, vectors, space=name, num_threads=1)
    log = ItemLog.index(data.behaviors, opened.table.names) if opened.spec.features.statistics else None
    table = inputs.training_set / TRAINING_SET_FILE
    for protocol, prefix in PROTOCOLS.items():
        rows, users = read_test_lists(table, opened, protocol, scratch / protocol, log)
        summary = measure_scores(rows, opened.score(rows, batch_size=256), users).summary
        yield f"{prefix}ndcg10", summary["ndcg10"]
        yield f"{prefix}auc", summary["auc"]


def read_test_lists(
    table: Path, ranker: ExportedRanker, protocol: str, scratch: Path, log: ItemLog | None = None
) -> tuple[RankingRows, npt.NDArray[np.int64]]:
    """The test lists of a protocol, and the user of each, counted from 0."""
    lengths = (ranker.spec.history_length, ranker.spec.inferred_length)
    rows = encode_rows(
        table,
        ranker.table.names,
        split=TEST,
        protocol=protocol,
        lengths=lengths,
        scratch=scratch,
        log=log,
        search=ranker.search,
    )
    chosen = (pl.col("split") == TEST) & (pl.col("protocol") == protocol)
    number = pl.col("user_id").rank("dense").cast(pl.Int64) - 1
    return rows, pl.scan_parquet(table).filter(chosen).select(number).collect().to_series().to_numpy()


def _ladder(found: dict[Trial, dict[str, float]]) -> Iterator[Row]:
    for name in DATASETS:
        for metric in next(iter(found.values())):
            for ranker, (_, _, num_seeds) in RANKERS.items():
                values = [found[Trial(name, ranker, seed)][metric] for seed in range(num_seeds)]
                yield _row(f"knowledge.{name}.{ranker}.{metric}", values, name)
            if metric.endswith("ndcg10"):
                for ranker in ("knowledge", "learnt_text"):
                    ratios = [
                        found[Trial(name, ranker, seed)][metric] / found[Trial(name, "raw_text", seed)][metric]
                        for seed in range(RANKERS[ranker][2])
                    ]
                    part = "over_text" if ranker == "knowledge" else "learnt_text.over_text"
                    yield _row(f"knowledge.{name}.{part}.{metric}_ratio", ratios, name)


def _student(folders: dict[str, Path]) -> Iterator[Row]:
    recalls = {name: read_lineage(folder / "space_knowledge").metrics for name, folder in folders.items()}
    for name, metrics in recalls.items():
        yield _row(f"knowledge.{name}.student.recall10", [metrics["student_recall10"]], name)
        for metric in ("error", "code_use", "collisions"):
            better = "higher" if metric == "code_use" else "lower"
            yield _row(f"knowledge.{name}.semantic_id_{metric}", [metrics[f"semantic_id_{metric}"]], name, better)
    worst = min(recalls, key=lambda name: recalls[name]["student_recall10"])
    yield _row("knowledge.student.recall10", [recalls[worst]["student_recall10"]], worst)


def _row(row_id: str, values: list[float], data: str, better: Any = "higher") -> Row:
    unit = "ratio" if row_id.endswith("_ratio") else row_id.rsplit(".", 1)[-1]
    described = f"{data}, test part, contemporaneous candidates, handbook teacher"
    return make_row(row_id, values, unit=unit, better=better, data=described, command=COMMAND, seeds=range(len(values)))


def _embed(folder: Path, config: RunConfig, *, knowledge: bool, out: Path) -> None:
    chosen = config.embedding.model_copy(update={"knowledge": knowledge})
    embed_items(folder / "dataset", folder / "knowledge", chosen, out=out, cache=folder / "vectors")


def _embed_raw(dataset: Path, config: EmbeddingConfig, out: Path) -> None:
    """The text encoder's own vectors of title, brand, category and description in one text."""
    items = read_table(dataset / "items.parquet", ITEMS)
    vectors = Encoder(config).encode(view_texts(items)["text"].to_list())
    frame = items.select("item_id").with_columns(
        embedding=pl.Series(vectors).arr.to_list(),
        semantic_id=pl.concat_list(pl.int_range(items.height, dtype=pl.Int32)),
        space=pl.lit("raw"),
        event_timestamp=read_dataset(dataset).split.train_end,
    )
    with new_artifact(out, kind="item_embeddings", inputs={"dataset": dataset}) as artifact:
        write_table(artifact.path / "item_embeddings.parquet", ITEM_EMBEDDINGS, frame.cast(ITEM_EMBEDDINGS.schema))


def _infer_nothing(dataset: Path, out: Path) -> None:
    with new_artifact(out, kind="inferred_behaviors", inputs={"dataset": dataset}) as artifact:
        write_table(artifact.path / "inferred_behaviors.parquet", INFERRED_BEHAVIORS, INFERRED_BEHAVIORS.empty())
