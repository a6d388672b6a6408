"""Exports as the tools of shops and trackers write them are understood, or refused with what to do."""

import json
import re
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from contracts.dataset import read_dataset
from contracts.errors import UserError
from contracts.ingestion.config import DataConfig
from contracts.ingestion.ingest import ingest_dataset
from contracts.ingestion.inspection.event_words import guess_event_type
from contracts.ingestion.inspection.inspect_files import inspect_files

START = datetime(2025, 5, 2, 9, tzinfo=UTC)
ORDERS = [
    {
        "number": 52_000 + n,
        "user": f"k{n % 11}",
        "item": f"lamp-{n * 7 % 10}",
        "time": START + timedelta(hours=7 * n),
        "units": 1 + n % 3,
        "price": 10.5 + n * 7 % 10,
    }
    for n in range(60)
]


@pytest.fixture
def catalogue(tmp_path):
    path = tmp_path / "lamps.csv"
    lines = [f"lamp-{n},Lamp {n},{10.5 + n}" for n in range(10)]
    path.write_text("sku,title,price\n" + "\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def inspect(tmp_path, catalogue):
    """Inspects rows beside the catalogue; returns the inspection and the events of its configuration."""

    def _inspect(rows, name="log.csv"):
        path = tmp_path / name
        if name.endswith(".csv"):
            pl.DataFrame(rows).write_csv(path)
        elif name.endswith(".parquet"):
            pl.DataFrame(rows).write_parquet(path)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        inspection = inspect_files([catalogue, str(path)], read_all=True)
        assert inspection.refusal == ""
        ingest_dataset(DataConfig.model_validate(inspection.data), out=tmp_path / "out", is_told=False)
        return inspection, read_dataset(tmp_path / "out").events

    return _inspect


def _check_orders(events, kept=lambda number: True):
    expected = {
        (o["user"], o["item"], o["time"], o["units"], o["price"]) for o in ORDERS if kept(o["number"])
    }
    assert set(events.select("user_id", "item_id", "timestamp", "quantity", "price").rows()) == expected


def _shopify(order):
    return {
        "Name": f"#{order['number']}",
        "Email": order["user"],
        "Financial Status": "paid",
        "Total": order["units"] * order["price"] + 4.9,
        "Created at": order["time"].strftime("%Y-%m-%d %H:%M:%S +0000"),
        "Lineitem quantity": order["units"],
        "Lineitem price": order["price"],
        "Lineitem sku": order["item"],
    }


def _shopware(order):
    return {
        "Bestellnummer": order["number"],
        "Kundennummer": order["user"],
        "Bestellzeit": order["time"].strftime("%d.%m.%Y %H:%M:%S"),
        "Artikelnummer": order["item"],
        "Anzahl": order["units"],
        "Einzelpreis": f"{order['price']:.2f} €".replace(".", ","),
    }


def _chinese(order):
    return {
        "订单编号": order["number"],
        "用户ID": order["user"],
        "商品ID": order["item"],
        "数量": order["units"],
        "单价": f"￥{order['price']}",
        "下单时间": order["time"].strftime("%Y年%m月%d日 %H:%M:%S"),
    }


@pytest.mark.parametrize("write", [_shopify, _shopware, _chinese])
def test_orders_of_shop_systems_need_no_edit(inspect, write):
    inspection, events = inspect([write(order) for order in ORDERS])
    _check_orders(events)
    if write is _shopify:
        assert "'Total' differs from price times quantity" in inspection.tables[1].doubts[0]


def _state(order, state):
    return {
        "order_id": order["number"],
        "customer_id": order["user"],
        "sku": order["item"],
        "created_at": order["time"].isoformat(),
        "qty": order["units"],
        "price": order["price"],
        "status": state,
    }


def test_orders_whose_state_says_that_they_came_to_nothing_are_left_out(inspect):
    states = ("wc-completed", "wc-cancelled", "wc-failed", "wc-processing", "partially_refunded")
    inspection, events = inspect([_state(order, states[order["number"] % 5]) for order in ORDERS])
    _check_orders(events, lambda number: number % 5 in (0, 3, 4))
    assert inspection.data["events"]["event_types"]["wc-failed"] == "ignore"


def test_a_state_that_nobody_knows_is_asked_for(inspect):
    states = ("completed", "cancelled", "zweifelhaft")
    inspection, events = inspect([_state(order, states[order["number"] % 3]) for order in ORDERS])
    assert inspection.data["events"]["event_types"]["zweifelhaft"] == "ignore"
    assert len(events) == 20


def test_a_column_that_tells_of_cancellations_is_pointed_at(inspect):
    rows = [
        _state(order, "") | {"cancelled_at": "2025-06-01" if order["number"] % 4 == 0 else ""}
        for order in ORDERS
    ]
    inspection, _ = inspect(rows)
    assert "'cancelled_at' is filled in 15 rows" in inspection.tables[1].doubts[0]


def test_units_that_came_back_stand_beside_those_ordered(inspect):
    rows = [_state(order, "") | {"qty_refunded": f"{order['number'] % 2}.0000"} for order in ORDERS]
    _, events = inspect(rows)
    assert events["returned"].value_counts().sort("returned").rows() == [(None, 30), (1, 30)]


def test_a_total_on_all_lines_of_an_order_is_not_that_of_a_line(inspect):
    rows = []
    for order in ORDERS:
        line = {name: cell for name, cell in _state(order, "").items() if name not in ("price", "status")}
        rows += [line | {"sku": f"lamp-{n}", "total": 3 * order["price"]} for n in range(3)]
    inspection, events = inspect(rows)
    assert "seems to be the total of the whole order" in inspection.tables[1].doubts[0]
    assert set(events["price"]) == {10.5, 11.5, 12.5}, "the catalogue's"


def test_times_are_preferred_to_days(inspect):
    rows = [_state(order, "") for order in ORDERS]
    days = [row | {"day": row["created_at"][:10]} for row in rows]
    _check_orders(inspect([{name: row[name] for name in ("day", *rows[0])} for row in days])[1])
    odd = [{("logged" if name == "created_at" else name): row[name] for name in row} for row in days]
    inspection, _ = inspect(odd)
    assert inspection.data["events"]["columns"]["timestamp"] == "day"
    assert "'day' holds days alone, 'logged' times" in inspection.tables[1].doubts[0]


def test_another_column_of_users_is_pointed_at(inspect):
    rows = [_state(order, "") for order in ORDERS]
    rows = [
        row | {"customer_id": row["customer_id"] if n % 5 else None, "anonymous_id": f"a{n % 9}"}
        for n, row in enumerate(rows)
    ]
    inspection, _ = inspect(rows)
    assert "coalesce(customer_id, anonymous_id)" in inspection.tables[1].doubts[0]


def test_customers_beside_those_who_sell_are_pointed_at(inspect):
    rows = [_state(order, "") | {"user_id": f"till {order['number'] % 2}"} for order in ORDERS]
    inspection, _ = inspect(rows)
    assert "'user_id' holds 2 users, 'customer_id' 11" in inspection.tables[1].doubts[0]


def test_states_beside_types_of_events_are_pointed_at(inspect):
    rows = [_state(order, ("completed", "refunded")[order["number"] % 2]) for order in ORDERS]
    inspection, _ = inspect([row | {"event": "purchase"} for row in rows])
    assert "'status' says 'refunded' or the like in 30 rows" in inspection.tables[1].doubts[0]


def test_a_quantity_that_is_none_is_pointed_at(inspect):
    inspection, _ = inspect([_state(order, "") | {"qty": "a few"} for order in ORDERS])
    assert "'qty' is named like quantity, but holds 'a few'" in inspection.tables[1].doubts[0]


def _segment(order):
    properties = {"product_id": order["item"], "price": order["price"], "quantity": order["units"]}
    return {
        "messageId": f"m{order['number']}",
        "event": "Order Completed",
        "userId": order["user"],
        "timestamp": order["time"].isoformat(),
        "properties": properties,
    }


def _mixpanel(order):
    properties = {"distinct_id": order["user"], "time": int(order["time"].timestamp())}
    properties |= {"$insert_id": order["number"], "Item ID": order["item"], "quantity": order["units"]}
    return {"event": "Purchase", "properties": properties | {"price": order["price"]}}


def _kafka(order):
    value = {"user_id": order["user"], "item_id": order["item"], "ts": order["time"].isoformat()}
    value |= {"quantity": order["units"], "price": {"amount": order["price"], "currency": "EUR"}}
    return {"offset": order["number"], "timestamp": 1_760_000_000_000, "value": json.dumps(value)}


@pytest.mark.parametrize("write", [_segment, _mixpanel, _kafka])
@pytest.mark.parametrize("name", ["log.jsonl", "log.parquet"])
def test_what_stands_in_structures_is_found(inspect, write, name):
    _, events = inspect([write(order) for order in ORDERS], name)
    _check_orders(events)


def test_amounts_that_name_different_currencies_are_refused(catalogue, tmp_path):
    rows = [_kafka(order) for order in ORDERS]
    rows[3]["value"] = rows[3]["value"].replace("EUR", "CHF")
    path = tmp_path / "log.jsonl"
    path.write_text("".join(row["value"] + "\n" for row in rows))
    assert "several currencies" in inspect_files([catalogue, str(path)], read_all=True).refusal


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1001,3,1740000000\n1002,4,1740000100\n", "seems to be a row, not a header"),
        ("Orders of May,,\nuser,sku,ts\nk1,lamp-3,1740000000\n", "does not seem to be its header"),
        ("+-----+\n| user | sku |\n+-----+\n", "laid out for the eye"),
    ],
)
def test_a_file_without_a_header_says_so(catalogue, tmp_path, text, said):
    path = tmp_path / "log.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        inspect_files([catalogue, str(path)], read_all=True)


