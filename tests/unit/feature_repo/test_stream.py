"""Events that enter the online histories while serving."""

import asyncio
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from contracts.errors import UserError
from feature_repo.config import FeatureStoreConfig
from feature_repo.feature_views import BASE_SERVICE
from feature_repo.offline.behavior_histories import iter_histories
from feature_repo.online.feature_reader import FeatureReader
from feature_repo.online.history_writer import Behavior, History, HistoryWriter, merge_history
from feature_repo.online.materialize_features import materialize_features

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def filled(shop, tmp_path):
    materialize_features(shop.features, FeatureStoreConfig(history_length=4), store=tmp_path)
    return tmp_path


def read(store, user):
    async def reading():
        reader = FeatureReader(store, cached_items=4)
        try:
            return await reader.read_user(user, service=BASE_SERVICE)
        finally:
            await reader.close()

    return asyncio.run(reading())


def test_what_a_user_does_stands_first_in_their_history(filled):
    before = read(filled, "user_0")
    with closing(HistoryWriter(filled)) as writer:
        writer.queue_behaviors(
            [Behavior("user_0", "item_5", "click", NOW), Behavior("nobody yet", "item_1", "order", NOW)]
        )
        writer.queue_behaviors([Behavior("user_0", "item_2", "cart", NOW + timedelta(minutes=1))])
    after = read(filled, "user_0")
    assert after.history_item_ids == ["item_2", "item_5", *before.history_item_ids[:2]]
    assert after.history_event_types[:2] == ["cart", "click"]
    assert after.history_as_of == NOW + timedelta(minutes=1)
    assert after.ages_at(after.history_as_of)[1:] == [60, *(age + 60 for age in before.ages_at(NOW)[:2])]
    assert after.inferred_item_ids == before.inferred_item_ids, "other views are left alone"
    stranger = read(filled, "nobody yet")
    assert (stranger.history_item_ids, stranger.history_event_types) == (["item_1"], ["order"])
    assert read(filled, "user_1").history_as_of < NOW


def test_a_history_told_in_parts_is_the_one_that_is_built_from_all():
    start = datetime(2026, 1, 1, tzinfo=UTC)
    told = [
        Behavior(
            "u",
            f"i{number * 7 % 5}",
            "click",
            start + timedelta(seconds=number // 2, microseconds=number % 4),
        )
        for number in range(12)
    ]
    history = History([], [], [])
    for first in range(0, 12, 5):
        history = merge_history(history, told[first : first + 5], 8)
    frame = pl.DataFrame(told, schema=["user_id", "item_id", "event_type", "timestamp"], orient="row")
    built = next(iter_histories(frame.unique(), history_length=8, batch_rows=100))
    last = built.sort("event_timestamp").row(-1, named=True)
    assert list(history.item_ids) == last["history_item_ids"]
    seconds = [time_us // 1_000_000 for time_us in history.times_us]
    assert [seconds[0] - second for second in seconds] == last["history_ages_s"]
    assert [time_us % 1_000_000 for time_us in history.times_us] == last["history_micros"]


def test_what_is_sent_twice_or_late_stands_once_and_in_its_place():
    late, new = (
        Behavior("u", item, "click", NOW + timedelta(hours=hours)) for item, hours in (("b", -1), ("c", 1))
    )
    history = merge_history(
        History(["a"], ["click"], [int(NOW.timestamp()) * 1_000_000]), [new, new, late], 10
    )
    assert list(history.item_ids) == ["c", "a", "b"]
    assert list(merge_history(history, [late], 2).item_ids) == ["c", "a"]


def test_a_store_that_fails_loses_nothing_but_the_freshness(filled, monkeypatch):
    failures = [ConnectionError("the store is down")]

    def broken(*_, **__):
        if failures:
            raise failures.pop()
        return original(*_, **__)

    lost = threading.Event()
    counts = []
    with closing(HistoryWriter(filled, on_loss=lambda count: (counts.append(count), lost.set()))) as writer:
        original = writer._store.write_to_online_store
        monkeypatch.setattr(writer._store, "write_to_online_store", broken)
        writer.queue_behaviors([Behavior("user_0", "new", "click", NOW)])
        assert lost.wait(30)
        writer.queue_behaviors([Behavior("user_1", "new", "click", NOW)])
    assert counts == [1]
    assert read(filled, "user_0").history_item_ids[0] != "new"
    assert read(filled, "user_1").history_item_ids[0] == "new"


def test_without_a_store_nothing_is_started(tmp_path):
    with pytest.raises(UserError, match="run the materialize step"):
        HistoryWriter(tmp_path)
