import asyncio
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from price_codes import by_price, prices

from contracts.errors import UserError
from feature_repo.config import FeatureStoreConfig
from feature_repo.feast_store import open_store, write_store_file
from feature_repo.feature_services import register_service
from feature_repo.feature_views import BASE_SERVICE, knowledge_view_name
from feature_repo.online.feature_reader import FeatureReader
from feature_repo.online.materialize_features import materialize_features


@pytest.fixture
def reader(store):
    reader = FeatureReader(store, cached_items=4)
    yield reader
    asyncio.run(reader.close())


def test_a_user_reads_as_they_were_built(shop, reader):
    user = asyncio.run(reader.read_user("user_2", service=BASE_SERVICE))
    built = pl.read_parquet(shop.features / "user_behaviors.parquet").filter(pl.col("user_id") == "user_2")
    last = built.sort("event_timestamp").row(-1, named=True)
    assert user.history_item_ids == last["history_item_ids"]
    assert user.history_as_of == last["event_timestamp"]
    assert user.inferred_item_ids == ["item_4", "item_1"]
    assert user.inferred_scores == pytest.approx([0.9, 0.4])
    assert user.missing_parts == ()
    later = last["event_timestamp"] + timedelta(seconds=5)
    assert user.ages_at(later) == [age + 5 for age in last["history_ages_s"]]


def test_an_unknown_user_is_said_to_be_missing(reader):
    assert asyncio.run(reader.read_user("nobody", service=BASE_SERVICE)).missing_parts == (
        "history",
        "inferred",
    )


def test_items_read_through_the_cache_equal_the_table(reader):
    wanted = ["item_3", "item_0", "nothing", "item_3"]
    for _ in range(2):
        found = asyncio.run(reader.read_items(wanted, service=BASE_SERVICE, dim=3, encode=by_price))
        assert found.is_stored.tolist() == [True, True, False, True]
        assert found.has_vector.tolist() == [True, True, False, True]
        assert found.vectors[0].tolist() == pytest.approx([0.0, 0.8, 0.6], abs=1e-3)
        assert prices(found) == [30, 0, None, 30]


def test_a_request_for_more_items_than_are_cached_knows_them_all(store):
    reader = FeatureReader(store, cached_items=1)
    found = asyncio.run(
        reader.read_items([f"item_{n}" for n in range(6)], service=BASE_SERVICE, dim=3, encode=by_price)
    )
    assert found.is_stored.all()
    assert prices(found) == [10 * n for n in range(6)]


def _price(reader):
    return prices(asyncio.run(reader.read_items(["item_0"], service=BASE_SERVICE, dim=3, encode=by_price)))[0]


def test_a_new_materialization_clears_the_cache(shop, tmp_path):
    config = FeatureStoreConfig()
    materialize_features(shop.features, config, store=tmp_path)
    reader = FeatureReader(tmp_path, cached_items=10)
    assert _price(reader) == 0
    store = open_store(tmp_path)
    changed = pl.read_parquet(shop.features / "items.parquet").with_columns(item_price=pl.lit(99.0))
    store.write_to_online_store("items", df=changed.to_pandas())
    assert _price(reader) == 0
    (tmp_path / "materialized.json").write_text("{}")
    assert _price(reader) == 99


def test_a_second_materialization_keeps_what_was_pushed_since(shop, tmp_path):
    config = FeatureStoreConfig()
    first = materialize_features(shop.features, config, store=tmp_path)
    assert first["user_behaviors_written"] == 3
    assert first["items_written"] == 6
    now = datetime(2026, 3, 1, tzinfo=UTC)
    pushed = pl.DataFrame(
        {
            "user_id": ["user_0"],
            "history_item_ids": [["item_5"]],
            "history_event_types": [["click"]],
            "history_ages_s": [[0]],
            "history_micros": [[0]],
            "history_as_of": [now],
            "event_timestamp": [now],
        }
    )
    open_store(tmp_path).write_to_online_store("user_behaviors", df=pushed.to_pandas())
    again = materialize_features(shop.features, config, store=tmp_path)
    assert [again[f"user_behaviors_{what}"] for what in ("written", "unchanged", "kept")] == [0, 2, 1]
    reader = FeatureReader(tmp_path, cached_items=10)
    assert asyncio.run(reader.read_user("user_0", service=BASE_SERVICE)).history_item_ids == ["item_5"]


