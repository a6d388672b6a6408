"""How much faster `embed_items` is than at commit 16e9256, and whether its vectors are as good.

`python -m benchmarks knowledge embed_speed` takes the embedded shop. The module itself takes other data:
`python -m benchmarks.knowledge.embed_speed DATASET ...`. It writes nothing.

Both sides embed the same catalogue in one run, each in a process of its own and without a vector cache.
The old code comes from a worktree in a scratch folder. Quality is that of the vectors alone: an item
that a user turned to after the training end, ranked among 99 others by its log-sum-exp of cosines with
the user's last behaviors.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from benchmarks.shared.public_data import load_benchmark_config
from benchmarks.shared.results import REPOSITORY, Row, make_row
from contracts.array_types import FloatArray
from contracts.artifacts import read_lineage
from contracts.dataset import read_dataset
from contracts.ingestion.ingest import ingest_dataset
from models.knowledge.distillation.distill_knowledge import distill_knowledge
from pipelines.run_data import prepare_local_data

BASE_COMMIT = "16e9256"
_SEED, _NUM_OTHERS, _MAX_TARGETS, _MAX_HISTORY, _DIMENSION, _TEMPERATURE = 0, 99, 5000, 20, 256, 0.07
_COMMAND = "python -m benchmarks knowledge embed_speed"
_EMBED = """
import shutil, sys, time
from pathlib import Path
import polars as pl
from contracts.tables import EVENTS, ITEMS, KNOWLEDGE
from models.knowledge.config import EmbeddingConfig
from {module} import embed_items
source, out = map(Path, sys.argv[1:])
inputs = out.with_name(out.name + "_inputs")
shutil.copytree(source, inputs)
for name, table in (("dataset/items", ITEMS), ("dataset/events", EVENTS), ("knowledge/knowledge", KNOWLEDGE)):
    file = inputs / (name + ".parquet")
    # Later columns are unknown to the old code.
    pl.read_parquet(file).select(table.schema.names()).cast(table.schema).write_parquet(file)
wall_s, cpu_s = time.perf_counter(), time.process_time()
embed_items(inputs / "dataset", inputs / "knowledge", EmbeddingConfig(), out=out)
print(time.perf_counter() - wall_s, time.process_time() - cpu_s)
"""


def measure_embedding_speed(names: tuple[str, ...] = ("shop",)) -> Iterator[Row]:
    """Rows of wall time, processor time, quality and the student's recall: ours over the old code's."""
    for name in names:
        with TemporaryDirectory() as scratch, _open_base_worktree(Path(scratch) / "base") as base:
            yield from _compare_sides(name, Path(scratch), base)


def _compare_sides(name: str, scratch: Path, base: Path) -> Iterator[Row]:
    config = load_benchmark_config(name).model_copy(update={"home": scratch / "home"})
    source = scratch / "source"
    ingest_dataset(prepare_local_data(config), out=source / "dataset")
    distill_knowledge(source / "dataset", config.knowledge, cache=scratch / "cache", out=source / "knowledge")
    base_wall_s, base_cpu_s = _time_embedding(base, "models.knowledge.embed", source, scratch / "old")
    module = "models.knowledge.embedding.embed_items"
    wall_s, cpu_s = _time_embedding(REPOSITORY, module, source, scratch / "new")
    old_ndcg, new_ndcg = (_measure_ndcg(source / "dataset", scratch / side) for side in ("old", "new"))
    old_recall, new_recall = (
        read_lineage(scratch / side).metrics["student_recall10"] for side in ("old", "new")
    )
    print(
        f"{name}: wall {base_wall_s:.1f} -> {wall_s:.1f} s, processor {base_cpu_s:.1f} -> {cpu_s:.1f} s, "
        f"ndcg10 {old_ndcg:.4f} -> {new_ndcg:.4f}, student recall10 {old_recall:.4f} -> {new_recall:.4f}",
        flush=True,
    )
    values = {
        "speedup": base_wall_s / wall_s,
        "cpu_speedup": base_cpu_s / cpu_s,
        "quality_ratio": new_ndcg / old_ndcg,
        "student_recall_ratio": new_recall / old_recall,
    }
    for measure, value in values.items():
        row_id = f"knowledge.embed.{name}.{measure}" if name != "shop" else f"knowledge.embed.{measure}"
        data = f"{name}, handbook teacher, over commit {BASE_COMMIT}, no vector cache"
        yield make_row(row_id, value, unit="ratio", data=data, seeds=[_SEED], command=_COMMAND)


@contextmanager
def _open_base_worktree(folder: Path) -> Iterator[Path]:
    git = ["git", "-C", str(REPOSITORY), "worktree"]
    subprocess.run([*git, "add", "--detach", str(folder), BASE_COMMIT], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def _time_embedding(tree: Path, module: str, source: Path, out: Path) -> tuple[float, float]:
    """Seconds of wall and processor time of `embed_items`, without the imports of its module."""
    command = [sys.executable, "-c", _EMBED.format(module=module), str(source), str(out)]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    printed = subprocess.run(
        command, cwd=tree, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ).stdout
    wall_s, cpu_s = map(float, printed.split()[-2:])
    return wall_s, cpu_s


def _measure_ndcg(dataset_folder: Path, space: Path) -> float:
    """NDCG@10 of the learned vectors on behaviors after the training end."""
    dataset = read_dataset(dataset_folder)
    embeddings = pl.read_parquet(space / "item_embeddings.parquet")
    vectors = np.array(embeddings["embedding"].to_list(), np.float32)[:, :_DIMENSION]
    rows = embeddings.select("item_id").with_row_index("row")
    log = dataset.behaviors.join(rows, on="item_id", maintain_order="left").sort(
        "user_id", "timestamp", maintain_order=True
    )
    log = log.with_columns(
        before=pl.concat_list(
            pl.col("row").shift(back).over("user_id") for back in range(1, _MAX_HISTORY + 1)
        )
    )
    is_test = (pl.col("timestamp") >= dataset.split.train_end) & ~pl.col("before").list.contains(
        pl.col("row")
    )
    tests = log.filter(is_test).with_columns(before=pl.col("before").list.drop_nulls())
    tests = tests.filter(pl.col("before").list.len() > 0)
    rng = np.random.default_rng(_SEED)
    chosen = np.sort(rng.permutation(tests.height)[:_MAX_TARGETS])
    pool = tests["row"].to_numpy()
    gains = [
        _compute_gain(vectors, row, history, rng.choice(pool, _NUM_OTHERS))
        for row, history in zip(pool[chosen], tests["before"].gather(chosen).to_list(), strict=True)
    ]
    return float(np.mean(gains))


def _compute_gain(vectors: FloatArray, target: int, history: list[int], others: FloatArray) -> float:
    candidates = np.append(others[others != target], target).astype(np.int64)
    scores = np.exp(vectors[candidates] @ vectors[history].T / _TEMPERATURE).sum(1)
    rank = int((scores[:-1] > scores[-1]).sum())
    return 1 / np.log2(rank + 2) if rank < 10 else 0.0


if __name__ == "__main__":
    os.chdir(REPOSITORY)
    for measured_row in measure_embedding_speed(tuple(sys.argv[1:]) or ("shop",)):
        print(f"{measured_row.id}: {measured_row.value:.4g}", flush=True)
