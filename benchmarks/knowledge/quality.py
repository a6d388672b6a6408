"""Does knowledge help the ranker beyond raw text, and does the student find a new item's place?

Per data set: catalogue -> handbook's knowledge -> three spaces: the text encoder's raw vectors; the learned
space of raw text alone; the learned space with knowledge. Rankers of the same network, without inferred
behaviors, are trained per seed on each, and on ids alone, from the same lists ("contemporaneous" candidates),
and measured once on the test part.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from benchmarks.knowledge.vector_lens import whiten_vectors
from benchmarks.ranker.trials import RankerInputs, Trial, make_trial_rows, run_trial_once
from benchmarks.shared.measured_process import run_on_all_cores
from benchmarks.shared.public_data import load_benchmark_config
from benchmarks.shared.results import Row, digest_sources, make_row
from contracts.artifacts import create_artifact, read_lineage, read_table, write_table
from contracts.dataset import read_dataset, select_events_before
from contracts.digests import digest_value
from contracts.ingestion.ingest import ingest_dataset
from contracts.tables import INFERRED_BEHAVIORS, ITEM_EMBEDDINGS, ITEMS
from feature_repo.offline.build_features import build_features
from feature_repo.offline.point_in_time_join import join_features
from models.knowledge.config import EmbeddingConfig
from models.knowledge.distillation.distill_knowledge import distill_knowledge
from models.knowledge.embedding.embed_items import embed_items
from models.knowledge.embedding.item_views import collect_view_texts
from models.knowledge.embedding.text_encoder import SentenceEncoder
from models.ranker.config import RankerFeatures
from models.ranker.lists.build_lists import build_lists
from pipelines.config import RunConfig
from pipelines.run_data import prepare_local_data

DATASETS = ("electronics", "scientific")
NUM_PAIRED, NUM_OTHERS = 8, 3
_NOTE = ", handbook teacher"
_TEXT_ONLY = RankerFeatures(inferred=False)
_IDS = RankerFeatures(inferred=False, knowledge=False, similarity=False)
RANKERS: dict[str, tuple[str, RankerFeatures, int]] = {
    "raw_text": ("raw", _TEXT_ONLY, NUM_PAIRED),
    "knowledge": ("knowledge", _TEXT_ONLY, NUM_PAIRED),
    "learnt_text": ("text", _TEXT_ONLY, NUM_OTHERS),
    "ids": ("raw", _IDS, NUM_OTHERS),
}
"""Ranker -> its space, its features, its number of seeds."""
_MAKERS = (
    "benchmarks/knowledge/quality.py",
    "benchmarks/knowledge/vector_lens.py",
    "contracts",
    "models/knowledge",
    "feature_repo/offline",
    "models/ranker/lists",
)
"""Sources of what `prepare_inputs` makes."""


def measure_quality() -> list[Row]:
    """All rows of quality."""
    folders = {dataset: prepare_inputs(dataset) for dataset in DATASETS}
    trials = [
        Trial(dataset, ranker, seed)
        for dataset in DATASETS
        for seed in range(NUM_PAIRED)
        for ranker, (_, _, num_seeds) in RANKERS.items()
        if seed < num_seeds
    ]
    trial_metrics = run_on_all_cores(run_ranker_trial, trials, [folders[trial.dataset] for trial in trials])
    metrics_by_trial = dict(zip(trials, trial_metrics, strict=True))
    ranker_rows = make_trial_rows(
        "knowledge", metrics_by_trial, {"over_text": ("knowledge", "raw_text")}, _NOTE
    )
    return [*ranker_rows, _make_student_row(folders)]


def prepare_inputs(name: str, spaces: Sequence[str] = ("raw", "text", "knowledge")) -> Path:
    """Lists, features and spaces of a data set; reused as long as the code that makes them is the same.

    Args:
        name: Of its configuration.
        spaces: Those that are wanted; `raw` is always made. `recorded` has what a large model wrote about the
            items, by the configuration `<name>-recorded`.
    """
    config = load_benchmark_config(name)
    data_config = prepare_local_data(config)
    keys_read = {"data", "shop", "knowledge", "embedding", "features", "lists"}
    settings = config.model_dump(mode="json", include=keys_read)
    folder = config.home / "bench_knowledge" / digest_value([digest_sources(*_MAKERS), settings])
    dataset, lists_folder, inferred_folder, features_folder = (
        folder / step for step in ("dataset", "lists", "inferred", "features")
    )
    steps: dict[str, Callable[[Path], object]] = {
        "dataset": lambda out: ingest_dataset(data_config, out=out),
        "lists": lambda out: build_lists(dataset, config.lists, out=out),
        "knowledge": lambda out: distill_knowledge(
            dataset, config.knowledge, cache=folder / "cache", out=out
        ),
        "knowledge_recorded": lambda out: distill_knowledge(
            dataset, load_benchmark_config(f"{name}-recorded").knowledge, cache=folder / "recorded", out=out
        ),
        "space_raw": lambda out: _embed_raw_text(dataset, config.embedding, out),
        "space_text": lambda out: embed_catalogue(folder, config, None, out),
        "space_knowledge": lambda out: embed_catalogue(folder, config, "knowledge", out),
        "space_recorded": lambda out: embed_catalogue(
            folder, load_benchmark_config(f"{name}-recorded"), "knowledge_recorded", out
        ),
        "inferred": lambda out: _write_no_inferences(dataset, out),
        "features": lambda out: build_features(
            dataset, folder / "space_raw", inferred_folder, config.features, out=out
        ),
        "training_set": lambda out: join_features(lists_folder, features_folder, config.features, out=out),
    }
    folder.mkdir(parents=True, exist_ok=True)
    unneeded_steps = {f"space_{space}" for space in ("text", "knowledge", "recorded") if space not in spaces}
    if {"space_text", "space_knowledge"} <= unneeded_steps:
        unneeded_steps.add("knowledge")
    if "space_recorded" in unneeded_steps:
        unneeded_steps.add("knowledge_recorded")
    for step, make_artifact in steps.items():
        if step not in unneeded_steps and not (folder / step).exists():
            print(f"{name}: {step}", flush=True)
            make_artifact(folder / step)
    return folder


def run_ranker_trial(trial: Trial, folder: Path) -> dict[str, float]:
    """Trains and measures one ranker on what `prepare_inputs` made."""
    space, features, _ = RANKERS[trial.ranker]
    inputs = RankerInputs(folder / "training_set", folder / "dataset", folder / f"space_{space}")
    return run_trial_once(trial, features, inputs)


def _make_student_row(folders: dict[str, Path]) -> Row:
    """The recall of the data set where the student is worst."""
    student_recalls = {
        dataset: read_lineage(folder / "space_knowledge").metrics["student_recall10"]
        for dataset, folder in folders.items()
    }
    worst_dataset = min(student_recalls, key=lambda dataset: student_recalls[dataset])
    return make_row(
        "knowledge.student.recall10",
        student_recalls[worst_dataset],
        unit="recall10",
        data=f"{worst_dataset}{_NOTE}",
        seeds=[0],
    )


def embed_catalogue(folder: Path, config: RunConfig, knowledge: str | None, out: Path) -> None:
    """Embeds a folder's dataset with the knowledge of one of its steps, or with none."""
    embedding_config = config.embedding.model_copy(update={"knowledge": knowledge is not None})
    knowledge_folder = folder / (knowledge or "knowledge")
    embed_items(folder / "dataset", knowledge_folder, embedding_config, out=out, cache=folder / "vectors")


