"""A stranger's files: what they hold is guessed, and the written configuration reads them."""

import os
from pathlib import Path

import polars as pl
import pytest
import yaml

from contracts.dataset import read_dataset
from contracts.errors import UserError
from contracts.ingestion.config import DataConfig
from contracts.ingestion.ingest import ingest_dataset
from contracts.ingestion.inspection.inspect_files import inspect_files
from reaseq.cli import main

REPOSITORY = Path(__file__).parents[3]
BENCH_DATA = Path(os.environ.get("REASEQ_BENCH_DATA", REPOSITORY.parent / "shared" / "data"))
PRODUCTS = "sku,name,path,cost\n" + "".join(
    f"sku-{n},mug {n},Home/{'Mugs' if n % 2 else 'Lamps'},{n}.5\n" for n in range(20)
)
EVENTS = "customer,sku,ts,what\n" + "".join(
    f"c{n % 9},sku-{n * 7 % 20},{1_700_000_000 + 700 * n},{'purchase' if n % 5 == 0 else 'view'}\n"
    for n in range(200)
)


@pytest.fixture
def files(tmp_path):
    """Writes texts, and returns their paths."""

    def _write(**texts):
        paths = []
        for name, text in texts.items():
            path = tmp_path / f"{name}.csv"
            path.write_text(text)
            paths.append(str(path))
        return paths

    return _write


@pytest.mark.parametrize("is_reversed", [False, True])
def test_catalogue_and_log_are_told_apart_and_mapped(files, tmp_path, is_reversed):
    paths = files(products=PRODUCTS, events=EVENTS)
    inspection = inspect_files(paths[::-1] if is_reversed else paths, read_all=True)

    assert inspection.refusal == ""
    assert inspection.data["items"] == {
        "uri": paths[0],
        "columns": {"item_id": "sku", "price": "cost", "title": "name", "category": "path"},
        "category_separator": "/",
    }
    assert inspection.data["events"]["event_types"] == {"purchase": "order", "view": "click"}
    ingest_dataset(DataConfig.model_validate(inspection.data), out=tmp_path / "out", is_told=False)
    dataset = read_dataset(tmp_path / "out")
    assert dataset.events["event_type"].value_counts().sort("event_type").rows() == [
        ("click", 160),
        ("order", 40),
    ]
    assert dataset.items["category"][0] == "Home > Lamps"


def test_a_log_that_holds_titles_is_its_own_catalogue(files):
    lines = [
        f"{536365 + n // 3},{22000 + n % 30},THING {n % 30},{-1 if n % 50 == 49 else 2},"
        f"{1 + n % 12}/{13 + n % 15}/2010 8:26,2.55,{'' if n % 8 == 7 else f'{17850 + n % 11}.0'}"
        for n in range(400)
    ]
    header = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID"
    (path,) = files(orders="\n".join([header, *lines]))
    inspection = inspect_files([path], read_all=True)

    assert inspection.refusal == ""
    assert inspection.data["max_rejected_shares"] == {"events.user_id": 0.14}
    assert inspection.data["events"]["columns"]["quantity"] == "Quantity"
    assert inspection.summary.items.kept == 30
    assert inspection.summary.events.rejected == {"user_id: missing": 50}


def test_an_order_without_time_is_found(files):
    events = "user_id,item_id,pos\n" + "".join(f"u{n % 9},sku-{n * 7 % 20},{n // 9}\n" for n in range(180))
    data = inspect_files(files(products=PRODUCTS, events=events), read_all=True).data
    assert data["events"]["order_column"] == "pos"
    assert data["split"] == {"kind": "leave_last_out"}


def test_what_cannot_be_guessed_is_asked_for(files):
    with pytest.raises(UserError, match="no file names both users and items"):
        inspect_files(files(products=PRODUCTS), read_all=True)
    with pytest.raises(UserError, match="no column of times"):
        inspect_files(files(products=PRODUCTS, events="customer,sku\nu1,sku-1\nu2,sku-2\n"), read_all=True)


def test_types_of_unknown_names_are_asked_for_and_not_taken_for_clicks(files):
    log = "uid,sku,ts,action_type\n" + "".join(
        f"c{n % 9},sku-{n % 20},{1_700_000_000 + 700 * n},{n % 3 + 1}\n" for n in range(90)
    )
    inspection = inspect_files(files(products=PRODUCTS, events=log), read_all=True)
    assert inspection.data["events"]["event_types"] == dict.fromkeys(("1", "2", "3"), "ignore")
    assert "30 x type '1', ignored by the config" in inspection.refusal


