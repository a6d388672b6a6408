"""A log that is settled a part of the users at a time becomes what it becomes at once."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from contracts.artifacts import read_lineage
from contracts.events.bots import BotRuleConfig
from contracts.ingestion.config import DataConfig
from contracts.ingestion.ingest import ingest_dataset
from contracts.ingestion.rows import plausible_rows, settle_history, user_partitions
from contracts.ingestion.rows.user_partitions import UserPartitions
from contracts.ingestion.rows.whole_log import find_dominant_users
from contracts.ingestion.sources import source_batches
from tests.unit.contracts.messy_logs import write_messy_log

START = datetime(2025, 3, 1, tzinfo=UTC)


def _write_shop(folder):
    """Pages under ids that two users share, returns, repeats, a crawler, a guest and an item that is gone."""
    rows = []
    for page in range(60):
        moment = START + timedelta(hours=7 * page)
        request = {"user_id": f"u{page % 12}", "request_id": f"r{page // 2}", "quantity": None}
        for place in range(3):
            shown = {"item_id": f"i{(page + place) % 8}", "timestamp": moment, "event_type": "impression"}
            rows.append(request | shown)
        action = request | {"item_id": f"i{page % 8}"}
        rows += [action | {"timestamp": moment + timedelta(seconds=9), "event_type": "click"}] * (
            1 + page % 2
        )
        if page % 3 == 0:
            order = action | {"event_type": "order", "quantity": 2}
            rows.append(order | {"timestamp": moment + timedelta(seconds=99)})
        if page % 6 == 0:
            rows.append(order | {"timestamp": moment + timedelta(days=1), "event_type": "return"})
    for n in range(90):
        shown = {
            "item_id": f"i{n % 8}",
            "timestamp": START + timedelta(seconds=n),
            "event_type": "impression",
        }
        crawl = {"user_id": "crawler", "request_id": f"c{n}", "quantity": None} | shown
        rows += [crawl, crawl | {"event_type": "click"}]
    rows.append(rows[0] | {"item_id": "gone"})
    items = [{"item_id": f"i{n}", "title": "Mug", "price": 3.0} for n in range(8)]
    pl.DataFrame(items).write_parquet(folder / "items.parquet")
    pl.DataFrame(rows).write_parquet(folder / "events.parquet")
    return {
        "items": {"uri": str(folder / "items.parquet")},
        "events": {"uri": str(folder / "events.parquet")},
        "max_rejected_share": 0.9,
        "max_lost_share": 1,
    }


def _ingest(data, out):
    ingest_dataset(DataConfig.model_validate(data), out=out, is_told=False)
    quarantine = pl.read_parquet(out / "quarantine.parquet")
    metrics = read_lineage(out).metrics
    return (
        pl.read_parquet(out / "events.parquet").to_dicts(),
        json.loads((out / "summary.json").read_text()),
        (out / "split.json").read_text(),
        metrics,
        sorted((str(reasons), row) for reasons, row in quarantine.select("reasons", "row").iter_rows()),
    )


def test_partitions_change_nothing(tmp_path, monkeypatch):
    data = _write_shop(tmp_path)
    at_once = _ingest(data, tmp_path / "at_once")
    monkeypatch.setattr(user_partitions, "ROWS_A_PARTITION", 50)
    monkeypatch.setattr(user_partitions, "BUFFERED_ROWS", 100)
    parted = _ingest(data, tmp_path / "parted")
    assert parted[:4] == at_once[:4]
    assert at_once[3]["bots"] == 1
    assert at_once[3]["request_ids_of_several_users"] == 30
    assert [reasons for reasons, _ in parted[4]] == [reasons for reasons, _ in at_once[4]]


@pytest.mark.parametrize("seed", range(12))
def test_partitions_change_nothing_of_messy_logs(seed, tmp_path, monkeypatch):
    data = write_messy_log(seed, tmp_path).data
    at_once = _ingest(data, tmp_path / "at_once")
    monkeypatch.setattr(user_partitions, "ROWS_A_PARTITION", 20)
    assert _ingest(data, tmp_path / "parted")[:4] == at_once[:4]


def test_the_same_log_becomes_the_same_files(tmp_path):
    data = _write_shop(tmp_path)
    for name in ("one", "other"):
        ingest_dataset(DataConfig.model_validate(data), out=tmp_path / name, is_told=False)
    assert read_lineage(tmp_path / "one").digest == read_lineage(tmp_path / "other").digest


def test_a_user_is_in_one_partition_in_the_order_of_the_rows(tmp_path):
    partitions = UserPartitions(tmp_path / "log", num_rows=3 * user_partitions.ROWS_A_PARTITION)
    rows = pl.DataFrame({"user_id": [f"u{n % 50}" for n in range(1000)], "row": range(1000)})
    for batch in rows.iter_slices(300):
        partitions.add_rows(batch)
        partitions.write_buffer()
    parts = dict(partitions.iterate_partitions())
    assert len(parts) == 3
    assert sum(part["user_id"].n_unique() for part in parts.values()) == 50
    assert all(part["row"].is_sorted() for part in parts.values())
    assert partitions.count_rows() == 1000
    for number, part in parts.items():
        assert partitions.select_rows(rows, number)["row"].to_list() == part["row"].to_list()


def test_a_bot_of_many_rows_is_set_aside_before_any_partition_is_read(tmp_path, monkeypatch):
    data = _write_shop(tmp_path)
    _ingest(data, tmp_path / "whole")
    monkeypatch.setattr(settle_history, "ROWS_A_PARTITION", 100)
    monkeypatch.setattr(user_partitions, "BUFFERED_ROWS", 50)
    settled_users = set()
    settle_users = settle_history._settle_users
    monkeypatch.setattr(
        settle_history,
        "_settle_users",
        lambda rows, *parts: settled_users.update(rows["user_id"]) or settle_users(rows, *parts),
    )
    _ingest(data, tmp_path / "parted")
    assert "u0" in settled_users
    assert "crawler" not in settled_users
    assert pl.read_parquet(tmp_path / "parted" / "events.parquet").equals(
        pl.read_parquet(tmp_path / "whole" / "events.parquet")
    )
    reasons = [
        pl.read_parquet(tmp_path / name / "quarantine.parquet").explode("reasons")["reasons"].value_counts()
        for name in ("whole", "parted")
    ]
    assert sorted(reasons[0].iter_rows()) == sorted(reasons[1].iter_rows())


def test_a_guest_of_most_rows_is_refused_file_by_file(tmp_path, monkeypatch):
    data = _write_shop(tmp_path)
    log = pl.read_parquet(tmp_path / "events.parquet")
    guest = log.sample(4000, seed=1, with_replacement=True).with_columns(user_id=pl.lit("0"))
    pl.concat([log, guest]).write_parquet(tmp_path / "events.parquet")
    monkeypatch.setattr(user_partitions, "BUFFERED_ROWS", 500)
    monkeypatch.setattr(source_batches, "BATCH_ROWS", 250)
    sizes = []
    quarantine_events = plausible_rows.quarantine_events
    monkeypatch.setattr(
        plausible_rows,
        "quarantine_events",
        lambda rows, *parts: sizes.append(len(rows)) or quarantine_events(rows, *parts),
    )
    _ingest(data, tmp_path / "out")
    refused = pl.read_parquet(tmp_path / "out" / "quarantine.parquet").explode("reasons")["reasons"]
    assert refused.str.starts_with("user_id: 0 holds so much").sum() == 4000
    assert max(sizes) <= 1000
    assert "0" not in pl.read_parquet(tmp_path / "out" / "events.parquet")["user_id"]


def test_a_busy_user_whose_log_was_exported_twice_is_no_bot(tmp_path):
    clicks = pl.DataFrame(
        {
            "user_id": "busy",
            "item_id": [f"i{number}" for number in range(600)],
            "timestamp": START,
            "event_type": "click",
            "request_id": pl.Series([None] * 600, dtype=pl.String),
        }
    )
    for name in ("first", "second"):
        clicks.write_parquet(tmp_path / f"{name}.parquet")
    files = str(tmp_path / "*.parquet")
    rule = BotRuleConfig(max_clicks=1000)
    assert find_dominant_users(files, rule, tmp_path, many_rows=1000) == []
    rule = BotRuleConfig(max_clicks=599)
    assert find_dominant_users(files, rule, tmp_path, many_rows=1000) == ["busy"]


def test_users_are_counted_partition_by_partition(tmp_path):
    partitions = UserPartitions(tmp_path / "log", num_rows=2_000_000)
    users = [f"u{number % 40}" for number in range(200)]
    types = ["impression" if number % 40 < 10 else "click" for number in range(200)]
    partitions.add_rows(pl.DataFrame({"user_id": users, "event_type": types}))
    partitions.write_buffer()
    assert partitions.num_partitions > 1
    assert partitions.count_users(pl.col("event_type") != "impression") == 30
    assert UserPartitions(tmp_path / "empty", num_rows=9).count_users(pl.lit(True)) == 0
