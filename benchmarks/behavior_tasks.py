"""A task with all that models read beside it: text vectors, knowledge and the space, made from what is visible."""

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from benchmarks.behavior_protocol import Kind, Task, make_task, read_task, write_visible
from benchmarks.results import ROOT
from contracts.artifacts import new_artifact, read_table, write_table
from contracts.aspects import SPACE_FILE
from contracts.dataset import before, read_dataset
from contracts.digests import digest_file, digest_value
from contracts.ingestion.ingest import ingest
from contracts.tables import ITEM_EMBEDDINGS, ITEMS
from models.knowledge.config import EmbeddingConfig
from models.knowledge.distill import distill_knowledge
from models.knowledge.embed import embed_items
from models.knowledge.encoder import Encoder, Floats
from models.knowledge.vectors import open_vectors
from models.knowledge.views import view_texts
from pipelines.config import RunConfig, load_config
from pipelines.data import shop_data
from simulation.shop import TRUTH_FOLDER, write_shop

_SOURCES = {".py", ".yaml", ".md"}


class Bench(NamedTuple):
    """A task with all that models read beside it."""

    config: RunConfig
    task: Task
    folder: Path
    knowledge: Path
    space: Path
    """The item embeddings that behaviour models read."""
    shuffled: Path
    """The same dealt to the items at random."""


def prepare(dataset: str, kind: Kind = "random") -> Bench:
    """Task, raw text vectors, knowledge and space, made from what is visible; made once."""
    config = load_config(Path(f"configs/{dataset}.yaml"))
    task = make_shop_task(config) if kind == "elsewhere" else make_task(config, kind=kind)
    folder = task.dataset.parent
    unfolded = config.embedding.contrast.model_copy(update={"num_folds": 0})  # folds are for a ranker's training
    embedding = config.embedding.model_copy(update={"contrast": unfolded})
    knowledge, space = make_space(config, task.dataset, folder, embedding)
    raw_vectors(config, task.dataset, folder)
    shuffled = space.with_name(f"{space.name}-shuffled")
    if not shuffled.exists():
        _shuffle_space(space, out=shuffled)
    return Bench(config, task, folder, knowledge, space, shuffled)


def raw_vectors(config: RunConfig, dataset: Path, folder: Path) -> Floats:
    """The text encoder's own vectors of the catalogue [N, d], items sorted by id; kept in the folder."""
    path = folder / "raw.npy"
    if not path.is_file():
        items = read_table(dataset / "items.parquet", ITEMS).sort("item_id")
        with open_vectors(_cache(config, "vectors"), Encoder(config.embedding), config.embedding) as encoder:
            np.save(path, encoder.encode(view_texts(items)["text"].to_list()))
    return np.asarray(np.load(path), dtype=np.float32)


def make_space(config: RunConfig, dataset: Path, folder: Path, embedding: EmbeddingConfig) -> tuple[Path, Path]:
    """Knowledge and item embeddings of a dataset, made once per code and configuration of `models/knowledge`.

    What was asked and encoded is kept between data sets.
    """
    knowledge, space = (folder / f"{name}-{_made_by(config, embedding)}" for name in ("knowledge", "space"))
    if not knowledge.exists():
        distill_knowledge(dataset, config.knowledge, cache=_cache(config, "knowledge"), out=knowledge)
    if not space.exists():
        embed_items(dataset, knowledge, embedding, cache=_cache(config, "vectors"), out=space)
    return knowledge, space


def _made_by(config: RunConfig, embedding: EmbeddingConfig) -> str:
    """Digest of the knowledge room's sources (its handbook and prompts are some) and of its configuration."""
    files = (ROOT.parent / "models" / "knowledge").rglob("*")
    sources = sorted(path for path in files if path.suffix in _SOURCES and path.name != "README.md")
    settings = [config.knowledge.model_dump(mode="json"), embedding.model_dump(mode="json")]
    return digest_value([*map(digest_file, sources), *settings])


def make_shop_task(config: RunConfig, *, seed: int = 0) -> Task:
    """The embedded shop: its log is visible, what its users bought elsewhere and did not meet here is hidden."""
    digest = digest_value(config.shop.model_dump(mode="json"))
    folder = config.home / "bench_behavior" / f"elsewhere-{digest}"
    if not (folder / "dataset").exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_shop(config.shop, out=folder / "shop")
        ingest(shop_data(folder / "shop"), out=folder / "whole")
        whole = read_dataset(folder / "whole")
        elsewhere = before(pl.read_parquet(folder / "shop" / TRUTH_FOLDER / "elsewhere.parquet"), whole.split.cutoff)
        bought = elsewhere.group_by("user_id", "item_id").agg(pl.col("timestamp").min())
        hidden = bought.join(whole.behaviors, on=["user_id", "item_id"], how="anti").sort("user_id", "item_id")
        hidden.write_parquet(folder / "hidden.parquet")
        write_visible(whole, hidden, kind="elsewhere", out=folder / "dataset")
    return read_task(config.name, folder / "dataset", pl.read_parquet(folder / "hidden.parquet"), seed=seed)


def _shuffle_space(space: Path, *, out: Path) -> None:
    """Deals vectors and semantic ids to the items at random: ids are as unique as before and mean nothing."""
    table = read_table(space / "item_embeddings.parquet", ITEM_EMBEDDINGS)
    order = np.random.default_rng(0).permutation(len(table))
    dealt = table.with_columns(pl.col("embedding", "semantic_id").gather(pl.Series(order)), space=pl.lit("shuffled"))
    with new_artifact(out, kind="item_embeddings", inputs={"space": space}) as artifact:
        write_table(artifact.path / "item_embeddings.parquet", ITEM_EMBEDDINGS, dealt)
        shutil.copyfile(space / SPACE_FILE, artifact.path / SPACE_FILE)


def _cache(config: RunConfig, name: str) -> Path:
    return config.home / "bench_behavior" / f"cache_{name}"