def test_types_that_stand_below_the_sample_are_guessed_where_all_is_read(files, monkeypatch):
    monkeypatch.setattr("contracts.ingestion.inspection.inspect_files.SAMPLE_ROWS", 100)
    rows = EVENTS.splitlines(keepends=True)
    late = EVENTS.replace(",purchase", ",view") + rows[-1].replace(",view", ",purchase") * 3
    late += rows[-1].replace(",view", ",zoom") * 3
    paths = files(products=PRODUCTS, events=late)
    inspection = inspect_files(paths, read_all=True)
    assert inspection.refusal == ""
    assert inspection.tables[1].event_types == {"view": "click", "purchase": "order", "zoom": "ignore"}
    assert inspect_files(paths, read_all=False).tables[1].event_types == {"view": "click"}


def test_a_log_of_flags_is_refused(files):
    log = "uid,sku,ts,is_clicked\n" + "".join(f"c{n},sku-1,{1_700_000_000 + n},{n % 2}\n" for n in range(9))
    with pytest.raises(UserError, match="by 0 and 1 what users did"):
        inspect_files(files(products=PRODUCTS, events=log), read_all=True)


def test_two_logs_are_no_log_and_catalogue(files):
    sales = "customer,sku,name,paid_at\n" + "".join(
        f"c{n % 9},sku-{n % 20},mug {n % 20},{1_700_000_000 + 900 * n}\n" for n in range(60)
    )
    with pytest.raises(UserError, match="these are two logs"):
        inspect_files(files(sales=sales, events=EVENTS), read_all=True)


def test_a_day_and_its_clock_in_two_columns_are_not_read_as_midnights(files):
    log = "uid,sku,datum,uhrzeit\n" + "".join(
        f"c{n % 9},sku-{n % 20},2025-04-{n % 28 + 1:02},{n % 24}:{n % 60:02}\n" for n in range(90)
    )
    paths = files(products=PRODUCTS, events=log)
    with pytest.raises(UserError, match="'datum' holds days and 'uhrzeit' the clock"):
        inspect_files(paths, read_all=True)
    query = (
        f"duckdb:select *, datum || ' ' || uhrzeit as timestamp from read_csv('{paths[1]}', all_varchar=true)"
    )
    inspection = inspect_files([paths[0], query], read_all=True)
    assert inspection.summary.last_event > "2025-04-28"


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("hr", lambda n: n % 24),
        ("time", lambda n: f"{n % 24}{n % 60:02}"),
        ("TRANS_TIME", lambda n: f"{n % 24}{n % 60:02}00"),
    ],
)
def test_a_clock_of_digits_alone_is_told_with_a_query_that_runs(files, name, write):
    log = f"uid,sku,day,{name}\n" + "".join(
        f"c{n % 9},sku-{n % 20},2025-04-{n % 28 + 1:02},{write(n)}\n" for n in range(90)
    )
    paths = files(products=PRODUCTS, events=log)
    with pytest.raises(UserError, match=f"'day' holds days and '{name}' the clock") as refusal:
        inspect_files(paths, read_all=True)
    joined = str(refusal.value).split("`): ")[1]
    query = f"duckdb:select * exclude (day, {name}), {joined} from read_csv('{paths[1]}', all_varchar=true)"
    inspection = inspect_files([paths[0], query], read_all=True)
    assert inspection.summary.events.kept == 90
    assert inspection.summary.last_event.startswith("2025-04-28 ")
    last_times = inspection.tables[1].columns[-1].examples
    assert last_times[1].startswith("2025-04-02 01")


def test_an_hour_beside_a_whole_time_is_no_clock(files):
    log = "uid,sku,ts,hour\n" + "".join(
        f"c{n % 9},sku-{n % 20},{1_743_500_000 + 5000 * n},{n % 24}\n" for n in range(90)
    )
    assert inspect_files(files(products=PRODUCTS, events=log), read_all=True).summary.events.kept == 90


def test_columns_that_are_laid_out_for_the_eye_are_told(files):
    log = "uid     sku      ts\n" + "".join(f"c{n}      sku-{n}    17435000{n:02}\n" for n in range(20))
    with pytest.raises(UserError, match="laid out for the eye"):
        inspect_files(files(products=PRODUCTS, events=log), read_all=True)


def test_orders_that_name_no_user_ask_for_a_join(files):
    log = "order_id,product_id,reordered\n" + "".join(f"{n},sku-{n % 20},0\n" for n in range(20))
    with pytest.raises(UserError, match="join the table that names them of each order"):
        inspect_files(files(products=PRODUCTS, events=log), read_all=True)


def test_times_that_cannot_be_read_are_shown(files):
    log = "uid,sku,datum\n" + "".join(f"c{n},sku-{n % 20},{n + 1}. Brachet 2025\n" for n in range(20))
    with pytest.raises(UserError, match=r"'datum' is named like one, but holds '1\. Brachet 2025'"):
        inspect_files(files(products=PRODUCTS, events=log), read_all=True)


