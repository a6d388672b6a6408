"""Rows of exports that are no event of their own are pointed at; ids are those that the catalogue knows."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from contracts.errors import UserError
from contracts.ingestion.inspection.column_names import list_short_names, quote_name
from contracts.ingestion.inspection.inspect_files import inspect_files

START = datetime(2025, 6, 3, 10, 4, 2, tzinfo=UTC)
LINES = [
    {
        "order_no": 900 + n,
        "buyer": f"b{n * n % 17}",
        "sku": f"T{n * 5 % 9}",
        "sold_at": (START + timedelta(hours=11 * n)).isoformat(),
        "qty": 1 + n % 2,
        "price": 20.5 + n * 5 % 9,
    }
    for n in range(50)
]
HEADER = "sku,title,price\n"
CATALOGUE = HEADER + "".join(f"T{n},Tea {n},{20.5 + n}\n" for n in range(9))


@pytest.fixture
def inspect(tmp_path):
    def _inspect(rows, catalogue=CATALOGUE):
        (tmp_path / "teas.csv").write_text(catalogue)
        pl.DataFrame(rows, infer_schema_length=None).write_csv(tmp_path / "sales.csv")
        return inspect_files([str(tmp_path / "teas.csv"), str(tmp_path / "sales.csv")], read_all=True)

    return _inspect


def _tell(inspection):
    return "; ".join(doubt for table in inspection.tables for doubt in table.doubts)


def _add(**columns):
    """The lines with columns, given as functions of a line's number."""
    return [line | {name: make(n) for name, make in columns.items()} for n, line in enumerate(LINES, start=1)]


def test_lines_without_more_leave_no_doubt(inspect):
    inspection = inspect(LINES)
    assert (inspection.refusal, _tell(inspection)) == ("", "")


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"sku2": lambda n: "T1" if n % 2 else None}, "'sku2' holds further items of the rows of 'sku'"),
        ({"is_test": lambda n: str(n % 9 == 0).lower()}, "'is_test' is filled in 5 rows"),
        ({"deleted_at": lambda n: "2025-07-01" if n == 4 else None}, "'deleted_at' is filled in 1 rows"),
        ({"doc": lambda n: "credit_note" if n == 3 else "invoice"}, "'doc' says 'credit_note' in 1 rows"),
        ({"__op": lambda n: "u" if n % 5 == 0 else "c"}, "'__op' names changes of a database, 10 of them"),
        ({"parent_item": lambda n: n if n % 5 == 0 else None}, "'parent_item' is filled in 10 rows"),
        ({"discount_amount": lambda n: 2.5 if n % 10 == 0 else 0}, "'discount_amount' is not 0 in 5 rows"),
        ({"paid_currency": lambda n: ("EUR", "CHF")[n % 2]}, "'paid_currency' holds CHF, EUR"),
    ],
)
def test_rows_that_are_no_event_of_their_own_are_pointed_at(inspect, columns, said):
    assert said in _tell(inspect(_add(**columns)))


def test_columns_that_only_resemble_such_leave_no_doubt(inspect):
    rows = _add(
        latest_update=lambda n: "2025-07-01",
        op=lambda n: "c",
        note=lambda n: "returning customer" if n % 7 else "credit",
        currency=lambda n: "EUR",
    )
    assert "latest_update" not in _tell(inspect(rows))
    assert "'op'" not in _tell(inspect(rows))
    assert "currency" not in _tell(inspect(rows))


@pytest.mark.parametrize(("form", "is_told"), [("%Y-%m-%d %H:%M:%S", True), ("%Y-%m-%d %H:%M:%SZ", False)])
def test_zones_beside_times_are_told_where_the_times_name_none(inspect, form, is_told):
    rows = [
        line | {"sold_at": f"{START + timedelta(hours=7 * n):{form}}", "timezone": "Asia/Tokyo"}
        for n, line in enumerate(LINES)
    ]
    assert ("'timezone' seems to name the zone of times ('Asia/Tokyo')" in _tell(inspect(rows))) == is_told


def test_sessions_in_the_place_of_users_are_told(inspect):
    rows = [{("session_id" if name == "buyer" else name): line[name] for name in line} for line in LINES]
    assert "users are read from 'session_id'" in _tell(inspect(rows))


def test_two_types_of_one_purchase_are_told(inspect):
    rows = [line | {"event": word} for line in LINES for word in ("checkout", "purchase")]
    assert "rows of the types checkout, purchase are read as orders" in _tell(inspect(rows))


def test_states_that_all_count_are_orders(inspect):
    rows = _add(**{"Financial Status": lambda n: "partially_refunded" if n == 5 else "paid"})
    assert inspect(rows).summary.events.kept_by_type == {"order": 50}


def test_of_several_ids_those_that_the_catalogue_knows_are_read(inspect):
    rows = [{"item_id": n, "asin": f"B0{line['sku']}"} | line for n, line in enumerate(LINES)]
    inspection = inspect(rows)
    assert inspection.data["events"]["columns"]["item_id"] == "sku"
    assert "'item_id' of the log names hardly any item" in _tell(inspection)
    assert inspection.summary.events.kept == 50

    own_numbers = "id,sku,title,price\n" + "".join(f"{n},T{n},Tea {n},{20.5 + n}\n" for n in range(9))
    inspection = inspect(LINES, own_numbers)
    assert inspection.data["items"]["columns"]["item_id"] == "sku"


def test_ids_that_no_column_shares_stay_with_the_best_name(inspect):
    inspection = inspect([line | {"sku": f"X{line['sku']}-1"} for line in LINES])
    assert inspection.data["events"]["columns"]["item_id"] == "sku"
    assert inspection.refusal != ""


def test_a_log_without_users_or_items_says_which(inspect):
    rows = [{("who" if name == "buyer" else name): line[name] for name in line} for line in LINES]
    with pytest.raises(UserError, match=r"In '.*sales\.csv' no column is named like users"):
        inspect(rows)


def test_lists_in_texts_ask_for_a_query_that_runs(tmp_path, inspect):
    entries = [[{"product_id": line["sku"], "quantity": line["qty"]}] for line in LINES]
    kept = ("order_no", "buyer", "sold_at")
    rows = [
        {name: line[name] for name in kept} | {"products": json.dumps(entry)}
        for line, entry in zip(LINES, entries, strict=True)
    ]
    with pytest.raises(UserError, match=r"unnest\(from_json\(products") as refused:
        inspect(rows)
    query = str(refused.value).split("give the query ")[1].split(" and map")[0]
    inspection = inspect_files([str(tmp_path / "teas.csv"), query], read_all=True)
    assert inspection.data["events"]["columns"]["item_id"] == "entry.product_id"
    assert inspection.summary.events.kept == 50


def test_names_are_read_without_remarks_and_written_for_queries():
    assert "created" in list_short_names("Created (UTC)")
    assert "price" in list_short_names("Price [EUR]")
    assert [quote_name(name) for name in ("day", "Order Date", 'a"b')] == ["day", '"Order Date"', '"a""b"']
