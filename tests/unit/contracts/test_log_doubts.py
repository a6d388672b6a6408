"""What a log as a whole leaves open is told: files that differ, users and orders that are odd."""

import unicodedata
from datetime import UTC, datetime, timedelta
from uuid import UUID

import polars as pl
import pytest

from contracts.dataset import read_dataset
from contracts.errors import UserError
from contracts.ingestion.config import DataConfig
from contracts.ingestion.ingest import ingest_dataset
from contracts.ingestion.ingest_summary import read_summary

START = datetime(2025, 2, 3, 6, 30, 1, tzinfo=UTC)


def _make_log(count=240, users=30, event_type="click", **columns):
    rows = pl.DataFrame(
        {
            "user_id": [f"Kim{n * n % users}" for n in range(count)],
            "item_id": [f"p{n * n * 3 % 17 % 8}" for n in range(count)],
            "timestamp": [START + timedelta(minutes=173 * n, seconds=n * n % 61) for n in range(count)],
        }
    )
    return rows.with_columns(event_type=pl.lit(event_type), **columns)


@pytest.fixture
def ingest(tmp_path):
    """Ingests a log of one or several files; returns its events and notes."""

    def _ingest(*logs, item_ids=tuple(f"p{n}" for n in range(8)), **options):
        items = pl.DataFrame({"item_id": item_ids, "title": ["Pot"] * len(item_ids), "price": 500.0})
        items.write_csv(tmp_path / "items.csv")
        (tmp_path / "log").mkdir(exist_ok=True)
        for number, log in enumerate(logs):
            log.write_parquet(tmp_path / "log" / f"{number}.parquet")
        data = {"items": {"uri": str(tmp_path / "items.csv")}, "events": {"uri": str(tmp_path / "log")}}
        data["events"] |= options.pop("events_options", {})
        ingest_dataset(DataConfig.model_validate(data | options), out=tmp_path / "out", is_told=False)
        return read_dataset(tmp_path / "out").events, "; ".join(read_summary(tmp_path / "out").notes)

    return _ingest


def test_files_that_hold_the_same_events_a_zone_apart_are_told(ingest):
    log = _make_log()
    _, notes = ingest(log, log[60:].with_columns(pl.col("timestamp").dt.offset_by("5h30m")))
    assert "hold the same events +5.5 hours apart" in notes
    _, notes = ingest(log[:150], log[100:])
    assert "hours apart" not in notes


def test_orders_that_two_files_tell_differently_are_told(ingest):
    log = _make_log(event_type="order", price=pl.lit(500.0))
    later = log[180:].with_columns(price=pl.when(pl.int_range(pl.len()) < 9).then(480.0).otherwise("price"))
    _, notes = ingest(log, later)
    assert "9 orders stand in several files at different prices or quantities" in notes
    assert "in several files" not in ingest(log, log[100:])[1]


def test_a_column_that_one_file_names_otherwise_is_told(ingest):
    log = _make_log(event_type="order", quantity=pl.lit(2))
    _, notes = ingest(log[:100], log[100:].rename({"quantity": "pieces"}))
    assert "1.parquet' has no column quantity, which other files have" in notes
    assert "columns of this file alone: pieces" in notes


def test_a_file_that_lacks_a_named_column_is_named(ingest):
    log = _make_log()
    with pytest.raises(UserError, match=r"file '.*1\.parquet': .*names column\(s\) customer"):
        ingest(
            log[:100].rename({"user_id": "customer"}),
            log[100:],
            events_options={"columns": {"user_id": "customer"}},
        )


def test_thousands_of_one_file_are_refused(ingest):
    written = pl.Series(["1,299.50", "850.00", "2,100.00"]).gather(pl.Series([0, 1, 2] * 40))
    first = _make_log(120, event_type="order").with_columns(price=written)
    thousands = pl.Series(["1.299", "2.100", "1.850", "3.000"]).gather(pl.Series([0, 1, 2, 3] * 10))
    second = _make_log(160, event_type="order")[120:].with_columns(price=thousands)
    with pytest.raises(UserError, match=r"'price' of '.*1\.parquet': '1\.299' may be a thousand times more"):
        ingest(first, second)
    events, _ = ingest(first, second, events_options={"decimal": "."})
    assert 1.299 in events["price"]


def test_positions_that_count_from_one_are_counted_from_zero(ingest):
    pages = _make_log(event_type="impression", position=pl.int_range(pl.len()) % 4 + 1)
    clicks = pages.filter(pl.col("position") == 3).with_columns(
        pl.col("timestamp").dt.offset_by("9s"), event_type=pl.lit("click")
    )
    events, notes = ingest(pl.concat([pages, clicks]))
    assert "positions count from 1" in notes
    assert sorted(events["position"].unique()) == [0, 1, 2, 3]
    assert events.filter(event_type="click")["position"].unique().to_list() == [2]