def _embed_raw_text(dataset: Path, config: EmbeddingConfig, out: Path) -> None:
    """The text encoder's vectors of title, brand, category and description in one text, through a lens.

    Without the lens all cosines look alike; it would only harm a learned space.
    """
    items = read_table(dataset / "items.parquet", ITEMS)
    text_vectors = SentenceEncoder(config).encode(collect_view_texts(items)["text"].to_list())
    whole_dataset = read_dataset(dataset)
    training_events = select_events_before(whole_dataset.events, whole_dataset.split.train_end)
    training_ids = training_events["item_id"].unique()
    is_training_item = items["item_id"].is_in(training_ids.implode()).to_numpy()
    embedding_rows = items.select("item_id").with_columns(
        embedding=pl.Series(whiten_vectors(text_vectors, is_training_item)).arr.to_list(),
        semantic_id=pl.concat_list(pl.int_range(items.height, dtype=pl.Int32)),
        space=pl.lit("raw"),
        event_timestamp=whole_dataset.split.train_end,
    )
    with create_artifact(out, kind="item_embeddings", inputs={"dataset": dataset}) as artifact:
        write_table(
            artifact.path / "item_embeddings.parquet",
            ITEM_EMBEDDINGS,
            embedding_rows.cast(ITEM_EMBEDDINGS.schema),
        )


def _write_no_inferences(dataset: Path, out: Path) -> None:
    with create_artifact(out, kind="inferred_behaviors", inputs={"dataset": dataset}) as artifact:
        write_table(
            artifact.path / "inferred_behaviors.parquet",
            INFERRED_BEHAVIORS,
            INFERRED_BEHAVIORS.create_empty(),
        )
