"""A return that is told twice takes back once, and one that names its order takes back that one."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from contracts.artifacts import read_lineage
from contracts.dataset import read_dataset
from contracts.ingestion.config import DataConfig
from contracts.ingestion.ingest import ingest_dataset

START = datetime(2024, 5, 13, 7, 40, tzinfo=UTC)
PARTS = ["lamp", "cord", "shade", "bulb"]
LAMPS = pl.DataFrame({"item_id": PARTS, "title": PARTS})


def _list_orders(count=48):
    return [
        {
            "user_id": f"Q{n % 11}",
            "item_id": PARTS[n % 4],
            "timestamp": START + timedelta(hours=17 * n),
            "event_type": "order",
            "quantity": 3,
            "price": 8.0,
        }
        for n in range(count)
    ]


def _send_back(order, *, units=1, **later):
    return order | {
        "event_type": "return",
        "quantity": units,
        "timestamp": order["timestamp"] + timedelta(**later),
    }


@pytest.fixture
def ingest(tmp_path):
    """Ingests files of rows; returns the events and the metrics."""

    def _ingest(*files):
        (tmp_path / "log").mkdir(exist_ok=True)
        for number, rows in enumerate(files):
            pl.DataFrame(rows).write_parquet(tmp_path / "log" / f"{number}.parquet")
        LAMPS.write_parquet(tmp_path / "items.parquet")
        data = {"items": {"uri": str(tmp_path / "items.parquet")}, "events": {"uri": str(tmp_path / "log")}}
        ingest_dataset(DataConfig.model_validate(data), out=tmp_path / "out", is_told=False)
        return read_dataset(tmp_path / "out").events, read_lineage(tmp_path / "out").metrics

    return _ingest


def test_returns_that_two_exports_hold_take_back_once(ingest):
    orders = _list_orders()
    back = _send_back(orders[20], hours=30)
    events, metrics = ingest([*orders[:30], back], [*orders[15:], back])
    assert events["returned"].sum() == 1
    assert metrics["returns"] == 1


def test_returns_that_come_again_within_seconds_take_back_once(ingest):
    orders = _list_orders()
    backs = [_send_back(orders[20], hours=30), _send_back(orders[20], hours=30, seconds=4)]
    assert ingest([*orders, *backs])[0]["returned"].sum() == 1
    later = _send_back(orders[20], hours=31)
    assert ingest([*orders, *backs, later])[0]["returned"].sum() == 2


def test_returns_that_repeat_in_one_file_are_units(ingest):
    orders = _list_orders()
    assert ingest([*orders, *[_send_back(orders[20], hours=30)] * 2])[0]["returned"].sum() == 2


def test_a_return_that_has_the_id_of_its_order_finds_it_in_a_log(ingest):
    orders = [order | {"event_id": f"o{n}"} for n, order in enumerate(_list_orders())]
    # Every eleventh order is of the same user, every fourth of the same item.
    events, _ = ingest([*orders, _send_back(orders[0], hours=17 * 46)])
    assert events.filter(pl.col("returned") > 0)["timestamp"].to_list() == [START]
    nameless = _send_back(orders[0], hours=17 * 46) | {"event_id": None}
    events, _ = ingest([*orders, nameless])
    assert events.filter(pl.col("returned") > 0)["timestamp"].to_list() == [START + timedelta(hours=17 * 44)]
