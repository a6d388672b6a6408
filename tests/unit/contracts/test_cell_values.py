"""A cell means what a person would read in it, whatever type it was stored in."""

from datetime import UTC, date, datetime

import polars as pl
import pytest

from contracts.errors import UserError
from contracts.ingestion.values.cell_texts import join_list_texts, read_cells_as_text
from contracts.ingestion.values.ids import collect_id_evidence, read_ids, refuse_inexact_ids
from contracts.ingestion.values.missing_words import MISSING_WORDS, clean_texts
from contracts.ingestion.values.numbers import collect_number_evidence, decide_decimal_mark, read_numbers
from contracts.ingestion.values.time_evidence import (
    collect_time_evidence,
    decide_day_first,
    refuse_unclear_times,
)
from contracts.ingestion.values.times import make_time_rules, read_times
from contracts.tables import EARLIEST_TIME

MOMENT = datetime(2025, 3, 1, 0, 41, 15, tzinfo=UTC)


def _read_ids(*cells):
    texts = pl.Series(cells, dtype=pl.String)
    return read_ids(texts, collect_id_evidence(texts)).to_list()


def _read_numbers(*cells, decimal="auto"):
    texts = pl.Series(cells, dtype=pl.String)
    return read_numbers(
        texts, decide_decimal_mark(collect_number_evidence(texts), "price", decimal)
    ).to_list()


def _read_times(*cells, zone="UTC", unit="auto", day_first=None):
    values = pl.Series(cells)
    decided = decide_day_first(collect_time_evidence(values), "timestamp", day_first)
    rules = make_time_rules(unit=unit, zone=zone, day_first=decided, earliest=EARLIEST_TIME)
    return read_times(values, rules).to_list()


@pytest.mark.parametrize(
    ("cells", "ids"),
    [
        (("17841", "17841.0", '"17841"', "17841.00", "C12"), ("17841",) * 4 + ("C12",)),
        (("1.0", "1.5"), ("1.0", "1.5")),
        (("007", "7"), ("007", "7")),
        (("1e5", "ab"), ("1e5", "ab")),
        (("1.7841e+04", "123"), ("17841", "123")),
        (("4,00639E+12", "1,7841e+04"), (None, "17841")),
        (("4.00639E+12", "9.007199254740993e+18", "123"), (None, None, "123")),
        (("12345678901234567890",), ("12345678901234567890",)),
    ],
)
def test_an_id_has_one_form(cells, ids):
    assert tuple(_read_ids(*cells)) == ids


@pytest.mark.parametrize("dtype", [pl.Float64, pl.Float32])
def test_floats_that_name_no_single_integer_are_refused(dtype):
    with pytest.raises(UserError, match=r"customer.*different ids have become one"):
        refuse_inexact_ids(pl.Series([2.0**60, 1.0], dtype=dtype), "customer")


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (("$27.19", "27.19 USD", "US$27.19"), (27.19, 27.19, 27.19)),
        (("-5", "(5.00)", "5.00-", "\u22125"), (-5, -5, -5, -5)),
        (("1,299.00", "1,299", "850.5"), (1299, 1299, 850.5)),
        (("1.299,00", "27,19", "1.299"), (1299, 27.19, 1299)),
        (("1\u00a0299,50", "1'299", "\uffe5\uff11\uff12"), (1299.5, 1299, 12)),
        (("1,5", "1.5", "1,299"), (1.5, 1.5, None)),
        (("\u0661\u0662\u066b\u0665", "\u06f1\u06f2\u066b\u06f5"), (12.5, 12.5)),
        (("x2", "3x", "2 \u00d7"), (2, 3, 2)),
        (("free", "10-20", "27.19.3", "inf", "1e3"), (None, None, None, None, 1000)),
    ],
)
def test_a_number_is_what_a_person_reads(cells, numbers):
    assert tuple(_read_numbers(*cells)) == pytest.approx(numbers, nan_ok=True)


def test_a_mark_that_may_be_either_is_asked_for():
    with pytest.raises(UserError, match=r"1\.299.*set `decimal`"):
        _read_numbers("1.299", "2.450")
    assert _read_numbers("1.299", "2.450", decimal=",") == [1299, 2450]


def test_amounts_of_several_currencies_are_not_added_up():
    with pytest.raises(UserError, match=r"EUR.*USD|USD.*EUR"):
        _read_numbers("$1", "\u20ac2")