def test_lists_of_items_ask_for_a_row_each(catalogue, tmp_path):
    path = tmp_path / "ga4.jsonl"
    rows = [
        {
            "user_pseudo_id": order["user"],
            "event_timestamp": order["time"].isoformat(),
            "event_params": [{"key": "page", "value": "1"}],
            "items": [{"item_id": order["item"], "quantity": order["units"], "price": order["price"]}],
        }
        for order in ORDERS
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"'items' of .*unnest\(items, recursive := true\)"):
        inspect_files([catalogue, str(path)], read_all=True)
    query = f"duckdb:select * exclude (items), unnest(items, recursive := true) from read_json_auto('{path}')"
    inspection = inspect_files([catalogue, query], read_all=True)
    assert inspection.summary.events.kept_by_type == {"order": 60}


def test_lists_within_structures_ask_for_a_query_that_runs(catalogue, tmp_path):
    path = tmp_path / "orders.jsonl"
    rows = [
        {
            "userId": order["user"],
            "timestamp": order["time"].isoformat(),
            "properties": {
                "order_id": order["number"],
                "products": [{"sku": order["item"], "quantity": order["units"], "price": order["price"]}],
            },
        }
        for order in ORDERS
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"'properties\.products' of") as refusal:
        inspect_files([catalogue, str(path)], read_all=True)
    query = re.search(r"duckdb:.*?jsonl'\)", str(refusal.value))[0]
    inspection = inspect_files([catalogue, query], read_all=True)
    assert inspection.summary.events.kept == len(ORDERS)


