"""Exports that can be read in two ways: what decides is used, and what nothing decides is told."""

import csv
from datetime import UTC, datetime, timedelta

import polars as pl
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


def _put_off(order, **time):
    return order | {"timestamp": (datetime.fromisoformat(order["timestamp"]) + timedelta(**time)).isoformat()}


def test_orders_that_are_sent_again_within_seconds_count_once(ingest):
    again = [_put_off(order, seconds=3) for order in ORDERS[:4]]
    events, _ = ingest(ORDERS + again)
    assert len(events) == 60
    others = [_put_off(ORDERS[0], minutes=5), _put_off(ORDERS[1], seconds=3) | {"quantity": 9}]
    assert len(ingest(ORDERS + others)[0]) == 62


def test_units_that_stand_as_lines_are_sent_again_as_lines(ingest):
    again = [_put_off(ORDERS[0], seconds=2)] * 2
    events, _ = ingest([ORDERS[0], *ORDERS, *again])
    assert events["quantity"].sum() == sum(order["quantity"] for order in [ORDERS[0], *ORDERS])


def test_orders_of_other_ids_are_others_however_close(ingest):
    named = _change(lambda n, order: {"event_id": f"o{n}"})
    close = _put_off(named[0], seconds=3) | {"event_id": "o60"}
    assert len(ingest([*named, close])[0]) == 61


@pytest.mark.parametrize(("part", "is_of_money"), [(0.2, True), (0.8, False), (1, False)])
def test_a_refund_of_a_part_of_the_price_lowers_the_price(ingest, part, is_of_money):
    order = ORDERS[4]
    refund = _put_off(order, days=9) | {"event_type": "return", "price": part * order["price"]}
    events, notes = ingest([*ORDERS, refund])
    revenue = events.select(pl.col("price") * (pl.col("quantity") - pl.col("returned").fill_null(0)))
    units = order["quantity"] * (part if is_of_money else 1)
    assert revenue.sum().item() == pytest.approx(
        sum(o["price"] * o["quantity"] for o in ORDERS) - order["price"] * units
    )
    assert ("1 returns are of clearly less" in notes) == is_of_money
    units_back = refund | {"event_type": "order", "quantity": -order["quantity"]}
    assert ingest([*ORDERS, units_back])[0]["returned"].sum() == order["quantity"], "whatever it was paid for"


@pytest.mark.parametrize("price", [99_999.99, 0.01])
def test_prices_far_from_those_of_the_catalogue_are_told(ingest, price):
    rows = _change(lambda n, order: {"price": price} if n % 12 == 0 else {})
    assert "5 orders cost more than 5 times what the catalogue says" in ingest(rows)[1]


def test_prices_of_another_currency_are_told(ingest):
    rows = _change(lambda n, order: {"price": round(order["price"] * 11.2, 2)} if n % 10 == 0 else {})
    assert "in another currency" in ingest(rows)[1]


def test_a_few_totals_of_lines_are_told_from_unit_prices(ingest):
    rows = _change(lambda n, order: {"quantity": 4 if n % 8 == 0 else 1})
    totals = _change(lambda n, order: {"price": order["price"] * order["quantity"]}, rows)
    assert ingest(rows)[1] == ""
    with pytest.raises(UserError, match=r"100% of those of several units.*line_total"):
        ingest(totals)


@pytest.mark.parametrize("form", ["{:.3f}", "{:g}"])
def test_a_weight_is_one_unit_at_the_price_of_the_whole(ingest, form):
    weights = {n: 0.35 + n / 4 for n in (3, 12, 33)}
    rows = _change(lambda n, order: {"quantity": form.format(weights.get(n, order["quantity"]))})
    back = _put_off(rows[12], days=2) | {"quantity": f"-{rows[12]['quantity']}"}
    events, _ = ingest([*rows, back])
    kept = pl.col("quantity") - pl.col("returned").fill_null(0)
    revenue = sum(
        order["price"] * weights.get(n, order["quantity"]) for n, order in enumerate(ORDERS) if n != 12
    )
    assert events.select((pl.col("price") * kept).sum()).item() == pytest.approx(revenue)


def test_units_that_came_back_may_be_written_below_zero(ingest):
    rows = _change(lambda n, order: {"returned": -1 if n % 12 == 0 else 0})
    assert ingest(rows)[0]["returned"].sum() == 5


