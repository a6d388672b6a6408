"""Nothing goes wrong in silence: what is lost is judged by class, and rows mean what the shop meant."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from contracts.artifacts import read_lineage
from contracts.dataset import read_dataset
from contracts.errors import UserError
from contracts.ingestion.config import DataConfig
from contracts.ingestion.ingest import ingest_dataset
from contracts.ingestion.ingest_summary import describe_summary, read_summary

START = datetime(2025, 3, 1, 8, tzinfo=UTC)
ITEMS = pl.DataFrame(
    {"item_id": [f"i{n}" for n in range(10)], "title": ["Mug"] * 10, "price": [10.0 + n for n in range(10)]}
)


def _log(count=400, event_type="click", users=40, **columns):
    """A log of a month, with constant or given columns."""
    rows = pl.DataFrame(
        {
            "user_id": [f"u{n % users}" for n in range(count)],
            "item_id": [f"i{n * 7 % 10}" for n in range(count)],
            "timestamp": [START + timedelta(hours=n * 720 / count) for n in range(count)],
        }
    )
    event_type = pl.lit(event_type) if isinstance(event_type, str) else event_type
    return rows.with_columns(event_type=event_type, **columns)


def _pages(count=120, size=4):
    """Pages of several items, of which the second is clicked and every fourth click becomes an order."""
    rows = []
    for page in range(count):
        moment = START + timedelta(hours=6 * page)
        request = {"user_id": f"u{page % 15}", "request_id": f"r{page}"}
        items = [f"i{(page + place) % 10}" for place in range(size)]
        rows += [
            request | {"item_id": item, "timestamp": moment, "event_type": "impression", "position": place}
            for place, item in enumerate(items)
        ]
        action = request | {"item_id": items[1], "position": 1}
        rows.append(action | {"timestamp": moment + timedelta(seconds=9), "event_type": "click"})
        if page % 4 == 0:
            rows.append(action | {"timestamp": moment + timedelta(seconds=99), "event_type": "order"})
    return pl.DataFrame(rows)


@pytest.fixture
def ingest(tmp_path):
    """Ingests frames; returns dataset, metrics and notes."""

    def _ingest(events, items=ITEMS, **options):
        items.write_parquet(tmp_path / "items.parquet")
        events.write_parquet(tmp_path / "events.parquet")
        data = {
            "items": {"uri": str(tmp_path / "items.parquet"), **options.pop("items_options", {})},
            "events": {"uri": str(tmp_path / "events.parquet"), **options.pop("events_options", {})},
        }
        ingest_dataset(DataConfig.model_validate(data | options), out=tmp_path / "out", is_told=False)
        summary = read_summary(tmp_path / "out")
        return read_dataset(tmp_path / "out"), read_lineage(tmp_path / "out").metrics, summary

    return _ingest


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        (pl.col("event_type") == "order", "events of type 'order'"),
        (pl.col("timestamp").dt.day() == 5, "events of the day '2025-03-05'"),
        (pl.col("arm") == "b", "events of the arm 'b'"),
    ],
)
def test_a_class_that_is_lost_whole_is_refused_by_name(ingest, lost, named):
    number = pl.int_range(pl.len())
    log = _log(
        2000,
        event_type=pl.when(number % 50 == 0).then(pl.lit("order")).otherwise(pl.lit("click")),
        arm=pl.when(number % 40 == 0).then(pl.lit("b")).otherwise(pl.lit("a")),
    )
    spoilt = log.with_columns(item_id=pl.when(lost).then(pl.lit("nan")).otherwise("item_id"))
    with pytest.raises(UserError, match=f"{named}.*are lost.*item_id: missing"):
        ingest(spoilt)
    dataset, metrics, _ = ingest(spoilt, max_lost_share=1)
    assert metrics["rows_quarantined"] == len(log) - len(dataset.events)


def test_a_file_that_is_lost_whole_is_refused_by_name(tmp_path):
    (tmp_path / "log").mkdir()
    log = _log(1000)
    log[:980].write_parquet(tmp_path / "log" / "a.parquet")
    log[980:].with_columns(user_id=pl.lit("\\N")).write_parquet(tmp_path / "log" / "b.parquet")
    ITEMS.write_parquet(tmp_path / "items.parquet")
    data = {"items": {"uri": str(tmp_path / "items.parquet")}, "events": {"uri": str(tmp_path / "log")}}
    with pytest.raises(UserError, match=r"20 of 20 rows of the file '.*b\.parquet'"):
        ingest_dataset(DataConfig.model_validate(data), out=tmp_path / "out")


def test_a_file_without_a_needed_column_is_refused_by_name(tmp_path):
    (tmp_path / "log").mkdir()
    _log(200).write_parquet(tmp_path / "log" / "a.parquet")
    _log(20).rename({"timestamp": "time"}).write_parquet(tmp_path / "log" / "b.parquet")
    ITEMS.write_parquet(tmp_path / "items.parquet")
    data = {"items": {"uri": str(tmp_path / "items.parquet")}, "events": {"uri": str(tmp_path / "log")}}
    with pytest.raises(UserError, match=r"b\.parquet.*timestamp: missing"):
        ingest_dataset(DataConfig.model_validate(data), out=tmp_path / "out")


def test_unknown_event_types_are_listed_with_counts_or_ignored(ingest):
    log = _log(
        event_type=pl.when(pl.int_range(pl.len()) % 80 == 0).then(pl.lit("buy")).otherwise(pl.lit("view"))
    )
    with pytest.raises(UserError, match=r"buy \(5 rows\)"):
        ingest(log, events_options={"event_types": {"view": "click"}})
    dataset, _, summary = ingest(log, events_options={"event_types": {"view": "click", "buy": "ignore"}})
    assert len(dataset.events) == 395
    assert summary.events.left_out == {"type 'buy', ignored by the config": 5}


def test_an_optional_cell_costs_no_row_and_a_whole_column_is_refused(ingest):
    prices = ITEMS.with_columns(
        price=pl.when(pl.col("item_id") == "i3").then(pl.lit("ask")).otherwise(pl.lit("$9"))
    )
    dataset, _, summary = ingest(_log(), prices)
    assert (len(dataset.items), dataset.items["price"].null_count()) == (10, 1)
    assert "ask" in summary.items.left_empty["price"]
    unreadable = ITEMS.with_columns(price=pl.lit("ask"))
    with pytest.raises(UserError, match=r"10 of 10 cells of column 'price'"):
        ingest(_log(), unreadable)
    dataset, _, _ = ingest(_log(), unreadable, items_options={"columns": {"price": None}})
    assert dataset.items["price"].null_count() == 10


@pytest.mark.parametrize("wrong", ["2099-01-01", "1970-01-01", "2012-06-01"])
def test_one_wrong_clock_does_not_move_the_cutoff(ingest, wrong):
    moment = datetime.fromisoformat(wrong).replace(tzinfo=UTC)
    number = pl.int_range(pl.len())
    log = _log(timestamp=pl.when(number == 7).then(pl.lit(moment)).otherwise("timestamp"))
    dataset, metrics, _ = ingest(log)
    assert dataset.split.cutoff.year == 2025
    assert dataset.events["timestamp"].dt.year().unique().to_list() == [2025]
    assert metrics["rows_quarantined"] == 1


def _write_times(form):
    """Times of a log in a form that would be misread."""
    seconds = pl.col("timestamp").dt.epoch("s")
    forms = {
        "year_first": pl.col("timestamp").dt.strftime("%y-%m-%d %H:%M"),
        "dotted_year_first": pl.col("timestamp").dt.strftime("%y.%m.%d"),
        "year_at_end": pl.col("timestamp").dt.offset_by("-2y").dt.strftime("%d%m%Y"),
        "scientific": pl.concat_str(pl.lit("1.74"), seconds.cast(pl.String).str.slice(3, 2), pl.lit("E+09")),
        "float32": seconds.cast(pl.Float32),
    }
    return forms[form]


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("year_first", "the year seems to stand first"),
        ("dotted_year_first", "the year seems to stand first"),
        ("year_at_end", "end in a year"),
        ("scientific", "scientific notation"),
        ("float32", "Float32: such floats name no single second"),
    ],
)
def test_times_that_would_be_misread_are_refused(ingest, form, message):
    with pytest.raises(UserError, match=message):
        ingest(_log(timestamp=_write_times(form)))


def test_a_clock_without_am_and_pm_is_told(ingest):
    _, _, summary = ingest(_log(timestamp=pl.col("timestamp").dt.strftime("%Y-%m-%d %I:%M:%S")))
    assert any("lose its AM and PM" in note for note in summary.notes)
    _, _, summary = ingest(_log(timestamp=pl.col("timestamp").dt.strftime("%Y-%m-%d %H:%M:%S")))
    assert not any("lose its AM and PM" in note for note in summary.notes)


def _write_log_files(folder, **frames):
    ITEMS.write_parquet(folder / "items.parquet")
    (folder / "log").mkdir()
    for name, frame in frames.items():
        frame.write_csv(folder / "log" / f"{name}.csv")
    data = {"items": {"uri": str(folder / "items.parquet")}, "events": {"uri": str(folder / "log")}}
    return DataConfig.model_validate(data)


def test_a_file_whose_dates_may_be_either_is_told(tmp_path):
    written = _log().with_columns(day=pl.col("timestamp").dt.day())
    early = written.filter(pl.col("day") < 10).with_columns(pl.col("timestamp").dt.strftime("%d/%m/%Y"))
    late = written.filter(pl.col("day") > 10).with_columns(pl.col("timestamp").dt.strftime("%d/%m/%Y"))
    config = _write_log_files(tmp_path, early=early, late=late)
    ingest_dataset(config, out=tmp_path / "out", is_told=False)
    notes = read_summary(tmp_path / "out").notes
    assert any(note.startswith("1 file(s)") and "early.csv" in note for note in notes)


def test_a_column_that_one_file_loses_is_refused(tmp_path):
    sound, lost = (
        _log(count, event_type="order", quantity=pl.lit(q)) for count, q in ((300, "2"), (20, "a few"))
    )
    config = _write_log_files(tmp_path, sound=sound, lost=lost)
    with pytest.raises(
        UserError, match=r"20 of 20 cells of column 'quantity' of '.*lost.csv' cannot be read"
    ):
        ingest_dataset(config, out=tmp_path / "out", is_told=False)


def test_ticks_are_times(ingest):
    ticks = pl.col("timestamp").dt.epoch("us") * 10 + 621_355_968_000_000_000
    dataset, _, _ = ingest(_log(timestamp=ticks))
    assert dataset.events["timestamp"].min() == START


def test_nobody_is_no_user(ingest):
    number = pl.int_range(pl.len())
    log = _log(user_id=pl.when(number % 5 == 0).then(pl.lit("nan")).otherwise("user_id"))
    with pytest.raises(UserError, match=r"user_id: missing.*events\.user_id"):
        ingest(log)
    dataset, _, summary = ingest(log, max_rejected_shares={"events.user_id": 0.3})
    assert "nan" not in dataset.events["user_id"]
    assert summary.events.rejected == {"user_id: missing": 80}


def test_zero_is_a_guest_only_where_it_holds_too_much(ingest):
    number = pl.int_range(pl.len())
    guest = _log(user_id=pl.when(number % 3 == 0).then(pl.lit("0")).otherwise("user_id"))
    with pytest.raises(UserError, match="stands for guests"):
        ingest(guest)
    user = _log(user_id=pl.when(number % 100 == 0).then(pl.lit("0")).otherwise("user_id"))
    assert (ingest(user)[0].events["user_id"] == "0").sum() == 4


def test_ids_of_both_tables_that_differ_in_form_only_are_told(ingest):
    with pytest.raises(UserError, match=r"leading zeros.*'7'.*'007'"):
        ingest(
            _log(item_id=pl.lit("7")),
            pl.DataFrame({"item_id": ["00100", "007"], "title": ["a", "b"]}),
        )


def test_negative_units_are_returns_of_earlier_orders(ingest):
    rows = [
        ("u0", "i1", 0, "order", 3, 10.0),
        ("u0", "i1", 5, "order", -2, 10.0),
        ("u1", "i2", 1, "order", 1, 12.0),
        ("u1", "i2", 6, "order", 1, -12.0),
        ("u2", "i3", 2, "order", -1, 13.0),
        *(("u3", f"i{n}", 10 + n, "click", None, None) for n in range(9)),
    ]
    log = pl.DataFrame(rows, ["user_id", "item_id", "hour", "event_type", "quantity", "price"], orient="row")
    log = log.with_columns(timestamp=pl.lit(START) + pl.duration(hours="hour")).drop("hour")
    dataset, metrics, summary = ingest(log)
    orders = dataset.events.filter(pl.col("event_type") == "order")
    assert orders.select("user_id", "quantity", "returned").rows() == [("u0", 3, 2), ("u1", 1, 1)]
    assert (metrics["returns"], metrics["returns_unmatched"]) == (3, 1)
    assert "returns without an earlier order" in summary.events.left_out


def test_negative_units_that_nobody_reads_are_refused(ingest):
    with pytest.raises(UserError, match=r"'Qty' holds 400 negative.*quantity: Qty"):
        ingest(_log(event_type=pl.lit("order"), Qty=pl.lit(-1)))


def test_order_lines_of_one_file_add_up_and_clicks_do_not(ingest):
    log = _log(
        event_type=pl.when(pl.int_range(pl.len()) < 200).then(pl.lit("order")).otherwise(pl.lit("click"))
    )
    dataset, _, summary = ingest(pl.concat([log, log[190:210]]))
    assert len(dataset.events) == 400
    assert dataset.events["quantity"].sum() == 20
    assert summary.events.merged == {"units of repeated order lines added up": 10, "the same event again": 10}


def test_a_file_that_was_appended_to_itself_counts_once(ingest):
    log = _log(event_type="order", quantity=pl.lit(3), price=pl.lit(4.0))
    dataset, _, summary = ingest(pl.concat([log, log]))
    assert dataset.events["quantity"].sum() == 3 * 400
    assert summary.events.merged == {"the same event again": 400}


def test_an_event_id_tells_copies_from_repeated_lines(ingest):
    log = _log(event_type=pl.lit("order"), event_id=pl.int_range(pl.len()).cast(pl.String))
    dataset, _, _ = ingest(pl.concat([log, log[:20]]))
    assert dataset.events["quantity"].sum() == 0, "no line says a quantity, and none was added"


def test_the_lines_of_one_order_may_share_its_id(ingest):
    number = pl.int_range(pl.len())
    log = _log(event_type=pl.lit("order"), event_id=pl.lit("o") + (number // 4).cast(pl.String))
    same_time = log.with_columns(pl.col("timestamp", "user_id").first().over("event_id"))
    assert len(ingest(same_time)[0].events) == 400


def test_what_two_files_hold_counts_once(tmp_path):
    (tmp_path / "log").mkdir()
    log = _log(event_type=pl.lit("order"), quantity=pl.lit(2))
    pl.concat([log[:300], log[:1]]).write_parquet(tmp_path / "log" / "january.parquet")
    log[200:].write_parquet(tmp_path / "log" / "february.parquet")
    ITEMS.write_parquet(tmp_path / "items.parquet")
    data = {"items": {"uri": str(tmp_path / "items.parquet")}, "events": {"uri": str(tmp_path / "log")}}
    ingest_dataset(DataConfig.model_validate(data), out=tmp_path / "out", is_told=False)
    assert read_dataset(tmp_path / "out").events["quantity"].sum() == 802


def test_a_copy_of_which_the_fractions_of_seconds_were_cut_counts_once(tmp_path):
    ITEMS.write_parquet(tmp_path / "items.parquet")
    (tmp_path / "log").mkdir()
    exact = _log(60, event_type="order").with_columns(pl.col("timestamp") + pl.duration(milliseconds=370))
    exact.write_parquet(tmp_path / "log" / "exact.parquet")
    cut = exact.with_columns(pl.col("timestamp").dt.truncate("1s"))
    pl.concat([cut, _log(5, users=5)]).write_parquet(tmp_path / "log" / "cut.parquet")
    data = {"items": {"uri": str(tmp_path / "items.parquet")}, "events": {"uri": str(tmp_path / "log")}}
    ingest_dataset(DataConfig.model_validate(data), out=tmp_path / "out", is_told=False)
    assert read_summary(tmp_path / "out").events.kept_by_type == {"order": 60, "click": 5}


def test_a_long_history_without_times_is_no_wrong_clock(ingest):
    short = _log(400, event_type="order").drop("timestamp").with_columns(pos=pl.int_range(pl.len()) // 40)
    long = _log(600, user_id=pl.lit("collector")).drop("timestamp").with_columns(pos=pl.int_range(pl.len()))
    options = {"events_options": {"order_column": "pos"}, "split": {"kind": "leave_last_out"}}
    without_rule = {"bots": {"max_share": None}}
    dataset, metrics, _ = ingest(pl.concat([short, long], how="diagonal"), **options, **without_rule)
    assert (len(dataset.events), metrics["rows_quarantined"]) == (1000, 0)


@pytest.mark.parametrize("is_listed", [True, False])
def test_line_totals_are_told_from_unit_prices(ingest, is_listed):
    units = pl.int_range(pl.len()) % 4 + 1
    prices = ITEMS.select("item_id", unit_price="price")
    log = _log(event_type=pl.lit("order"), quantity=units).join(prices, on="item_id")
    totals = log.with_columns(price=pl.col("unit_price") * pl.col("quantity"))
    items = ITEMS if is_listed else ITEMS.drop("price")
    with pytest.raises(UserError, match=r"total of the line.*line_total"):
        ingest(totals.drop("unit_price"), items)
    mapped = {"columns": {"line_total": "price", "price": None}}
    dataset, _, _ = ingest(totals.drop("unit_price"), items, events_options=mapped)
    assert (
        dataset.events.join(prices, on="item_id")
        .select((pl.col("price") - pl.col("unit_price")).abs().max())
        .item()
        < 1e-9
    )
    assert len(ingest(log.rename({"unit_price": "price"}), items)[0].events) == 400


def test_an_order_without_price_counts_at_the_catalogue_s(ingest):
    number = pl.int_range(pl.len())
    log = _log(event_type=pl.lit("order"), price=pl.when(number % 2 == 0).then(5.0))
    items = ITEMS.with_columns(price=pl.when(pl.col("item_id") != "i0").then("price"))
    dataset, metrics, summary = ingest(log, items)
    prices = dict(
        dataset.events.filter(pl.col("price") != 5.0).select("item_id", "price").unique().iter_rows()
    )
    assert prices == {f"i{n}": 10.0 + n for n in (1, 3, 5, 7, 9)}
    assert metrics["orders_without_price"] == 200
    assert any("unknown, not zero" in note for note in summary.notes)


@pytest.mark.parametrize("is_log", [True, False])
def test_a_column_of_several_currencies_is_refused(ingest, is_log):
    currency = pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.lit("sek")).otherwise(pl.lit("NOK"))
    log, items = _log(event_type="order", price=pl.lit(10.0)), ITEMS
    if is_log:
        log = log.with_columns(currency=currency)
    else:
        items = items.with_columns(currency=currency)
    with pytest.raises(UserError, match=r"several currencies .*SEK"):
        ingest(log, items)


def test_one_currency_under_two_names_is_one(ingest):
    currency = pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.lit("£")).otherwise(pl.lit("GBP"))
    dataset, _, _ = ingest(_log(event_type="order", price=pl.lit(10.0), currency=currency))
    assert len(dataset.events) == 400


@pytest.mark.parametrize("factor", [100, 0.01])
def test_orders_in_cents_of_a_catalogue_in_euros_are_refused(ingest, factor):
    priced = _log(event_type="order").join(ITEMS.select("item_id", "price"), on="item_id")
    with pytest.raises(UserError, match="seems to be in cents"):
        ingest(priced.with_columns(pl.col("price") * factor))


def test_a_price_of_minus_one_is_no_return(ingest):
    price = pl.when(pl.int_range(pl.len()) % 2 == 0).then(-1.0).otherwise(12.0)
    _, _, summary = ingest(_log(event_type="order", price=price))
    assert summary.events.kept_by_type == {"order": 400}
    assert summary.events.cells_left_empty == 200


def test_a_refund_of_one_is_a_return_where_others_are_refunded_too(ingest):
    number = pl.int_range(pl.len())
    price = pl.when(number % 4 == 0).then(-1.0).when(number % 4 == 1).then(-12.5).otherwise(12.0)
    _, _, summary = ingest(_log(event_type="order", price=price))
    assert summary.events.cells_left_empty == 0
    assert summary.events.kept_by_type.get("order", 0) <= 200


def test_an_order_of_no_unit_is_no_order(ingest):
    quantity = pl.when(pl.int_range(pl.len()) % 40 == 0).then(0).otherwise(2)
    dataset, _, summary = ingest(_log(event_type="order", quantity=quantity))
    assert summary.events.rejected == {"quantity: an order of 0 units": 10}
    assert dataset.events["quantity"].sum() == 780


def test_units_in_thousandths_are_refused(ingest):
    units = (pl.int_range(pl.len()) % 4 + 1) * 1000
    with pytest.raises(UserError, match="thousandths"):
        ingest(_log(event_type=pl.lit("order"), quantity=units, price=pl.lit(1.0)))


def _check_own_outcomes_come_later(events):
    shown = (
        events.filter(pl.col("event_type") == "impression")
        .group_by("request_id")
        .agg(pl.col("timestamp").min())
    )
    outcomes = events.filter(pl.col("event_type") != "impression").join(
        shown, on="request_id", suffix="_shown"
    )
    assert len(outcomes)
    assert (outcomes["timestamp"] >= outcomes["timestamp_shown"]).all()


def test_a_late_impression_stands_at_the_moment_of_its_page(ingest):
    late = _pages().with_columns(
        timestamp=pl.when(pl.col("event_type") == "impression")
        .then(pl.col("timestamp") + timedelta(seconds=40))
        .otherwise("timestamp")
    )
    dataset, metrics, summary = ingest(late)
    _check_own_outcomes_come_later(dataset.events)
    assert metrics["requests_told_after_their_outcomes"] == 120
    assert any("first moment" in note for note in summary.notes)


def test_clicks_that_name_no_request_are_joined_by_user_item_and_time(ingest):
    is_action = pl.col("event_type") != "impression"
    unnamed = _pages().with_columns(request_id=pl.when(~is_action).then("request_id"))
    stray = unnamed.filter(is_action).head(1).with_columns(timestamp=pl.lit(START + timedelta(hours=3)))
    dataset, metrics, _ = ingest(pl.concat([unnamed, stray]))
    assert metrics["behaviors_linked_by_time"] == metrics["behaviors"] - 1
    truth = _pages().filter(is_action).select("user_id", "item_id", "timestamp", "request_id")
    linked = dataset.events.filter(is_action).drop_nulls("request_id")
    assert linked.select(truth.columns).sort("timestamp").rows() == truth.sort("timestamp").rows()


@pytest.mark.parametrize(
    ("hours", "said"),
    [(-4, "behaviors stand long before the page that they name"), (3, "clicks stand long after the page")],
)
def test_clicks_of_another_clock_are_told(ingest, hours, said):
    is_page = pl.col("event_type") == "impression"
    shifted = pl.col("timestamp").dt.offset_by(f"{hours}h")
    pages = _pages().with_columns(timestamp=pl.when(is_page).then("timestamp").otherwise(shifted))
    dataset, _, summary = ingest(pages)
    assert any(said in note for note in summary.notes)
    assert dataset.events.filter(is_page)["timestamp"].min() == START


def test_request_ids_that_restart_are_several_requests(ingest):
    pages = _pages()
    number = pl.col("request_id").rank("dense").over("user_id") - 1
    per_user = pages.with_columns(request_id=pl.lit("page ") + (number % 2).cast(pl.String))
    dataset, _, summary = ingest(per_user)
    shown = dataset.events.filter(pl.col("event_type") == "impression")
    sizes = shown.group_by("request_id").agg(pl.len(), pl.col("user_id").n_unique().alias("users"))
    assert (sizes["len"] == 4).all()
    assert (sizes["users"] == 1).all()
    assert sum("request ids" in note for note in summary.notes) == 2
    _check_own_outcomes_come_later(dataset.events)


@pytest.mark.parametrize("num_pages", [1, 3])
def test_a_few_requests_do_not_decide_what_rankers_learn_from(ingest, num_pages):
    log = _log().with_columns(request_id=pl.lit(None, pl.String), position=pl.lit(None, pl.Int64))
    dataset, _, summary = ingest(pl.concat([log, _pages(num_pages).select(log.columns)]))
    assert not dataset.has_impressions
    assert any("next-item lists" in note for note in summary.notes)


@pytest.mark.parametrize("kind", ["fast", "broad"])
def test_bots_are_left_out_and_told(ingest, kind):
    log = _log(2000, users=150)
    if kind == "fast":
        bot = _log(
            1500, user_id=pl.lit("bot"), timestamp=pl.lit(START) + pl.duration(seconds=pl.int_range(pl.len()))
        )
    else:
        bot = _log(400, user_id=pl.lit("bot"))
    dataset, metrics, summary = ingest(pl.concat([log, bot]))
    assert "bot" not in dataset.events["user_id"]
    assert metrics["bots"] == 1
    assert any("bot" in note for note in summary.notes)


def test_the_summary_says_what_became_of_every_row(ingest, tmp_path):
    number = pl.int_range(pl.len())
    log = _log(item_id=pl.when(number % 40 == 0).then(pl.lit("gone")).otherwise("item_id"))
    _, _, summary = ingest(log)
    told = "\n".join(describe_summary(summary, "here"))
    assert "events: 390 kept of 400 rows in 1 file(s) (390 click)" in told
    assert "10 rejected: item_id: not in the catalogue" in told
    assert "rejected by type: 10 click" in told
    quarantine = pl.read_parquet(tmp_path / "out" / "quarantine.parquet")
    assert json.loads(quarantine["row"][0])["item_id"] == "gone"


def test_columns_of_any_type_do_not_break_the_quarantine(ingest):
    log = _log(
        picture=pl.lit(b"\xff\x00"),
        tags=pl.lit(["a", "b"]),
        shape=pl.struct(pl.lit(1).alias("w"), pl.lit(b"x").alias("h")),
        item_id=pl.when(pl.int_range(pl.len()) % 40 == 0).then(pl.lit(None)).otherwise("item_id"),
    )
    assert ingest(log)[1]["rows_quarantined"] == 10