def test_amounts_below_the_price_count_units(inspect):
    rows = [
        {
            "TRANSACTION_DT": order["time"].isoformat(),
            "CUSTOMER_ID": order["user"],
            "PRODUCT_ID": order["item"],
            "AMOUNT": order["units"],
            "SALES_PRICE": order["price"],
        }
        for order in ORDERS
    ]
    inspection, events = inspect(rows)
    _check_orders(events)
    assert "'AMOUNT' holds whole numbers" in inspection.tables[1].doubts[0]


def test_maps_of_properties_are_found(catalogue, tmp_path):
    query = (
        "duckdb:select 'c' || (n % 7) as user_id, timestamp '2025-05-02' + n * interval 7 hour as ts, "
        "map {'product_id': 'lamp-' || (n % 10), 'page': 'x'} as properties from range(60) t(n)"
    )
    inspection = inspect_files([catalogue, query], read_all=True)
    assert inspection.data["events"]["columns"]["item_id"] == "properties.product_id"
    assert inspection.summary.events.kept == 60


def test_users_and_items_in_two_files_ask_for_a_join(tmp_path):
    orders, lines = tmp_path / "orders.csv", tmp_path / "lines.csv"
    orders.write_text("order_id,user_id,day\n1,a,2025-03-01\n")
    lines.write_text("order_id,product_id\n1,p\n")
    with pytest.raises(UserError, match=r"join .*lines\.csv' using \(order_id\)"):
        inspect_files([str(orders), str(lines)], read_all=True)


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("Product Viewed", "click"),
        ("ecommerceAddToCart", "cart"),
        ("order_completed", "order"),
        ("User purchased product", "order"),
        ("product_removed", None),
        ("remove_from_cart", None),
        ("checkout_started", None),
        ("refund_completed", "return"),
        ("Order Cancelled By Customer", "return"),
        ("return_requested", None),
        ("refund failed", None),
        ("returning visitor", None),
    ],
)
def test_trackers_words_are_known(word, meaning):
    assert guess_event_type(word) == meaning
