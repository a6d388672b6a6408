"""The point-in-time join: ranking lists with the user features that were known strictly before each of them.

Two ways give the same rows in the same order (a test holds them equal):

- Feast's historical retrieval pairs every moment with every earlier row of its user.
- DuckDB's as-of join sorts on disk what memory does not hold, so its memory does not grow with the lists.
"""

import os
import tempfile
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from feast import FeatureStore

from contracts.artifacts import check_table_columns, create_artifact, read_lineage
from contracts.duckdb_connection import open_duckdb
from contracts.table_schema import UTC_TIME
from contracts.tables import RANKING_LISTS, TRAINING_SET
from feature_repo.config import FeatureStoreConfig
from feature_repo.feast_store import open_offline_store
from feature_repo.feature_views import (
    AS_OF_FEATURES,
    ITEM,
    TIMESTAMP,
    TRAINING_SERVICE,
    USER,
    define_base_services,
    define_feature_views,
)
from feature_repo.offline.context_vectors import ContextVectors, EmbedTexts

_MAX_FEAST_LISTS: Final = 1_000_000
"""Feast's pairs of a million lists still fit into the memory of a small machine."""
_JUST_BEFORE: Final = timedelta(microseconds=1)
"""Feast joins what is known at or before a time. The smallest step back makes that 'strictly before'."""
_DUCKDB_MEMORY: Final = "1GB"
_MAX_DUCKDB_THREADS: Final = 4
"""Each takes memory of its own for what it sorts."""
_AS_OF_JOIN: Final = """
SELECT
    lists.* EXCLUDE (file_row_number),
    behaviors.* EXCLUDE (user_id, event_timestamp, history_micros),
    inferred.* EXCLUDE (user_id, event_timestamp)
FROM read_parquet($lists, file_row_number = true) AS lists
ASOF LEFT JOIN read_parquet($behaviors) AS behaviors
    ON lists.user_id = behaviors.user_id AND lists.timestamp > behaviors.event_timestamp
ASOF LEFT JOIN read_parquet($inferred) AS inferred
    ON lists.user_id = inferred.user_id AND lists.timestamp > inferred.event_timestamp
ORDER BY lists.file_row_number
"""


def join_features(
    lists: Path,
    features: Path,
    config: FeatureStoreConfig,
    *,
    out: Path,
    embed_texts: EmbedTexts | None = None,
) -> None:
    """Writes `training_set.parquet`: each ranking list with its user's features as of its own time.

    Args:
        lists: the ranking lists.
        features: the offline feature tables.
        config: how many rows are joined at a time.
        out: the artifact.
        embed_texts: places queries and page categories in the item space; without it only pages about an
            item have a vector.

    Raises:
        UserError: an input is missing or is not what its name says.
    """
    lists_path = lists / "ranking_lists.parquet"
    check_table_columns(lists_path, RANKING_LISTS)
    num_lists = pl.scan_parquet(lists_path).select(pl.len()).collect().item()
    join_lists = _join_by_feast if num_lists <= _MAX_FEAST_LISTS else _join_by_duckdb
    inputs = {"lists": lists, "features": features}
    with (
        tempfile.TemporaryDirectory() as scratch,
        create_artifact(out, kind="training_set", inputs=inputs, config=config) as artifact,
    ):
        context_vectors = ContextVectors.read_for_lists(lists_path, features, embed_texts)
        joined_frames = join_lists(lists_path, features, config, Path(scratch))
        artifact.metrics |= _write_training_rows(
            artifact.path / "training_set.parquet",
            map(context_vectors.add_to, joined_frames),
            num_lists,
            config.batch_rows,
        )
        artifact.labels["space"] = read_lineage(features).labels["space"]


def _write_training_rows(
    path: Path, frames: Iterator[pl.DataFrame], num_lists: int, group_rows: int
) -> dict[str, float]:
    """Writes the rows as they come, and returns what the artifact tells of them.

    Row groups stay small, since readers hold one of them.
    """
    schema = TRAINING_SET.create_empty().to_arrow().schema
    counts = dict.fromkeys(("list_id", *AS_OF_FEATURES.values()), 0)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for frame in frames:
            rows = TRAINING_SET.check_rows(frame.rename({"inferred_space": "space"}))
            future_rows = rows.filter(pl.max_horizontal(*AS_OF_FEATURES.values()) >= pl.col("timestamp"))
            assert future_rows.is_empty(), f"features from the future: {future_rows.head(3).to_dicts()}"
            # The online store keeps whole seconds: ages must come out alike in both.
            rows = rows.with_columns(pl.col(AS_OF_FEATURES.values()).dt.truncate("1s"))
            writer.write_table(rows.to_arrow().cast(schema), row_group_size=group_rows)
            counts = {column: count + rows[column].count() for column, count in counts.items()}
    num_rows, num_with_history, num_with_inferred = counts.values()
    assert num_rows == num_lists, f"{num_lists} lists became {num_rows} training rows"
    return {
        "lists": num_rows,
        "share_with_history": num_with_history / max(num_rows, 1),
        "share_with_inferred": num_with_inferred / max(num_rows, 1),
    }