def test_a_refusal_names_the_items_that_are_missing(ingest):
    shipping = [order | {"item_id": "SHIPPING", "quantity": 1, "price": 4.9} for order in ORDERS[::4]]
    with pytest.raises(UserError, match=r"'SHIPPING' \(15\).*Are these shipping"):
        ingest(ORDERS + shipping)


def _write_in_capitals(every):
    return _change(lambda n, order: {"item_id": order["item_id"].upper()} if n % every == 7 else {})


def test_ids_that_differ_in_case_alone_are_told_where_they_are_lost(ingest):
    events, notes = ingest(_write_in_capitals(30))
    assert len(events) == 58
    assert "would name an item of the catalogue without upper and lower case: the log holds 'BAG-" in notes


def test_a_refusal_says_so_too(ingest):
    with pytest.raises(UserError, match=r"5 of 60 rows break.*5 events would name an item"):
        ingest(_write_in_capitals(12))


def test_users_who_may_be_nobody_are_told(ingest):
    zero = _change(lambda n, order: {"user_id": 0 if n % 3 == 0 else 100 + n % 17})
    assert "the user id 0 holds 33% of the log" in ingest(zero)[1]
    house = _change(lambda n, order: {"user_id": "guest@bags.example" if n % 6 == 0 else order["user_id"]})
    assert "'guest@bags.example', holds 17% of all behaviors" in ingest(house)[1]
    visits = _change(lambda n, order: {"user_id": f"visit-{n}"})
    assert "60 users have 60 behaviors: hardly anybody has a history" in ingest(visits)[1]


def test_users_who_lost_the_zeros_of_their_ids_are_told(ingest):
    lost = _change(lambda n, order: {"user_id": f"{7000 + n % 17:0{8 if n < 30 else 1}}"})
    assert "17 user ids are those of other users without the zeros in front" in ingest(lost)[1]
    kept = _change(lambda n, order: {"user_id": f"{7000 + n % 17 * 1000:08}"})
    assert "zeros" not in ingest(kept)[1]


def _make_pages(name_request):
    rows = []
    for page, order in enumerate(ORDERS):
        shown = [f"Bag-{(page + place) % 10}" for place in range(3)]
        rows += [
            {**order, "event_type": "impression", "item_id": item, "request_id": name_request(page, place)}
            for place, item in enumerate(shown)
        ]
        click = _put_off(order, seconds=20) | {"event_type": "click", "item_id": shown[0]}
        rows.append(click | {"request_id": name_request(page, 0)})
    return rows


def test_requests_that_compare_nothing_are_told(ingest):
    assert (
        "180 of 180 requests show one item alone" in ingest(_make_pages(lambda p, place: f"{p}-{place}"))[1]
    )
    pages = _make_pages(lambda page, _: str(page))
    notes = ingest(pages)[1]
    assert "one item alone" not in notes
    assert "shown items were clicked" not in notes
    clicked = {(row["request_id"], row["item_id"]) for row in pages if row["event_type"] == "click"}
    reacted = [row for row in pages if (row["request_id"], row["item_id"]) in clicked]
    assert "60 of 60 shown items were clicked" in ingest(reacted)[1]


@pytest.mark.parametrize(
    ("title", "said"),
    [
        ("Stofft\ufffd\ufffdchen", "have lost letters"),
        ("Stofft??chen", "have lost letters"),
        ("St\u00fcck".encode().decode("cp1252"), "seem to be UTF-8 that was read as another encoding"),
        ("Bag &amp; belt", "hold signs as web pages write them"),
        ("Tasche für das S\u00c3O-Café? Ja & nein", ""),
    ],
)
def test_titles_whose_letters_were_lost_are_told(ingest, title, said):
    notes = ingest(ORDERS, [ITEMS[0] | {"title": title}, *ITEMS[1:]])[1]
    assert (said in notes) if said else not notes


def test_items_that_stand_again_at_another_price_are_told(ingest):
    events, notes = ingest(ORDERS, [*ITEMS, ITEMS[2] | {"price": "99.00"}, ITEMS[3]])
    assert "1 items, such as 'Bag-2', stand more than once, at different prices" in notes
    assert len(events) == 60
