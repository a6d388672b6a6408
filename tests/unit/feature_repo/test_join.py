from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from contracts.artifacts import create_artifact, read_lineage, write_table
from contracts.dataset import read_dataset
from contracts.table_schema import UTC_TIME
from contracts.tables import RANKING_LISTS, TRAINING_SET
from feature_repo.config import FeatureStoreConfig
from feature_repo.feature_views import AS_OF_FEATURES
from feature_repo.offline import point_in_time_join
from feature_repo.offline.point_in_time_join import join_features

START = datetime(2026, 1, 1, tzinfo=UTC)


def _lists(moments: pl.DataFrame) -> pl.DataFrame:
    return moments.select(
        list_id=pl.format("list_{}", pl.int_range(pl.len())),
        user_id="user_id",
        timestamp="timestamp",
        split=pl.lit("train"),
        protocol=pl.lit("contemporaneous"),
        item_ids=pl.lit(["item_0", "item_1"]),
        clicks=pl.lit([True, False]),
        orders=pl.lit([False, False]),
        values=pl.lit([0.0, 0.0]),
    )


@pytest.fixture(scope="module", params=[1_000_000, 0], ids=["feast", "as_of"])
def joined(request, shop, tmp_path_factory) -> pl.DataFrame:
    root = tmp_path_factory.mktemp("join")
    events = read_dataset(shop.dataset).behaviors.select("user_id", "timestamp")
    stranger = events.head(1).with_columns(user_id=pl.lit("nobody"))
    # Every moment twice (lists that share user and time), one microsecond later once more, and a user without
    # features.
    later = events.with_columns(pl.col("timestamp") + timedelta(microseconds=1))
    with create_artifact(root / "lists", kind="ranking_lists", inputs={}) as artifact:
        lists = _lists(pl.concat([events, events, later, stranger]))
        write_table(artifact.path / "ranking_lists.parquet", RANKING_LISTS, lists)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(point_in_time_join, "_MAX_FEAST_LISTS", request.param)
        join_features(root / "lists", shop.features, FeatureStoreConfig(batch_rows=7), out=root / "out")
    frame = pl.read_parquet(root / "out" / "training_set.parquet")
    assert frame.schema == TRAINING_SET.schema
    assert frame["list_id"].to_list() == lists["list_id"].to_list()
    return frame


def test_features_are_strictly_before_the_list(joined):
    known = joined.drop_nulls("history_as_of")
    assert (known["history_as_of"] < known["timestamp"]).all()
    assert (joined["inferred_as_of"].drop_nulls() < joined["timestamp"].max()).all()


def test_the_latest_earlier_behavior_is_joined(joined, shop):
    events = read_dataset(shop.dataset).behaviors.filter(pl.col("user_id") == "user_1").sort("timestamp")
    at = joined.filter((pl.col("user_id") == "user_1") & (pl.col("timestamp") == events["timestamp"][3]))
    just_after = joined.filter(
        (pl.col("user_id") == "user_1")
        & (pl.col("timestamp") == events["timestamp"][3] + timedelta(microseconds=1))
    )
    assert len(at) == 2
    assert at["history_item_ids"].to_list() == [events["item_id"][:3].reverse().to_list()] * 2
    assert just_after["history_item_ids"].to_list() == [events["item_id"][1:4].reverse().to_list()]


def test_the_first_list_of_a_user_and_a_stranger_have_no_history(joined, shop):
    first = read_dataset(shop.dataset).behaviors["timestamp"].min()
    empty = joined.filter((pl.col("timestamp") == first) | (pl.col("user_id") == "nobody"))
    assert empty["history_item_ids"].is_null().all()
    assert len(empty) == 3


def test_both_joins_give_the_same_rows(shop, tmp_path, monkeypatch):
    """On a log where users act often, at the same moments, and are inferred again and again."""
    rng = np.random.default_rng(0)
    features = _random_features(shop.features, tmp_path / "features", rng)
    drawn = pl.DataFrame({"user": rng.integers(60, size=500), "second": rng.integers(100, size=500)})
    moments = drawn.select(
        user_id=pl.format("user_{}", "user"),
        timestamp=(pl.lit(START) + pl.duration(seconds="second")).cast(UTC_TIME),
    )
    with create_artifact(tmp_path / "lists", kind="ranking_lists", inputs={}) as artifact:
        write_table(artifact.path / "ranking_lists.parquet", RANKING_LISTS, _lists(moments))
    found = []
    for name, most in {"feast": 500, "as_of": 499}.items():
        monkeypatch.setattr(point_in_time_join, "_MAX_FEAST_LISTS", most)
        config = FeatureStoreConfig(batch_rows=64)
        join_features(tmp_path / "lists", features, config, out=tmp_path / name)
        found.append(pl.read_parquet(tmp_path / name / "training_set.parquet"))
    assert_frame_equal(*found)
    assert 0 < found[0]["history_as_of"].null_count() < 500
    assert 0 < found[0]["inferred_as_of"].null_count() < 500
    metrics = [read_lineage(tmp_path / name).metrics for name in ("feast", "as_of")]
    assert metrics[0] == metrics[1]


def _random_features(like: Path, out: Path, rng: np.random.Generator) -> Path:
    """Features of the shop's form for 50 users: some of 60 have none."""
    with create_artifact(out, kind="features", inputs={}) as artifact:
        artifact.labels |= read_lineage(like).labels
        for path in like.glob("*.parquet"):
            frame = pl.read_parquet(path)
            if as_of := AS_OF_FEATURES.get(path.stem):
                seconds = pl.Series(rng.integers(100, size=400)).alias("second")
                stamps = (pl.lit(START) + pl.duration(seconds=pl.lit(seconds))).cast(UTC_TIME)
                drawn = frame.sample(400, with_replacement=True, seed=1).with_columns(
                    pl.format("user_{}", pl.lit(pl.Series(rng.integers(50, size=400)))).alias("user_id"),
                    event_timestamp=stamps,
                )
                frame = drawn.with_columns(pl.col("event_timestamp").alias(as_of)).unique(["user_id", as_of])
                frame = frame.sort("user_id", as_of)
            frame.write_parquet(artifact.path / path.name)
    return out