def test_a_user_who_holds_much_of_a_small_log_is_told(ingest):
    guest = pl.when(pl.int_range(pl.len()) % 5 < 2).then(pl.lit("shop@shop.example")).otherwise("user_id")
    _, notes = ingest(_make_log(user_id=guest))
    assert "'shop@shop.example', holds 40% of all behaviors" in notes
    assert "holds" not in ingest(_make_log())[1]


def test_users_that_differ_in_case_or_accents_alone_are_told(ingest):
    is_odd = pl.int_range(pl.len()) // 30 % 2 == 0
    accents = [unicodedata.normalize(form, "René") for form in ("NFC", "NFD")]
    named = pl.when(is_odd).then(pl.lit(accents[0])).otherwise(pl.lit(accents[1])) + pl.col("user_id")
    cased = pl.when(is_odd).then(pl.col("user_id").str.to_uppercase()).otherwise("user_id")
    for user_id in (named, cased):
        events, notes = ingest(_make_log(user_id=user_id))
        assert "user ids are those of other users but for" in notes
        assert len(events) == 240


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"quantity": pl.lit(450)}, "does the quantity count grams"),
        ({"price": pl.lit(0.0)}, "240 of 240 orders cost 0"),
        ({"price": pl.when(pl.int_range(pl.len()) == 7).then(1e8).otherwise(12.5)}, "of all revenue"),
    ],
)
def test_orders_that_are_odd_are_told(ingest, columns, said):
    assert said in ingest(_make_log(event_type="order", **columns))[1]


def test_order_lines_of_which_many_stand_twice_are_told(ingest):
    log = _make_log(event_type="order")
    _, notes = ingest(pl.concat([log, log[:90]]))
    assert "90 order lines repeat another one" in notes
    assert "order lines repeat" not in ingest(pl.concat([log, log[:9]]))[1]


@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        ("Größe-{}", "Größe-{}", "Unicode's two forms"),
        ("AB{}-x", "ab {}_X", "blanks, punctuation and case"),
        ('["p{}", "q"]', "p{}", "holds several ids"),
        ("p{}|q1|q2", "p{}", "holds several ids"),
    ],
)
def test_ids_that_would_be_those_of_the_catalogue_are_told_with_an_example(ingest, theirs, ours, said):
    number = pl.col("item_id").str.slice(1)
    before, after = theirs.split("{}")
    log = _make_log(item_id=pl.lit(unicodedata.normalize("NFD", before)) + number + pl.lit(after))
    with pytest.raises(UserError, match=said):
        ingest(log, item_ids=[ours.format(n) for n in range(8)])


def test_a_uuid_in_sixteen_bytes_is_the_one_that_stands_as_text(ingest):
    ids = {f"p{n}": UUID(int=n << 120 | 0xFFFE << 40) for n in range(8)}
    log = _make_log()
    packed = pl.Series([ids[item].bytes for item in log["item_id"]])
    events, _ = ingest(log.with_columns(item_id=packed), item_ids=[str(item) for item in ids.values()])
    assert len(events) == 240


def test_units_of_zero_say_nothing_of_clicks(ingest):
    log = _make_log(quantity=pl.lit(0), returned=pl.lit(0))
    orders = _make_log(40, event_type="order", quantity=pl.lit(3), returned=pl.int_range(pl.len()) % 2)
    events, _ = ingest(pl.concat([log, orders], how="vertical_relaxed"))
    assert (len(events), events["quantity"].sum(), events["returned"].sum()) == (280, 120, 20)


def test_days_of_a_spreadsheet_are_told(ingest):
    days = (pl.col("timestamp").dt.epoch("s") / 86_400) + 25_569
    events, notes = ingest(_make_log(timestamp=days))
    assert events["timestamp"].min() == START
    assert "240 times are days of a spreadsheet" in notes


def test_a_log_too_small_to_be_divided_says_so(ingest):
    with pytest.raises(UserError, match=r"the log holds 4 behaviors .* too few"):
        ingest(_make_log(4))


def test_clicks_of_guests_may_be_most_where_their_limit_says_so(ingest):
    number = pl.int_range(pl.len())
    log = _make_log(600, event_type="click").with_columns(
        user_id=pl.when(number % 10 < 7).then(pl.lit("guest")).otherwise("user_id"),
    )
    orders = _make_log(400, event_type="order")
    with pytest.raises(UserError, match="420 of 600 events of type 'click' are lost"):
        ingest(log, orders)
    events, _ = ingest(log, orders, max_rejected_shares={"events.user_id": 0.5})
    assert len(events) == 580


def test_a_type_of_which_guests_leave_nothing_is_refused_whatever_their_limit(ingest):
    logs = _make_log(600), _make_log(60, event_type="cart", user_id=pl.lit("guest"))
    with pytest.raises(UserError, match="60 of 60 events of type 'cart' are lost"):
        ingest(*logs, max_rejected_shares={"events.user_id": 0.5})
