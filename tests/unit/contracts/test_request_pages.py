"""A request is one page of one moment, whatever an id names and however a tracker writes."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from contracts.dataset import read_dataset
from contracts.ingestion.config import DataConfig
from contracts.ingestion.ingest import ingest_dataset
from contracts.ingestion.ingest_summary import read_summary

START = datetime(2024, 9, 2, 18, 5, tzinfo=UTC)
BOOKS = pl.DataFrame({"item_id": [f"b{n}" for n in range(24)], "title": [f"Book {n}" for n in range(24)]})


def _show(user, moment, request, items, *, apart=timedelta(0), clicked=None):
    page = {"user_id": user, "request_id": request}
    rows = [
        page
        | {
            "item_id": item,
            "timestamp": moment + place * apart,
            "event_type": "impression",
            "position": place,
        }
        for place, item in enumerate(items)
    ]
    if clicked is None:
        return rows
    click = {"item_id": items[clicked], "timestamp": moment + timedelta(seconds=12), "event_type": "click"}
    return [*rows, page | click | {"position": clicked}]


def _pick(number, size=4):
    return [f"b{(number * 5 + place) % 24}" for place in range(size)]


@pytest.fixture
def ingest(tmp_path):
    """Ingests rows; returns the events and the notes."""

    def _ingest(rows, **options):
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(tmp_path / "events.parquet")
        BOOKS.write_parquet(tmp_path / "items.parquet")
        data = {name: {"uri": str(tmp_path / f"{name}.parquet")} for name in ("items", "events")}
        ingest_dataset(DataConfig.model_validate(data | options), out=tmp_path / "out", is_told=False)
        return read_dataset(tmp_path / "out").events, "; ".join(read_summary(tmp_path / "out").notes)

    return _ingest


def test_an_id_that_names_a_visit_is_several_pages(ingest):
    rows = []
    for visit in range(40):
        moment = START + timedelta(hours=9 * visit)
        for page in range(3):
            shown_at = moment + timedelta(minutes=2 * page)
            rows += _show(f"v{visit % 8}", shown_at, f"visit {visit}", _pick(3 * visit + page), clicked=1)
    events, _ = ingest(rows)
    pages = (
        events.drop_nulls("request_id").group_by("request_id").agg(pl.len(), pl.col("event_type").unique())
    )
    assert len(pages) == 120
    assert (pages["len"] == 5).all(), "each page keeps its own click"


def test_a_page_that_is_told_item_by_item_stands_at_one_moment(ingest):
    rows = []
    for page in range(60):
        moment = START + timedelta(hours=7 * page)
        rows += _show(
            f"v{page % 9}", moment, f"p{page}", _pick(page, 8), apart=timedelta(minutes=1), clicked=6
        )
    events, notes = ingest(rows)
    shown = (
        events.filter(event_type="impression")
        .group_by("request_id")
        .agg(pl.col("timestamp").n_unique(), pl.len())
    )
    assert shown["timestamp"].max() == 1
    assert (shown["len"] == 8).all()
    assert "first moment" not in notes, "the first impression came before the click"


def test_an_item_that_is_shown_twice_on_a_late_page_stands_once(ingest):
    rows = []
    for page in range(60):
        moment = START + timedelta(hours=7 * page)
        items = _pick(page)
        rows += _show(f"v{page % 9}", moment, f"p{page}", items, clicked=2)
        rows += _show(f"v{page % 9}", moment + timedelta(seconds=5), f"p{page}", items)
    late = timedelta(seconds=30)
    rows = [
        row | {"timestamp": row["timestamp"] + late * (row["event_type"] == "impression")} for row in rows
    ]
    events, _ = ingest(rows)
    assert events.filter(event_type="impression").height == 240


def test_a_position_that_is_the_same_everywhere_divides_no_page(ingest):
    rows = []
    for page in range(60):
        moment = START + timedelta(hours=7 * page)
        rows += _show(f"v{page % 9}", moment, f"p{page}", _pick(page), apart=timedelta(seconds=1), clicked=3)
    events, _ = ingest([row | {"position": 1} for row in rows])
    assert events["request_id"].n_unique() == 60


def test_impressions_that_name_no_request_are_told(ingest):
    rows = [row for page in range(60) for row in _show(f"v{page % 9}", START, f"p{page}", _pick(page))]
    for number, row in enumerate(rows):
        row["timestamp"] += timedelta(hours=number // 4)
    clicks = [
        row | {"event_type": "click", "timestamp": row["timestamp"] + timedelta(seconds=7)} for row in rows
    ]
    nameless = [row | {"request_id": None} for row in [*rows, *clicks[::3]]]
    assert "240 impressions name no request, and stand in no list" in ingest(nameless)[1]
    assert "name no request, and" not in ingest([*rows, *clicks[::3]])[1]


@pytest.mark.parametrize("num_users", [12, 150])
def test_whoever_only_looks_and_looks_is_no_shopper(ingest, num_users):
    rows = []
    for page in range(300):
        moment = START + timedelta(hours=3 * page)
        rows += _show(f"v{page % num_users}", moment, f"p{page}", _pick(page), clicked=page % 4)
    for look in range(600):
        rows += _show("uptime", START + timedelta(minutes=90 * look), f"look {look}", _pick(look))
    events, notes = ingest(rows)
    is_told = "'uptime', was shown 67% of all impressions" in notes
    assert is_told
    assert ("uptime" in events["user_id"]) == (num_users == 12), "a small log does not tell what is usual"