@pytest.mark.parametrize(
    "cell",
    [
        "2025-03-01 00:41:15+00",
        "2025-03-01 00:41:15 UTC",
        "2025-03-01 00:41:15,000",
        "2025-03-01T02:41:15+02:00[Europe/Berlin]",
        "20250301T004115Z",
        "Sat, 01 Mar 2025 00:41:15 GMT",
        "01/Mar/2025:00:41:15 +0000",
        "Mar 1, 2025 12:41:15 AM",
        "Sat Mar 01 2025 01:41:15 GMT+0100 (Central European Standard Time)",
        "1.3.2025 00:41:15",
        "Sa., 1. März 2025, 00:41:15",
        "1 de marzo de 2025 00:41:15",
        "1 мар 2025 00:41:15",
        "2025年3月1日 0時41分15秒",
        "2025/3/1 上午 12:41:15",
        "2025년 3월 1일 오전 12:41:15",
        "2025-03-01 00:41:15".translate({ord(d): 0x660 + int(d) for d in "0123456789"}),
        "2025-03-01 00:41:15".translate({sign: sign + 0xFEE0 for sign in range(0x2D, 0x3B)}),
        "2025-03-01 12:41:15\u202fAM",
        "01-MAR-25 12.41.15.000000 AM",
        "2025-02-28 19:41:15 EST",
        "Mar 1, 2025 1:41:15 AM CET",
        "Sat Mar 01 01:41:15 CET 2025",
        "01MAR2025:00:41:15",
        "2025-03-01 01:41:15.000 Europe/Berlin",
        "2025-02-28 21:41:15 America/Argentina/Buenos_Aires",
        "Mar 1, 2025 @ 00:41:15.000",
        "20250301_004115",
        "20250301-00:41:15",
        "/Date(1740789675000)/",
        '{"$date": "2025-03-01T00:41:15Z"}',
        '{"$date": {"$numberLong": "1740789675000"}}',
        "2025-03-01-00.41.15.000000",
        "1/3/2025 12:41:15 a.\u00a0m.",
        "2025. 03. 01. 00:41:15",
        "2025. 3. 1. 오전 12:41:15",
        "01.03.2025 \u0433. 00:41:15",
        "1.3.2025 klo 00.41.15",
        "1.3.2025 um 00:41:15 Uhr",
        "1/3/2025 à 00:41:15",
        "March 1, 2025 at 12:41:15 AM",
        "[01/Mar/2025:00:41:15 +0000]",
        "2025-03-01 00:41:15 +0000 UTC m=+0.0012",
        "2025-03-01 08:41:15 GMT+8",
        "2025-03-01 00:41:15:000",
        "20250301004115000",
        "45717,02864583333",
        "1,740,789,675,000",
        "1740789675",
        "1740789675.0",
        "1740789675000",
        "1740789675000000",
        "1740789675000000000",
        "20250301004115",
        1_740_789_675,
        1_740_789_675_000_000_000,
        45717.02864583333,
    ],
)
def test_a_time_of_any_form_is_one_moment(cell):
    assert _read_times(cell, day_first=True) == [MOMENT]


@pytest.mark.parametrize("cell", ["1/3/2025 0h41", "01/03/2025 0.41", "01.03.2025 00.41"])
def test_a_clock_may_have_other_signs(cell):
    assert _read_times(cell, day_first=True) == [MOMENT.replace(second=0)]


@pytest.mark.parametrize(
    "cell", ['{"S": "B07"}', '{"string":"B07"}', '{"$oid": "B07"}', '{"$numberDecimal": "B07"}']
)
def test_the_type_beside_a_value_is_left_out(cell):
    assert read_cells_as_text(pl.Series([cell, None, "B07"])).to_list() == ["B07", None, "B07"]
    assert read_cells_as_text(pl.Series(['{"S": {"N": "1"}}', '{"sku": "1"}'])).str.starts_with("{").all()


@pytest.mark.parametrize("cell", ["2025-03-01 14", "2025/3/1T14", "2025-03-01 2 PM", "2025-03-01 15+01"])
def test_an_hour_needs_no_minutes(cell):
    assert _read_times(cell) == [datetime(2025, 3, 1, 14, tzinfo=UTC)]