def test_past_their_time_to_live_a_users_values_are_missing(shop, tmp_path):
    materialize_features(shop.features, FeatureStoreConfig(ttl_days=1), store=tmp_path)
    reader = FeatureReader(tmp_path, cached_items=10)
    user = asyncio.run(reader.read_user("user_0", service=BASE_SERVICE))
    assert user.missing_parts == ("history", "inferred")
    assert user.history_item_ids == []
    assert asyncio.run(
        reader.read_items(["item_0"], service=BASE_SERVICE, dim=3, encode=by_price)
    ).has_vector.all()


def test_a_ranker_gets_its_own_service_and_its_own_space(store, reader):
    register_service(store, "ranker_ab", space="sample-space", description="test")
    register_service(store, "ranker_ids", space=None, description="test")
    assert asyncio.run(
        reader.read_items(["item_0"], service="ranker_ab", dim=3, encode=by_price)
    ).has_vector.all()
    assert not asyncio.run(
        reader.read_items(["item_0"], service="ranker_ids", dim=3, encode=by_price)
    ).has_vector.any()


@pytest.mark.parametrize("blob", [b"short", np.full(3, np.nan, "<f2").tobytes(), np.ones(3, "<f4").tobytes()])
def test_a_vector_that_is_not_sound_is_missing_and_takes_no_other_with_it(shop, tmp_path, blob):
    materialize_features(shop.features, FeatureStoreConfig(), store=tmp_path)
    broken = pl.read_parquet(shop.features / "item_knowledge.parquet").filter(item_id="item_0")
    view = knowledge_view_name("sample-space")
    frame = broken.with_columns(item_vector=pl.lit(blob)).to_pandas()
    open_store(tmp_path).write_to_online_store(view, df=frame)
    reader = FeatureReader(tmp_path, cached_items=10)
    found = asyncio.run(reader.read_items(["item_0", "item_3"], service=BASE_SERVICE, dim=3, encode=by_price))
    assert found.has_vector.tolist() == [False, True]
    assert found.vectors[0].tolist() == [0, 0, 0]
    assert prices(found) == [0, 30]


@pytest.mark.parametrize(
    ("view", "changes"),
    [
        ("user_behaviors", {"history_ages_s": [[1]]}),
        ("user_behaviors", {"history_event_types": [["click"]]}),
        ("inferred_behaviors", {"inferred_scores": [[0.5]]}),
        ("inferred_behaviors", {"inferred_scores": [[0.5, 0.0]]}),
        ("inferred_behaviors", {"inferred_scores": [[float("nan"), 0.5]]}),
    ],
)
def test_a_user_whose_row_is_not_sound_is_an_error(shop, tmp_path, view, changes):
    materialize_features(shop.features, FeatureStoreConfig(), store=tmp_path)
    last = (
        pl.read_parquet(shop.features / f"{view}.parquet")
        .filter(user_id="user_2")
        .sort("event_timestamp")
        .tail(1)
    )
    frame = last.with_columns(**{name: pl.Series(name, value) for name, value in changes.items()}).to_pandas()
    open_store(tmp_path).write_to_online_store(view, df=frame)
    with pytest.raises(ValueError, match="a stored"):
        asyncio.run(FeatureReader(tmp_path, cached_items=10).read_user("user_2", service=BASE_SERVICE))


def test_a_space_that_the_store_does_not_hold_is_refused(store):
    with pytest.raises(UserError, match=r"needs embedding space 'other'.* holds sample-space"):
        register_service(store, "ranker_x", space="other", description="test")


def test_vectors_of_another_length_than_the_ranker_takes_are_refused(store):
    register_service(store, "ranker_y", space="sample-space", description="test", dim=3)
    with pytest.raises(
        UserError, match=r"takes vectors of 4 numbers, space 'sample-space' in .* has 3; materialize"
    ):
        register_service(store, "ranker_z", space="sample-space", description="test", dim=4)


def test_an_unknown_service_is_named(reader):
    with pytest.raises(UserError, match="'ranker_zz' is not registered"):
        asyncio.run(reader.read_user("user_0", service="ranker_zz"))


def test_no_store_and_an_unset_redis_address_are_said(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="run the materialize step"):
        open_store(tmp_path)
    monkeypatch.delenv("REASEQ_REDIS", raising=False)
    write_store_file(tmp_path, FeatureStoreConfig(online_store="redis"))
    with pytest.raises(UserError, match="REASEQ_REDIS"):
        open_store(tmp_path)
