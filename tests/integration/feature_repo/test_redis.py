"""Materialization into a real Redis server and asynchronous reads from it."""

import asyncio
import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from price_codes import by_price
from redis import Redis
from redis.exceptions import ResponseError
from replay_log import START, write_replay_log

from feature_repo.config import FeatureStoreConfig
from feature_repo.feast_store import open_store
from feature_repo.feature_views import BASE_SERVICE, USER_VIEWS
from feature_repo.make_sample import write_sample_inputs
from feature_repo.offline.build_features import build_features
from feature_repo.online import redis_view
from feature_repo.online.feature_reader import FeatureReader
from feature_repo.online.history_writer import Behavior, HistoryWriter
from feature_repo.online.materialize_features import MATERIALIZED_FILE, materialize_features
from feature_repo.online.online_view import open_view
from feature_repo.online.redis_layout import RedisKeys
from feature_repo.online.value_sources import FeastSource, RedisSource
from feature_repo.replay_skew import create_empty_store, measure_history_skew

pytestmark = pytest.mark.integration


def test_features_go_through_redis(
    redis_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REASEQ_REDIS", redis_address)
    config = FeatureStoreConfig(online_store="redis", batch_rows=4)
    build_features(*write_sample_inputs(tmp_path), config, out=tmp_path / "features")
    counts = materialize_features(tmp_path / "features", config, store=tmp_path / "store")
    assert counts["item_knowledge_written"] == 6
    assert redis_address not in (tmp_path / "store" / "feature_store.yaml").read_text()

    async def read() -> None:
        reader = FeatureReader(tmp_path / "store", cached_items=100)
        user, items = await asyncio.gather(
            reader.read_user("user_0", service=BASE_SERVICE),
            reader.read_items(["item_3", "nothing"], service=BASE_SERVICE, dim=3, encode=by_price),
        )
        assert user.missing_parts == ()
        assert len(user.history_item_ids) == 6
        assert items.is_stored.tolist() == [True, False]
        assert items.vectors[0].tolist() == pytest.approx([0.0, 0.8, 0.6], abs=1e-3)
        assert (await reader.read_user("nobody", service=BASE_SERVICE)).missing_parts == (
            "history",
            "inferred",
        )
        await reader.close()

    asyncio.run(read())


def test_reading_redis_itself_gives_what_feast_gives(redis_address: str, tmp_path: Path) -> None:
    config = FeatureStoreConfig(online_store="redis", redis_connection=redis_address, project="compared")
    build_features(*write_sample_inputs(tmp_path), config, out=tmp_path / "features")
    materialize_features(tmp_path / "features", config, store=tmp_path / "store")

    async def read() -> None:
        store = open_store(tmp_path / "store")
        sources = RedisSource(store), FeastSource(store)
        named = {view.name: [field.name for field in view.features] for view in store.list_feature_views()}
        for join_key, ids in {
            "user_id": ["user_0", "nobody", "user_1"],
            "item_id": ["item_3", "nothing"],
        }.items():
            views = {
                name: fields
                for name, fields in named.items()
                if (name in USER_VIEWS) is (join_key == "user_id")
            }
            ours, theirs = [await source.read_values(views, join_key, ids) for source in sources]
            assert ours.keys() == theirs.keys() - {join_key}
            for name, values in ours.items():
                assert list(values) == list(theirs[name]), name
        for source in sources:
            await source.close()

    asyncio.run(read())


def test_several_processes_write_what_one_writes(redis_address: str, tmp_path: Path) -> None:
    config = FeatureStoreConfig(online_store="redis", redis_connection=redis_address, batch_rows=2)
    build_features(*write_sample_inputs(tmp_path), config, out=tmp_path / "features")
    digests = []
    for number, processes in enumerate((2, 1)):
        sharded = config.model_copy(update={"processes": processes, "project": f"project_{number}"})
        counts = materialize_features(tmp_path / "features", sharded, store=tmp_path / f"store_{number}")
        assert counts["items_written"] == 6
        digests.append(json.loads((tmp_path / f"store_{number}" / MATERIALIZED_FILE).read_text())["digests"])
    assert digests[0] == digests[1]
    again = materialize_features(tmp_path / "features", sharded, store=tmp_path / "store_1")
    assert (again["items_written"], again["items_unchanged"]) == (0, 6)


def test_keys_are_those_of_feast(redis_address: str, tmp_path: Path) -> None:
    config = FeatureStoreConfig(online_store="redis", redis_connection=redis_address)
    build_features(*write_sample_inputs(tmp_path), config, out=tmp_path / "features")
    materialize_features(tmp_path / "features", config, store=tmp_path / "store")
    store = open_store(tmp_path / "store", overwrite_newer=True)
    named = pl.read_parquet(tmp_path / "features" / "items.parquet").head(1)
    frame = pl.concat(
        [named.with_columns(item_id=pl.lit(name)) for name in ("", "a b", "\u00e9\U0001f525" * 60)]
    )
    store.write_to_online_store("items", df=frame.to_pandas())
    view = open_view(store, "items")
    assert view.read_rows(frame["item_id"].to_list()) == view.encode_frame(frame)


def test_a_repaired_table_of_the_same_time_replaces_the_first(redis_address: str, tmp_path: Path) -> None:
    config = FeatureStoreConfig(online_store="redis", redis_connection=redis_address, history_length=2)
    inputs = write_sample_inputs(tmp_path)
    for length in (2, 3):
        config = config.model_copy(update={"history_length": length})
        build_features(*inputs, config, out=tmp_path / "features")
        materialize_features(tmp_path / "features", config, store=tmp_path / "store")
    user = asyncio.run(
        FeatureReader(tmp_path / "store", cached_items=9).read_user("user_0", service=BASE_SERVICE)
    )
    assert len(user.history_item_ids) == 3


def test_what_a_user_does_enters_their_history_in_redis(redis_address: str, tmp_path: Path) -> None:
    config = FeatureStoreConfig(online_store="redis", redis_connection=redis_address, history_length=3)
    build_features(*write_sample_inputs(tmp_path), config, out=tmp_path / "features")
    materialize_features(tmp_path / "features", config, store=tmp_path / "store")
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    with closing(HistoryWriter(tmp_path / "store")) as writer:
        writer.queue_behaviors([Behavior("user_0", "new", "click", moment)])
    user = asyncio.run(
        FeatureReader(tmp_path / "store", cached_items=9).read_user("user_0", service=BASE_SERVICE)
    )
    assert user.history_item_ids[0] == "new"
    assert len(user.history_item_ids) == 3
    assert user.history_as_of == moment
    assert (
        materialize_features(tmp_path / "features", config, store=tmp_path / "store")["user_behaviors_kept"]
        == 1
    )


def test_a_log_told_to_redis_gives_the_histories_of_the_join(redis_address: str, tmp_path: Path) -> None:
    config = FeatureStoreConfig(online_store="redis", redis_connection=redis_address, history_length=7)
    cutoff = START + timedelta(seconds=20.5)
    log = write_replay_log(tmp_path, config, cutoff=cutoff)
    create_empty_store(tmp_path / "empty", config.model_copy(update={"project": "other"}))
    whole_skew = measure_history_skew(
        log.training_rows, log.behaviors, store=tmp_path / "empty", history_length=7
    )
    materialize_features(log.features, config, store=tmp_path / "store")
    is_later = pl.col("timestamp") >= cutoff
    later_skew = measure_history_skew(
        log.training_rows.filter(is_later),
        log.behaviors.filter(is_later),
        store=tmp_path / "store",
        history_length=7,
    )
    assert whole_skew.num_lists > later_skew.num_lists > 30
    assert (whole_skew.max_difference, later_skew.max_difference) == (0.0, 0.0)


def test_a_lost_connection_is_opened_again(
    redis_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_view, "_COMMANDS_PER_PACKET", 2)
    config = FeatureStoreConfig(online_store="redis", redis_connection=redis_address)
    build_features(*write_sample_inputs(tmp_path), config, out=tmp_path / "features")
    materialize_features(tmp_path / "features", config, store=tmp_path / "store")
    view = open_view(open_store(tmp_path / "store", overwrite_newer=True), "items")
    rows = view.encode_frame(pl.read_parquet(tmp_path / "features" / "items.parquet"))
    host, _, port = redis_address.partition(":")
    others = Redis(host=host, port=int(port))
    key_of, asked = RedisKeys.key_of, []

    def cuts(keys: RedisKeys, entity_id: str) -> bytes:
        asked.append(entity_id)
        if len(asked) == 3:
            assert others.client_kill_filter(skipme=True, _type="normal")
        return key_of(keys, entity_id)

    monkeypatch.setattr(RedisKeys, "key_of", cuts)
    assert view.read_rows(rows.keys) == rows
    assert len(asked) > len(rows), "all was asked once more"


def test_what_redis_refuses_is_an_error_and_the_view_works_on(redis_address: str, tmp_path: Path) -> None:
    config = FeatureStoreConfig(online_store="redis", redis_connection=redis_address)
    build_features(*write_sample_inputs(tmp_path), config, out=tmp_path / "features")
    materialize_features(tmp_path / "features", config, store=tmp_path / "store")
    store = open_store(tmp_path / "store", overwrite_newer=True)
    view = open_view(store, "items")
    rows = view.encode_frame(pl.read_parquet(tmp_path / "features" / "items.parquet"))
    host, _, port = redis_address.partition(":")
    other, key = Redis(host=host, port=int(port)), RedisKeys(store.config, "item_id").key_of("item_3")
    other.delete(key)
    other.set(key, "no hash")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        view.write_rows(rows)
    other.delete(key)
    view.write_rows(rows)
    assert view.read_rows(rows.keys) == rows
