from datetime import timedelta

import polars as pl
import pytest

from contracts.artifacts import new_artifact, write_table
from contracts.dataset import read_dataset
from contracts.tables import RANKING_LISTS, TRAINING_SET
from feature_repo.config import FeatureConfig
from feature_repo.join import join_features


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


@pytest.fixture(scope="module")
def joined(shop, tmp_path_factory) -> pl.DataFrame:
    root = tmp_path_factory.mktemp("join")
    events = read_dataset(shop.dataset).behaviors.select("user_id", "timestamp")
    stranger = events.head(1).with_columns(user_id=pl.lit("nobody"))
    # Every moment twice (lists that share user and time), one microsecond later once more, and a user without features.
    later = events.with_columns(pl.col("timestamp") + timedelta(microseconds=1))
    with new_artifact(root / "lists", kind="ranking_lists", inputs={}) as artifact:
        lists = _lists(pl.concat([events, events, later, stranger]))
        write_table(artifact.path / "ranking_lists.parquet", RANKING_LISTS, lists)
    join_features(root / "lists", shop.features, FeatureConfig(batch_rows=7), out=root / "out")
    frame = pl.read_parquet(root / "out" / "training_set.parquet")
    assert frame.schema == TRAINING_SET.schema
    assert frame["list_id"].to_list() == lists["list_id"].to_list()
    return frame


def test_features_are_strictly_before_the_list(joined):
    known = joined.drop_nulls("history_as_of")
    assert (known["history_as_of"] < known["timestamp"]).all()
    assert (joined["inferred_as_of"].drop_nulls() < joined["timestamp"].max()).all()


def test_the_latest_earlier_behaviour_is_joined(joined, shop):
    events = read_dataset(shop.dataset).behaviors.filter(pl.col("user_id") == "user_1").sort("timestamp")
    at = joined.filter((pl.col("user_id") == "user_1") & (pl.col("timestamp") == events["timestamp"][3]))
    just_after = joined.filter(
        (pl.col("user_id") == "user_1") & (pl.col("timestamp") == events["timestamp"][3] + timedelta(microseconds=1))
    )
    assert len(at) == 2
    assert at["history_item_ids"].to_list() == [events["item_id"][:3].reverse().to_list()] * 2
    assert just_after["history_item_ids"].to_list() == [events["item_id"][1:4].reverse().to_list()]


def test_the_first_list_of_a_user_and_a_stranger_have_no_history(joined, shop):
    first = read_dataset(shop.dataset).behaviors["timestamp"].min()
    empty = joined.filter((pl.col("timestamp") == first) | (pl.col("user_id") == "nobody"))
    assert empty["history_item_ids"].is_null().all()
    assert len(empty) == 3