def _join_by_duckdb(
    lists_path: Path, features: Path, config: FeatureStoreConfig, scratch: Path
) -> Iterator[pl.DataFrame]:
    """Yields the lists in order with their user's features; `scratch` takes what memory does not."""
    parquet_paths = {
        "lists": str(lists_path),
        "behaviors": str(features / "user_behaviors.parquet"),
        "inferred": str(features / "inferred_behaviors.parquet"),
    }
    num_threads = min(len(os.sched_getaffinity(0)), _MAX_DUCKDB_THREADS)
    with open_duckdb(memory_limit=_DUCKDB_MEMORY, scratch=scratch, threads=num_threads) as connection:
        for batch in connection.sql(_AS_OF_JOIN, params=parquet_paths).to_arrow_reader(config.batch_rows):
            yield pl.DataFrame(batch)


def _join_by_feast(
    lists_path: Path, features: Path, config: FeatureStoreConfig, scratch: Path
) -> Iterator[pl.DataFrame]:
    ranking_lists = pl.read_parquet(lists_path)
    list_moments = ranking_lists.select("user_id", "timestamp").unique().sort("user_id", "timestamp")
    space = read_lineage(features).labels["space"]
    # No time to live here: a training row sees what an unlimited online store would have held.
    views = define_feature_views(features.resolve(), space=space, ttl=timedelta(0))
    store = open_offline_store(scratch, config, [USER, ITEM, *views, *define_base_services(views)])
    batches = list_moments.iter_slices(config.batch_rows)
    if moment_features := [_look_up_features(moments, store, features) for moments in batches]:
        yield ranking_lists.join(
            pl.concat(moment_features), on=["user_id", "timestamp"], how="left", maintain_order="left"
        )


def _look_up_features(moments: pl.DataFrame, store: FeatureStore, features: Path) -> pl.DataFrame:
    """Looks up the users' features strictly before the moments, which are sorted by user."""
    moment_features = _find_latest_row_times(moments, store)
    first_user, last_user = pl.lit(moments["user_id"][0]), pl.lit(moments["user_id"][-1])
    for table, as_of in AS_OF_FEATURES.items():
        # The tables are sorted by user, so only the row groups of these users are read.
        user_rows = (
            pl.scan_parquet(features / f"{table}.parquet")
            .filter(pl.col("user_id").is_between(first_user, last_user))
            .drop(TIMESTAMP, "history_micros", strict=False)
            .collect()
        )
        moment_features = moment_features.join(
            user_rows, on=["user_id", as_of], how="left", maintain_order="left"
        )
    assert len(moment_features) == len(moments), (
        f"{len(moments)} moments: {len(moment_features)} feature rows"
    )
    return moment_features


def _find_latest_row_times(moments: pl.DataFrame, store: FeatureStore) -> pl.DataFrame:
    """Finds which row of each table was the latest one before each moment, by Feast's point-in-time join.

    Feast pairs every moment with every earlier row of its user before it picks the latest. So it gets
    only the rows' times, and the histories themselves are looked up by time.
    """
    just_before = moments.select("user_id", (pl.col("timestamp") - _JUST_BEFORE).alias(TIMESTAMP))
    service = store.get_feature_service(TRAINING_SERVICE)
    with warnings.catch_warnings():
        # ibis 12 calls a method that DuckDB 2 has renamed, once per table.
        warnings.simplefilter("ignore", DeprecationWarning)
        retrieval = store.get_historical_features(entity_df=just_before.to_pandas(), features=service)
        latest_rows = pl.DataFrame(retrieval.to_arrow())
    assert len(latest_rows) == len(moments), f"{len(moments)} moments became {len(latest_rows)} feature rows"
    return latest_rows.select(
        "user_id",
        (pl.col(TIMESTAMP).cast(UTC_TIME) + _JUST_BEFORE).alias("timestamp"),
        pl.col(*AS_OF_FEATURES.values()).cast(UTC_TIME),
    )
