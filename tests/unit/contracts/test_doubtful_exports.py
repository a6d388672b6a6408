"""Exports that can be read in two ways: what decides is used, and what nothing decides is told."""

import csv
from datetime import UTC, datetime, timedelta

import pytest

from contracts.dataset import read_dataset
from contracts.errors import UserError
from contracts.ingestion.config import DataConfig
from contracts.ingestion.ingest import ingest_dataset
from contracts.ingestion.ingest_summary import read_summary

START = datetime(2025, 1, 9, 5, 45, 7, tzinfo=UTC)
ITEMS = [
    {"item_id": f"Bag-{n}", "title": f"Bag of canvas {n}", "price": f"{9.9 + 4 * n:.2f}"} for n in range(10)
]
ORDERS = [
    {
        "user_id": f"Ann{n * n % 19}",
        "item_id": f"Bag-{n * 3 % 10}",
        "timestamp": (START + timedelta(hours=13 * n)).isoformat(),
        "event_type": "order",
        "quantity": 1 + n % 3,
        "price": 9.9 + 4 * (n * 3 % 10),
    }
    for n in range(60)
]


def _write(path, rows):
    with path.open("w", newline="") as text:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def ingest(tmp_path):
    """Ingests rows as CSV; returns the events and the notes."""

    def _ingest(orders, items=ITEMS, **options):
        _write(tmp_path / "items.csv", items)
        _write(tmp_path / "events.csv", orders)
        data = {
            "items": {"uri": str(tmp_path / "items.csv")},
            "events": {"uri": str(tmp_path / "events.csv")},
        }
        data["events"] |= options.pop("events_options", {})
        ingest_dataset(DataConfig.model_validate(data | options), out=tmp_path / "out", is_told=False)
        return read_dataset(tmp_path / "out").events, "; ".join(read_summary(tmp_path / "out").notes)

    return _ingest


def _change(change, orders=ORDERS):
    return [order | change(number, order) for number, order in enumerate(orders)]


def test_a_plain_log_leaves_no_doubt(ingest):
    assert ingest(ORDERS)[1] == ""


@pytest.mark.parametrize("mark", [",", "."])
def test_units_with_three_decimals_are_read_as_the_prices_beside_them(ingest, mark):
    rows = _change(
        lambda _, order: {
            "quantity": f"{order['quantity']}{mark}000",
            "price": f"{order['price']:.2f}".replace(".", mark),
        }
    )
    events, notes = ingest(rows)
    assert sorted(events["quantity"].unique()) == [1, 2, 3]
    assert notes == ""


def test_units_with_three_decimals_are_refused_where_nothing_decides(ingest):
    rows = _change(lambda _, order: {"quantity": f"{order['quantity']},000", "price": ""})
    with pytest.raises(UserError, match=r"multiple of 1,000.*set `decimal: ','`"):
        ingest(rows)
    events, _ = ingest(rows, events_options={"decimal": ","})
    assert sorted(events["quantity"].unique()) == [1, 2, 3]


def test_units_do_not_decide_how_prices_are_read(ingest):
    rows = _change(lambda n, order: {"quantity": "2.0000", "price": f"1.{100 + n}"})
    with pytest.raises(UserError, match=r"'price': '1\.100' may be a thousand times more or less"):
        ingest(rows)


def test_a_price_of_three_decimals_among_others_of_two_is_told(ingest):
    rows = _change(lambda n, order: {"price": "1.299" if n == 5 else f"{order['price']:.2f}"})
    assert "1 different amounts, such as '1.299', have three decimals" in ingest(rows)[1]


def test_prices_in_scientific_notation_and_without_cents_are_read(ingest):
    events, _ = ingest(_change(lambda _, order: {"price": f"{order['price']:.3e}"}))
    assert events["price"].max() == 45.9
    events, _ = ingest(
        _change(lambda _, order: {"price": f"{order['price']:.0f},- €"}), events_options={"decimal": ","}
    )
    assert events["price"].max() == 46


def _write_time(form):
    return _change(lambda n, order: {"timestamp": form(datetime.fromisoformat(order["timestamp"]))})


@pytest.mark.parametrize("years", [10, 31])
def test_numbers_of_an_old_log_may_count_from_another_year(ingest, years):
    rows = _write_time(lambda moment: int((moment - timedelta(days=365 * years)).timestamp()))
    assert "GPS counts from 1980 (add 315,964,800 seconds)" in ingest(rows)[1]
    assert ingest(_write_time(lambda moment: int(moment.timestamp())))[1] == ""


def test_dates_of_which_a_spreadsheet_turned_some_are_refused(ingest):
    turned = _write_time(
        lambda moment: f"{moment:%m/%d/%Y %H:%M}" if moment.day < 13 else f"{moment:%d/%m/%Y %H:%M}"
    )
    with pytest.raises(UserError, match=r"A spreadsheet seems to have turned them.*day_first: true"):
        ingest(turned)
    _, notes = ingest(_write_time(lambda moment: f"{moment:%d/%m/%Y %H:%M}"))
    assert "spreadsheet" not in notes


def test_texts_beside_days_of_a_spreadsheet_are_told(ingest):
    rows = _write_time(
        lambda moment: (
            f"{moment.timestamp() / 86_400 + 25_569:.5f}" if moment.day < 13 else f"{moment:%d/%m/%Y %H:%M}"
        )
    )
    assert "to have read the others with day and month exchanged" in ingest(rows)[1]
