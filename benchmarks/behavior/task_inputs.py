"""A task, and what models read beside it: text vectors, knowledge and the space."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from benchmarks.behavior.hidden_behaviors import Task, make_hidden_task, read_task, write_visible
from benchmarks.shared.public_data import load_benchmark_config
from benchmarks.shared.results import digest_sources
from contracts.array_types import FloatArray
from contracts.artifacts import read_table
from contracts.dataset import read_dataset, select_events_before
from contracts.digests import digest_value
from contracts.ingestion.ingest import ingest_dataset
from contracts.tables import ITEMS
from models.knowledge.config import EmbeddingConfig
from models.knowledge.distillation.distill_knowledge import distill_knowledge
from models.knowledge.embedding.embed_items import embed_items
from models.knowledge.embedding.item_views import collect_view_texts
from models.knowledge.embedding.text_encoder import SentenceEncoder
from models.knowledge.embedding.text_vector_cache import open_cached_encoder
from pipelines.config import RunConfig
from pipelines.run_data import describe_shop_data
from simulation.write_shop import TRUTH_FOLDER, write_shop


class BehaviorBench(NamedTuple):
    """A task with all that models read beside it."""

    config: RunConfig
    task: Task
    folder: Path
    knowledge: Path
    space: Path
    """The item embeddings that behavior models read."""


def prepare_bench(dataset: str) -> BehaviorBench:
    """The bench of a configuration that is named."""
    return make_bench(load_benchmark_config(dataset))


def make_bench(config: RunConfig) -> BehaviorBench:
    """Task, raw text vectors, knowledge and space, made from what is visible; made once."""
    task = make_shop_task(config) if config.name == "shop" else make_hidden_task(config)
    folder = task.dataset.parent
    # Folds are for a ranker's training.
    contrast = config.embedding.contrast.model_copy(update={"num_folds": 0})
    embedding = config.embedding.model_copy(update={"contrast": contrast})
    knowledge, space = make_knowledge_space(config, task.dataset, folder, embedding)
    read_raw_vectors(config, task.dataset, folder)
    return BehaviorBench(config, task, folder, knowledge, space)


def read_raw_vectors(config: RunConfig, dataset: Path, folder: Path) -> FloatArray:
    """The text encoder's own vectors of the catalogue [N, d], items sorted by id; kept in the folder."""
    vectors_file = folder / "raw.npy"
    if not vectors_file.is_file():
        items = read_table(dataset / "items.parquet", ITEMS).sort("item_id")
        with open_cached_encoder(
            _find_cache(config, "vectors"), SentenceEncoder(config.embedding), config.embedding
        ) as cached_encoder:
            np.save(vectors_file, cached_encoder.encode(collect_view_texts(items)["text"].to_list()))
    return np.asarray(np.load(vectors_file), dtype=np.float32)


def make_knowledge_space(
    config: RunConfig, dataset: Path, folder: Path, embedding: EmbeddingConfig
) -> tuple[Path, Path]:
    """Knowledge and item embeddings of a dataset, made once per code and configuration of `models/knowledge`.

    What was asked and encoded is kept between data sets.
    """
    settings = [config.knowledge.model_dump(mode="json"), embedding.model_dump(mode="json")]
    maker_digest = digest_value([digest_sources("models/knowledge"), settings])
    knowledge, space = (folder / f"{name}-{maker_digest}" for name in ("knowledge", "space"))
    if not knowledge.exists():
        distill_knowledge(dataset, config.knowledge, cache=_find_cache(config, "knowledge"), out=knowledge)
    if not space.exists():
        embed_items(dataset, knowledge, embedding, cache=_find_cache(config, "vectors"), out=space)
    return knowledge, space


def make_shop_task(config: RunConfig, *, seed: int = 0) -> Task:
    """The embedded shop: its log is visible, what its users bought only elsewhere is hidden."""
    shop_digest = digest_value(config.shop.model_dump(mode="json"))
    folder = config.home / "bench_behavior" / f"elsewhere-{shop_digest}"
    if not (folder / "dataset").exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_shop(config.shop, out=folder / "shop")
        ingest_dataset(describe_shop_data(folder / "shop"), out=folder / "whole")
        whole_dataset = read_dataset(folder / "whole")
        elsewhere_events = select_events_before(
            pl.read_parquet(folder / "shop" / TRUTH_FOLDER / "elsewhere.parquet"), whole_dataset.split.cutoff
        )
        bought_elsewhere = elsewhere_events.group_by("user_id", "item_id").agg(pl.col("timestamp").min())
        hidden_pairs = bought_elsewhere.join(
            whole_dataset.behaviors, on=["user_id", "item_id"], how="anti"
        ).sort("user_id", "item_id")
        hidden_pairs.write_parquet(folder / "hidden.parquet")
        write_visible(whole_dataset, hidden_pairs, out=folder / "dataset")
    return read_task(config.name, folder / "dataset", pl.read_parquet(folder / "hidden.parquet"), seed=seed)


def _find_cache(config: RunConfig, name: str) -> Path:
    return config.home / "bench_behavior" / f"cache_{name}"
