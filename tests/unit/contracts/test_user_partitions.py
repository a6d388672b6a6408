"""A log that is settled a part of the users at a time becomes what it becomes at once."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from contracts.artifacts import read_lineage
from contracts.ingestion.config import DataConfig
from contracts.ingestion.ingest import ingest_dataset
from contracts.ingestion.rows import user_partitions
from contracts.ingestion.rows.user_partitions import UserPartitions
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
