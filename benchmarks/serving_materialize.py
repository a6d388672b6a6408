"""100,000 vectors of 128 floats into Redis: ours beside Feast's default path and beside a raw pipelined write.

- ours: `feature_repo.materialize`, which compares each row with the store first and reads each row back;
- plain: the vectors as a list feature, through `FeatureStore.materialize` as Feast configures it;
- raw: one SET of the bytes that ours stores of each vector, in pipelines, and nothing else.

Then ours once more with nothing changed, and with one item in a hundred changed. All in turns, medians of three: the
speed of a machine varies.
"""

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Float32, String
from redis import Redis

from benchmarks.results import Row
from benchmarks.serving_inputs import END, SPACE, START, embeddings
from benchmarks.serving_latency import row
from benchmarks.serving_redis import RedisServer
from benchmarks.serving_shop import FEATURES, REDIS_ENV
from feature_repo.build import vectors_to_bytes
from feature_repo.materialize import OfflineTable, fill_view
from feature_repo.store import open_store, write_store_file
from feature_repo.views import entities, feature_views, knowledge_view_name

DIM: Final = 128
_FULL, _QUICK = 100_000, 10_000
_BATCH: Final = 5_000
_TURNS: Final = 3

Work = Callable[[], object]


def measure(*, quick: bool) -> list[Row]:
    """All rows of materialization."""
    count = _QUICK if quick else _FULL
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    with TemporaryDirectory() as folder, RedisServer(Path(folder) / "redis") as redis:
        os.environ[REDIS_ENV] = redis.address
        for turn in range(_TURNS):
            for name, work in _works(Path(folder) / str(turn), redis.client, count):
                seconds[name].append(_seconds(work))
            redis.client.flushall()
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return list(_rows(medians, f"{count:,} items x {DIM} floats into Redis, one process"))


def _works(root: Path, client: Redis, count: int) -> Iterator[tuple[str, Work]]:
    vectors = np.random.default_rng(0).standard_normal((count, DIM), dtype=np.float32)
    stored = vectors_to_bytes(_embeddings(vectors)["embedding"]).to_pylist()
    yield "raw", lambda: _write_raw(client, stored)
    yield "plain", _plain(root / "plain", vectors)
    yield from _ours(root / "ours", vectors)


def _rows(seconds: dict[str, float], data: str) -> Iterator[Row]:
    count = float(data.partition(" ")[0].replace(",", ""))
    for name, taken in seconds.items():
        yield row(f"materialize.{name}.rows_per_s", count / taken, "rows/s", "higher", data)
    for name in ("plain", "raw"):
        ratio = seconds[name] / seconds["ours"]
        yield row(f"materialize.over_{name}_ratio", ratio, "ratio", "higher", data)


def _seconds(work: Work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _write_raw(redis: Redis, vectors: list[bytes]) -> None:
    for first in range(0, len(vectors), _BATCH):
        with redis.pipeline(transaction=False) as pipe:
            for number, vector in enumerate(vectors[first : first + _BATCH], first):
                pipe.set(f"raw:{number}", vector)
            pipe.execute()


def _plain(root: Path, vectors: npt.NDArray[np.float32]) -> Work:
    """Feast as its documentation has it: a list feature, its own materialization."""
    write_store_file(root, FEATURES.model_copy(update={"project": "plain"}))
    _embeddings(vectors).select("item_id", "embedding", "event_timestamp").write_parquet(root / "vectors.parquet")
    item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING)
    view = FeatureView(
        name="vectors",
        entities=[item],
        ttl=timedelta(0),
        schema=[Field(name="item_id", dtype=String), Field(name="embedding", dtype=Array(Float32))],
        source=FileSource(name="vectors_source", path=str(root / "vectors.parquet"), timestamp_field="event_timestamp"),
    )
    store = open_store(root)
    store.apply([item, view])
    return lambda: store.materialize(START - timedelta(days=1), END)


def _ours(root: Path, vectors: npt.NDArray[np.float32]) -> Iterator[tuple[str, Work]]:
    """The first fill, one where nothing has changed, one where an item in a hundred has."""
    write_store_file(root, FEATURES)
    views = feature_views(root, space=SPACE, ttl=timedelta(0))
    open_store(root).apply([*entities(), *views])
    table = OfflineTable(root / "item_knowledge.parquet", knowledge_view_name(SPACE), "item_id")
    _write_table(table.path, vectors)
    yield "ours", lambda: fill_view(root, table, FEATURES)
    yield "unchanged", lambda: fill_view(root, table, FEATURES)
    vectors[::100] += 1
    _write_table(table.path, vectors)
    yield "hundredth", lambda: fill_view(root, table, FEATURES)


def _write_table(path: Path, vectors: npt.NDArray[np.float32]) -> None:
    frame = _embeddings(vectors)
    rest = frame.select(
        "item_id", "event_timestamp", item_space="space", item_semantic_id=pl.col("semantic_id").cast(pl.List(pl.Int64))
    )
    pq.write_table(rest.to_arrow().append_column("item_vector", vectors_to_bytes(frame["embedding"])), path)


def _embeddings(vectors: npt.NDArray[np.float32]) -> pl.DataFrame:
    return embeddings([f"item_{number}" for number in range(len(vectors))], vectors)