@pytest.mark.parametrize(
    "cell", ["Mar-01-25", 20250301, "20250301", "2025-03-01", "01-Mar-2025", date(2025, 3, 1), 45717]
)
def test_a_date_is_its_midnight(cell):
    assert _read_times(cell) == [datetime(2025, 3, 1, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("cell", "month"), [("15 juin 2024", 6), ("15 juil. 2024", 7), ("15-OKT-24", 10), ("15 août 2024", 8)]
)
def test_months_have_names_in_many_languages(cell, month):
    assert _read_times(cell) == [datetime(2024, month, 15, tzinfo=UTC)]


def test_numbers_of_ten_digits_may_be_a_date_without_a_century():
    stamps = pl.Series([1_203_010_000 + 100 * hour + minute for hour in range(20) for minute in range(3)])
    for cells in (stamps, stamps.cast(pl.String)):
        with pytest.raises(UserError, match="look like YYMMDDHHMM"):
            refuse_unclear_times(collect_time_evidence(cells), "ts")
    refuse_unclear_times(collect_time_evidence(pl.Series(range(1_740_789_675, 1_740_790_675))), "ts")


@pytest.mark.parametrize(
    "cell",
    [
        "2025-03-01 00:41:15 CST",
        "soon",
        "20250301-0041",
        "2025-03-01 00:41:15 Home/Berlin",
        "2025-13-40",
        "0000-00-00 00:00:00",
        5,
        2_500_000_000.0,
    ],
)
def test_what_is_no_plausible_time_is_none(cell):
    assert _read_times(cell) == [None]


def test_the_column_says_which_number_is_the_day():
    assert _read_times("13/01/2025", "01/02/2025")[1] == datetime(2025, 2, 1, tzinfo=UTC)
    assert _read_times("01/13/2025", "01/02/2025")[1] == datetime(2025, 1, 2, tzinfo=UTC)
    with pytest.raises(UserError, match="day_first"):
        _read_times("01/02/2025")
    with pytest.raises(UserError, match="day_first"):
        _read_times("13/01/2025", "01/13/2025")


def test_a_time_without_zone_is_of_the_given_one():
    assert _read_times("2025-03-01 08:41:15", zone="Asia/Shanghai") == [MOMENT]
    assert _read_times(datetime(2025, 3, 1, 8, 41, 15), zone="Asia/Shanghai") == [MOMENT]
    # The clock skips this hour in spring, and shows that one twice in autumn.
    assert _read_times("2025-03-30 02:30", "2025-10-26 02:30", zone="Europe/Berlin") == [
        datetime(2025, 3, 30, 1, 30, tzinfo=UTC),
        datetime(2025, 10, 26, 0, 30, tzinfo=UTC),
    ]
    with pytest.raises(UserError, match="IANA"):
        _read_times("2025-03-01", zone="Berlin time")


@pytest.mark.parametrize(
    "word", ["nan", " NULL ", "\\N", "None", "", "-", "<NA>", "\u00a0", "#NV", "#N/D", "(vide)"]
)
def test_words_for_nothing_are_missing(word):
    assert clean_texts(pl.Series([word, "kept"]), MISSING_WORDS).to_list() == [None, "kept"]


def test_texts_that_a_spreadsheet_keeps_as_formulas_are_texts():
    assert clean_texts(pl.Series(['="007"', "=A1", '=""']), MISSING_WORDS).to_list() == ["007", "=A1", None]


def test_cells_of_any_type_are_texts():
    assert read_cells_as_text(pl.Series([[["A", "B"], ["C"]], []]), separator=" > ").to_list() == [
        "A > B",
        None,
    ]
    assert read_cells_as_text(pl.Series([{"amount": 1.5, "currency": "EUR"}])).to_list() == ["1.5"]
    assert read_cells_as_text(pl.Series([b"ab", b"\xff\xfe", None])).to_list() == ["ab", "fffe", None]
    with pytest.raises(UserError, match=r"image.*url, width"):
        read_cells_as_text(pl.Series([{"url": "x", "width": 1}]), column_name="image")


def test_lists_written_out_are_joined_and_other_brackets_kept():
    texts = pl.Series(["['A', 'B']", '["A", "B\'s"]', "[New] mug [2]", "[]"])
    assert join_list_texts(texts, " > ").to_list() == ["A > B", "A > B's", "[New] mug [2]", ""]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "Europe/Berlin"])
def test_common_times_mean_the_same_read_at_once_and_by_their_parts(zone, monkeypatch):
    cells = [
        f"{day}{mark}{clock}{sign}"
        for day in ("2025-03-30", "2025-10-26", "2024-02-29", "2025-02-29", "0000-00-00", "1969-12-31")
        for mark in ("T", " ")
        for clock in ("02:30:00", "23:59:59.5", "12:00:60", "24:00:00", "07:08:09.123456", "07:08:09.1234567")
        for sign in ("", "Z", "+00:00", "+0530", " UTC")
    ]
    at_once = _read_times(*cells, zone=zone)
    evidence = collect_time_evidence(pl.Series(cells))
    for module in ("time_texts", "time_evidence"):
        monkeypatch.setattr(f"contracts.ingestion.values.{module}.COMMON_FORM", r"^nothing$")
    assert at_once == _read_times(*cells, zone=zone)
    assert evidence == collect_time_evidence(pl.Series(cells))
    assert sum(moment is not None for moment in at_once) > len(cells) / 3