def test_files_may_store_times_with_a_zone_and_without(files, tmp_path):
    (tmp_path / "log").mkdir()
    rows = pl.DataFrame({"uid": ["a", "b"] * 20, "sku": [f"sku-{n % 20}" for n in range(40)]})
    days = pl.datetime(2025, 4, 1, time_unit="us") + pl.duration(hours=pl.int_range(40))
    rows = rows.with_columns(ts=days)
    rows.write_parquet(tmp_path / "log" / "a.parquet")
    rows.with_columns(pl.col("ts").dt.replace_time_zone("Asia/Seoul")).write_parquet(
        tmp_path / "log/b.parquet"
    )
    inspection = inspect_files([*files(products=PRODUCTS), str(tmp_path / "log")], read_all=True)
    assert inspection.summary.events.kept == 80


def _orders(states):
    """An export of orders: number of the order, seconds after it and a word, for each state."""
    lines = [
        f"{1000 + order},c{order % 9},sku-{order * 7 % 20},{1_700_000_000 + 7000 * order + later},{word}"
        for order in range(120)
        for later, word in states(order)
    ]
    return "order_no,customer,sku,ts,status\n" + "\n".join(lines) + "\n"


def test_an_order_that_is_told_in_each_of_its_states_counts_once(files):
    log = _orders(lambda order: [(0, "new"), (600, "packed"), (5000, "sent")])
    inspection = inspect_files(files(products=PRODUCTS, events=log), read_all=True)
    assert inspection.data["events"]["columns"]["event_id"] == "order_no"
    assert inspection.summary.events.kept_by_type == {"order": 120}


@pytest.mark.parametrize(("seconds", "column"), [(240, "order_no"), (0, None)])
def test_a_few_orders_sent_again_are_told_from_lines_of_one_order(files, seconds, column):
    log = _orders(lambda order: [(0, "sold"), (seconds, "sold")][: 1 + (order % 30 == 0)])
    inspection = inspect_files(files(products=PRODUCTS, events=log), read_all=True)
    assert inspection.data["events"]["columns"].get("event_id") == column


def test_an_order_that_was_cancelled_takes_back_no_other(files):
    log = _orders(lambda order: [(0, "cancelled" if order % 4 == 0 else "completed")])
    inspection = inspect_files(files(products=PRODUCTS, events=log), read_all=True)
    assert inspection.data["events"]["event_types"] == {"completed": "order", "cancelled": "ignore"}
    assert inspection.summary.events.kept_by_type == {"order": 90}
    assert inspection.summary.events.left_out == {"type 'cancelled', ignored by the config": 30}


def test_the_command_writes_a_configuration_once(files, tmp_path, capsys):
    written = tmp_path / "my-shop.yaml"
    command = ["data", "inspect", *files(products=PRODUCTS, events=EVENTS), "--write", str(written)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "event type 'purchase' -> order" in printed
    assert "events: 200 kept of 200 rows" in printed
    DataConfig.model_validate(yaml.safe_load(written.read_text())["data"])
    assert main(command) == 2, "what is there is not overwritten"


def test_the_command_says_why_data_would_be_refused(files, capsys):
    broken = EVENTS.replace("purchase", "login")
    paths = files(products=PRODUCTS, events=broken)
    assert main(["data", "inspect", *paths]) == 0, "an unknown type is ignored, and told"
    assert "'login' -> ignore  (what is it?" in capsys.readouterr().out
    other_items = PRODUCTS.replace("sku-", "item-")
    assert main(["data", "inspect", *files(products=other_items, events=EVENTS)]) == 1
    assert "would refuse this data" in capsys.readouterr().out


@pytest.mark.skipif(not BENCH_DATA.is_dir(), reason=f"public data is not at {BENCH_DATA} (make data)")
def test_real_logs_need_no_edit(tmp_path):
    pairs = {
        "scientific": ("items.parquet", "sequences.parquet"),
        "electronics": ("items.parquet", "interactions.parquet"),
        "fashion": ("mixtral_fashion_items.jsonl.gz", "amazon_fashion_interactions.parquet"),
    }
    for name, files_of_log in pairs.items():
        paths = [str(BENCH_DATA / name / file) for file in files_of_log]
        inspection = inspect_files(paths, read_all=False)
        assert inspection.refusal == "", name
        ingest_dataset(DataConfig.model_validate(inspection.data), out=tmp_path / name, is_told=False)
        log = pl.read_parquet(paths[1])
        assert len(read_dataset(tmp_path / name).events) > 0.98 * len(log)
