"""100,000 vectors into Redis: ours beside Feast's default path and beside a raw pipelined write.

- ours: `feature_repo.online.materialize_features`, which compares each row with the store first and reads
  each row back;
- plain: the vectors as a list feature, through `FeatureStore.materialize` as Feast configures it;
- raw: one SET of the bytes that ours stores of each vector, in pipelines, and nothing else.

All in turns, medians of three: the speed of a machine varies.
"""

import os
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import polars as pl
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Float32, String
from redis import Redis

from benchmarks.serving.generated_inputs import END, SPACE, make_two_code_embeddings
from benchmarks.serving.redis_server import RedisServer
from benchmarks.serving.served_shop import FEATURES, REDIS_ENV
from benchmarks.shared.generated_tables import START
from benchmarks.shared.measured_process import measure_seconds
from benchmarks.shared.results import Row, make_row
from contracts.array_types import FloatArray
from feature_repo.feast_store import open_store, write_store_file
from feature_repo.feature_views import ITEM, USER, define_feature_views, knowledge_view_name
from feature_repo.offline.build_features import pack_vectors
from feature_repo.online.materialize_features import OfflineTable, fill_view

DIM: Final = 128
_FULL, _QUICK = 100_000, 10_000
_BATCH: Final = 5_000
_TURNS: Final = 3


def measure_materialization(*, quick: bool) -> list[Row]:
    """All rows of materialization."""
    num_items = _QUICK if quick else _FULL
    seconds_by_way: defaultdict[str, list[float]] = defaultdict(list)
    with TemporaryDirectory() as folder, RedisServer(Path(folder) / "redis") as redis:
        os.environ[REDIS_ENV] = redis.address
        for turn in range(_TURNS):
            for name, write_vectors in _list_ways(Path(folder) / str(turn), redis.client, num_items):
                seconds_by_way[name].append(measure_seconds(write_vectors))
            redis.client.flushall()
    median_s = {name: statistics.median(seconds) for name, seconds in seconds_by_way.items()}
    data = f"{num_items:,} items x {DIM} floats into Redis, one process"
    return [
        make_row(
            f"serving.materialize.over_{name}_ratio",
            median_s[name] / median_s["ours"],
            unit="ratio",
            data=data,
        )
        for name in ("plain", "raw")
    ]


def _list_ways(root: Path, redis_client: Redis, num_items: int) -> Iterator[tuple[str, Callable[[], object]]]:
    vectors = np.random.default_rng(0).standard_normal((num_items, DIM), dtype=np.float32)
    stored_vectors = pack_vectors(_number_embeddings(vectors)["embedding"]).to_pylist()
    yield "raw", lambda: _write_raw(redis_client, stored_vectors)
    yield "plain", _prepare_feast(root / "plain", vectors)
    yield "ours", _prepare_product(root / "ours", vectors)


def _write_raw(redis_client: Redis, vectors: list[bytes]) -> None:
    for first_row in range(0, len(vectors), _BATCH):
        with redis_client.pipeline(transaction=False) as pipeline:
            for item_number, vector in enumerate(vectors[first_row : first_row + _BATCH], first_row):
                pipeline.set(f"raw:{item_number}", vector)
            pipeline.execute()


def _prepare_feast(root: Path, vectors: FloatArray) -> Callable[[], object]:
    """Feast as its documentation has it: a list feature, its own materialization."""
    write_store_file(root, FEATURES.model_copy(update={"project": "plain"}))
    feast_rows = _number_embeddings(vectors).select("item_id", "embedding", "event_timestamp")
    feast_rows.write_parquet(root / "vectors.parquet")
    item_entity = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING)
    vector_view = FeatureView(
        name="vectors",
        entities=[item_entity],
        ttl=timedelta(0),
        schema=[Field(name="item_id", dtype=String), Field(name="embedding", dtype=Array(Float32))],
        source=FileSource(
            name="vectors_source", path=str(root / "vectors.parquet"), timestamp_field="event_timestamp"
        ),
    )
    store = open_store(root)
    store.apply([item_entity, vector_view])
    return lambda: store.materialize(START - timedelta(days=1), END)


def _prepare_product(root: Path, vectors: FloatArray) -> Callable[[], object]:
    """The first fill, of an empty store."""
    write_store_file(root, FEATURES)
    feature_views = define_feature_views(root, space=SPACE, ttl=timedelta(0))
    open_store(root).apply([USER, ITEM, *feature_views])
    offline_table = OfflineTable(root / "item_knowledge.parquet", knowledge_view_name(SPACE), "item_id")
    embeddings = _number_embeddings(vectors)
    other_columns = embeddings.select(
        "item_id",
        "event_timestamp",
        item_space="space",
        item_semantic_id=pl.col("semantic_id").cast(pl.List(pl.Int64)),
    )
    packed_vectors = pack_vectors(embeddings["embedding"])
    pq.write_table(other_columns.to_arrow().append_column("item_vector", packed_vectors), offline_table.path)
    return lambda: fill_view(root, offline_table, FEATURES)


def _number_embeddings(vectors: FloatArray) -> pl.DataFrame:
    return make_two_code_embeddings([f"item_{number}" for number in range(len(vectors))], vectors)
