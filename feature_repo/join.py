"""Training rows: ranking lists with the user features that were known strictly before each of them."""

import tempfile
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from feast import FeatureStore

from contracts.artifacts import check_table, new_artifact, read_lineage
from contracts.schema import UTC_TIME
from contracts.tables import RANKING_LISTS, TRAINING_SET
from feature_repo.asof import join_as_of
from feature_repo.config import FeatureConfig
from feature_repo.store import offline_store
from feature_repo.views import (
    AS_OF_FEATURES,
    TIMESTAMP,
    TRAINING_SERVICE,
    base_services,
    entities,
    feature_views,
)

_JUST_BEFORE = timedelta(microseconds=1)
"""Feast joins what is known at or before a time; the smallest step back makes that 'strictly before'."""


def join_features(lists: Path, features: Path, config: FeatureConfig, *, out: Path) -> None:
    """Writes `training_set.parquet`: each ranking list with its user's features as of its own time.

    Up to `config.max_feast_lists` lists go through Feast's historical retrieval, more through `asof.py`.

    Raises:
        UserError: an input is missing or is not what its name says.
    """
    path = lists / "ranking_lists.parquet"
    check_table(path, RANKING_LISTS)
    num_lists = pl.scan_parquet(path).select(pl.len()).collect().item()
    join = _feast_join if num_lists <= config.max_feast_lists else _big_join
    with (
        tempfile.TemporaryDirectory() as scratch,
        new_artifact(out, kind="training_set", inputs={"lists": lists, "features": features}, config=config) as made,
    ):
        frames = join(path, features, config, Path(scratch))
        made.metrics |= _write(made.path / "training_set.parquet", frames, num_lists, config.batch_rows)
        made.labels["space"] = read_lineage(features).labels["space"]


def _write(path: Path, frames: Iterator[pl.DataFrame], num_lists: int, group_rows: int) -> dict[str, float]:
    """Writes the rows as they come; returns how many there are and the shares of them that have features.

    Row groups stay small, since readers hold one of them.
    """
    schema = TRAINING_SET.empty().to_arrow().schema
    counts = dict.fromkeys(("list_id", *AS_OF_FEATURES.values()), 0)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for frame in frames:
            rows = TRAINING_SET.check(frame.rename({"inferred_space": "space"}))
            late = rows.filter(pl.max_horizontal(*AS_OF_FEATURES.values()) >= pl.col("timestamp"))
            assert late.is_empty(), f"features from the future: {late.head(3).to_dicts()}"
            writer.write_table(rows.to_arrow().cast(schema), row_group_size=group_rows)
            counts = {column: count + rows[column].count() for column, count in counts.items()}
    found, with_history, with_inferred = counts.values()
    assert found == num_lists, f"{num_lists} lists became {found} training rows"
    total = max(found, 1)
    return {
        "lists": found,
        "share_with_history": with_history / total,
        "share_with_inferred": with_inferred / total,
    }


def _big_join(lists: Path, features: Path, config: FeatureConfig, scratch: Path) -> Iterator[pl.DataFrame]:
    return join_as_of(lists, features, batch_rows=config.batch_rows, scratch=scratch)


def _feast_join(lists: Path, features: Path, config: FeatureConfig, scratch: Path) -> Iterator[pl.DataFrame]:
    ranking_lists = pl.read_parquet(lists)
    moments = ranking_lists.select("user_id", "timestamp").unique().sort("user_id", "timestamp")
    store = _training_store(features, config, scratch)
    joined = [_features_at(batch, store, features) for batch in moments.iter_slices(config.batch_rows)]
    if joined:
        yield ranking_lists.join(pl.concat(joined), on=["user_id", "timestamp"], how="left", maintain_order="left")


def _training_store(features: Path, config: FeatureConfig, scratch: Path) -> FeatureStore:
    # No time to live here: a training row sees what an unlimited online store would have held.
    views = feature_views(features.resolve(), space=read_lineage(features).labels["space"], ttl=timedelta(0))
    return offline_store(scratch, config, [*entities(), *views, *base_services(views)])


def _features_at(moments: pl.DataFrame, store: FeatureStore, features: Path) -> pl.DataFrame:
    """The users' features strictly before the moments; the moments are sorted by user."""
    known = _times_known(moments, store)
    first, last = pl.lit(moments["user_id"][0]), pl.lit(moments["user_id"][-1])
    for table, as_of in AS_OF_FEATURES.items():
        # Sorted by user, so only the row groups of these users are read.
        rows = (
            pl.scan_parquet(features / f"{table}.parquet")
            .filter(pl.col("user_id").is_between(first, last))
            .drop(TIMESTAMP)
            .collect()
        )
        known = known.join(rows, on=["user_id", as_of], how="left", maintain_order="left")
    assert len(known) == len(moments), f"{len(moments)} moments became {len(known)} feature rows"
    return known


def _times_known(moments: pl.DataFrame, store: FeatureStore) -> pl.DataFrame:
    """Which row of each table was the latest one before each moment, by Feast's point-in-time join.

    Feast pairs every moment with every earlier row of its user before it picks the latest; so it gets only the rows'
    times, and the histories themselves are looked up by time.
    """
    wanted = moments.select("user_id", (pl.col("timestamp") - _JUST_BEFORE).alias(TIMESTAMP))
    service = store.get_feature_service(TRAINING_SERVICE)
    with warnings.catch_warnings():
        # ibis 12 calls a method that DuckDB 2 has renamed, once per table.
        warnings.simplefilter("ignore", DeprecationWarning)
        found = pl.from_arrow(store.get_historical_features(entity_df=wanted.to_pandas(), features=service).to_arrow())
    assert isinstance(found, pl.DataFrame)
    assert len(found) == len(moments), f"{len(moments)} moments became {len(found)} feature rows"
    times = pl.col(*AS_OF_FEATURES.values()).cast(UTC_TIME)
    return found.select("user_id", (pl.col(TIMESTAMP).cast(UTC_TIME) + _JUST_BEFORE).alias("timestamp"), times)
