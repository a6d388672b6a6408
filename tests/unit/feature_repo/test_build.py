from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from contracts.artifacts import create_artifact, read_lineage, write_table
from contracts.dataset import read_dataset
from contracts.errors import UserError
from contracts.tables import INFERRED_BEHAVIORS, ITEM_EMBEDDINGS
from feature_repo.config import FeatureStoreConfig
from feature_repo.offline.behavior_histories import iter_histories
from feature_repo.offline.build_features import build_features, pack_vectors


def _plain_histories(log: pl.DataFrame, length: int) -> dict[tuple[str, object], tuple[list[str], list[str]]]:
    """The obvious way: after each moment of a user, their latest behaviors."""
    found = {}
    for user_id, moment in log.select("user_id", "timestamp").unique().iter_rows():
        past = log.filter((pl.col("user_id") == user_id) & (pl.col("timestamp") <= moment))
        past = past.sort("timestamp", "item_id", "event_type").reverse().head(length)
        found[user_id, moment] = (past["item_id"].to_list(), past["event_type"].to_list())
    return found


def test_histories_equal_the_obvious_way_whatever_the_batch(shop):
    log = read_dataset(shop.dataset).behaviors
    # Two events at one moment become one row that holds both.
    twin = log.head(1).with_columns(item_id=pl.lit("item_5"), event_type=pl.lit("cart"))
    log = pl.concat([log, twin])
    expected = _plain_histories(log, 4)
    for batch_rows in (1, 3, 1000):
        rows = pl.concat(iter_histories(log, history_length=4, batch_rows=batch_rows))
        found = {
            (row["user_id"], row["event_timestamp"]): (row["history_item_ids"], row["history_event_types"])
            for row in rows.iter_rows(named=True)
        }
        assert found == expected


def test_ages_count_back_from_the_moment(shop):
    rows = pl.read_parquet(shop.features / "user_behaviors.parquet")
    last = rows.filter(pl.col("user_id") == "user_0").sort("event_timestamp").row(-1, named=True)
    assert last["history_ages_s"] == [0, 36 * 3600, 72 * 3600]
    assert last["history_as_of"] == last["event_timestamp"]


def test_the_snapshot_at_the_cutoff_is_served_and_none_after_it(shop, tmp_path):
    split = read_dataset(shop.dataset).split
    frame = pl.read_parquet(shop.inferred_behaviors / "inferred_behaviors.parquet")
    at_cutoff = frame.with_columns(event_timestamp=pl.lit(split.cutoff))
    after_cutoff = frame.with_columns(event_timestamp=pl.lit(split.cutoff + timedelta(microseconds=1)))
    snapshots = pl.concat([frame, at_cutoff, after_cutoff])
    with create_artifact(tmp_path / "inferred", kind="inferred_behaviors", inputs={}) as artifact:
        write_table(artifact.path / "inferred_behaviors.parquet", INFERRED_BEHAVIORS, snapshots)
    build_features(
        shop.dataset, shop.item_embeddings, tmp_path / "inferred", FeatureStoreConfig(), out=tmp_path / "out"
    )
    built = pl.read_parquet(tmp_path / "out" / "inferred_behaviors.parquet")
    assert built["event_timestamp"].max() == split.cutoff
    assert len(built) == 2 * len(frame)


def test_vectors_survive_as_bytes(shop):
    embeddings = pl.read_parquet(shop.item_embeddings / "item_embeddings.parquet")
    built = pl.read_parquet(shop.features / "item_knowledge.parquet")
    for blob, vector in zip(built["item_vector"], embeddings["embedding"], strict=True):
        np.testing.assert_array_equal(np.frombuffer(blob, "<f2"), vector.to_numpy().astype(np.float16))
    assert read_lineage(shop.features).labels["space"] == "sample-space"


@pytest.mark.parametrize("number", [1e6, float("nan"), float("-inf")])
def test_vectors_that_half_floats_cannot_hold_are_refused(number):
    with pytest.raises(UserError, match=r"beyond \+-65504, or none; normalize the embeddings"):
        pack_vectors(pl.Series([[0.5, number]]))


def test_features_without_any_embedding_are_refused(shop, tmp_path: Path):
    embeddings = pl.read_parquet(shop.item_embeddings / "item_embeddings.parquet").clear()
    with create_artifact(tmp_path / "none", kind="item_embeddings", inputs={}) as artifact:
        write_table(artifact.path / "item_embeddings.parquet", ITEM_EMBEDDINGS, embeddings)
    with pytest.raises(UserError, match="no item embedding in"):
        build_features(
            shop.dataset,
            tmp_path / "none",
            shop.inferred_behaviors,
            FeatureStoreConfig(),
            out=tmp_path / "out",
        )


def test_two_spaces_are_refused(shop, tmp_path: Path):
    frame = pl.read_parquet(shop.inferred_behaviors / "inferred_behaviors.parquet")
    with create_artifact(tmp_path / "inferred", kind="inferred_behaviors", inputs={}) as artifact:
        other = frame.with_columns(space=pl.lit("other"))
        write_table(artifact.path / "inferred_behaviors.parquet", INFERRED_BEHAVIORS, other)
    with pytest.raises(UserError, match="one embedding space, found"):
        build_features(
            shop.dataset,
            shop.item_embeddings,
            tmp_path / "inferred",
            FeatureStoreConfig(),
            out=tmp_path / "o",
        )
