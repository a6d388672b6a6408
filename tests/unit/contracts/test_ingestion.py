"""Ingestion: data of any common shape becomes the same tables; what is wrong is said clearly, nothing is
lost."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from pydantic import ValidationError

from contracts.artifacts import read_lineage, write_table
from contracts.dataset import read_dataset
from contracts.digests import digest_file
from contracts.errors import UserError
from contracts.ingestion.config import DataConfig
from contracts.ingestion.ingest import ingest_dataset
from contracts.ingestion.ingest_summary import read_summary
from contracts.ingestion.sources.list_files import digest_data
from contracts.ingestion.values.times import make_time_rules, read_times
from contracts.served_log import (
    EVENTS_FILE,
    SERVED_EVENTS,
    ServedDay,
    ServedLogManifest,
    name_day_folder,
    write_manifest,
)
from contracts.tables import EARLIEST_TIME

ITEMS = {"item_id": [1, 2, 3], "title": ["One", "Two", "Three"], "price": [1.0, 2.5, None]}
EVENTS = {
    "user_id": ["u", "u", "v", "v", "w", "w"] * 2,
    "item_id": [1, 2, 2, 3, 1, 3] * 2,
    "timestamp": [1_600_000_000 + 60 * step for step in range(12)],
    "event_type": ["click"] * 12,
}


@pytest.fixture
def write(tmp_path):
    """Writes both tables as Parquet, with columns replaced, and returns the data configuration."""

    def _write(items=None, events=None, **options):
        pl.DataFrame(ITEMS | (items or {})).write_parquet(tmp_path / "items.parquet")
        pl.DataFrame(EVENTS | (events or {})).write_parquet(tmp_path / "events.parquet")
        data = {
            "items": {"uri": str(tmp_path / "items.parquet"), **options.pop("items_options", {})},
            "events": {"uri": str(tmp_path / "events.parquet"), **options.pop("events_options", {})},
            "max_rejected_share": 0.5,
        }
        return DataConfig.model_validate(data | options)

    return _write


def test_a_plain_log_becomes_a_sorted_dataset_divided_in_time(write, tmp_path):
    ingest_dataset(write(), out=tmp_path / "out")

    dataset = read_dataset(tmp_path / "out")

    assert dataset.items["item_id"].to_list() == ["1", "2", "3"]
    assert dataset.events["timestamp"].is_sorted()
    assert dataset.split.train_end < dataset.split.validation_end < dataset.split.cutoff
    assert not dataset.has_impressions


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "csv.gz"])
def test_every_format_gives_the_same_dataset(write, tmp_path, suffix):
    config = write()
    ingest_dataset(config, out=tmp_path / "parquet")
    sources = {}
    for name in ("items", "events"):
        frame = pl.read_parquet(tmp_path / f"{name}.parquet")
        path = tmp_path / f"{name}.{suffix}"
        if suffix == "jsonl":
            frame.write_ndjson(path)
        elif suffix == "csv.gz":
            import gzip

            path.write_bytes(gzip.compress(frame.write_csv().encode()))
        else:
            frame.write_csv(path, separator="\t" if suffix == "tsv" else ",")
        sources[name] = {"uri": str(path)}
    ingest_dataset(DataConfig.model_validate(sources), out=tmp_path / "other")

    one, other = read_dataset(tmp_path / "parquet"), read_dataset(tmp_path / "other")

    assert one.items.equals(other.items)
    assert one.events.equals(other.events)


def test_columns_are_mapped_and_categories_joined(write, tmp_path):
    config = write(
        items={"name": ["A", "B", "C"], "title": ["x"] * 3, "cats": ["Home, Kitchen", "Home,Bath", None]},
        items_options={"columns": {"title": "name", "category": "cats"}, "category_separator": ","},
    )
    ingest_dataset(config, out=tmp_path / "out")

    items = read_dataset(tmp_path / "out").items

    assert items["title"].to_list() == ["A", "B", "C"]
    assert items["category"].to_list() == ["Home > Kitchen", "Home > Bath", None]


def test_a_list_of_categories_needs_no_separator(write, tmp_path):
    ingest_dataset(write(items={"category": [["A", "B"], ["A"], None]}), out=tmp_path / "out")

    assert read_dataset(tmp_path / "out").items["category"].to_list() == ["A > B", "A", None]


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        ([1_600_000_000, None], "auto"),
        ([1_600_000_000_000, None], "auto"),
        ([1_600_000_000_000_000, None], "us"),
        (["1600000000", "soon"], "auto"),
        (["2020-09-13T12:26:40", None], "iso"),
        (["2020-09-13T12:26:40Z", "2020-09-13 25:00"], "auto"),
        (["2020-09-13 12:26:40+00:00", "13/09"], "auto"),
        (["2020-09-13T14:26:40+02:00", None], "auto"),
        ([datetime(2020, 9, 13, 12, 26, 40), None], "auto"),
    ],
)
def test_times_of_any_form_are_one_moment(values, unit):
    rules = make_time_rules(unit=unit, zone="UTC", day_first=True, earliest=EARLIEST_TIME)
    parsed = read_times(pl.Series(values), rules)

    assert parsed.to_list() == [datetime(2020, 9, 13, 12, 26, 40, tzinfo=UTC), None]


def test_an_order_without_time_puts_last_events_into_the_test_part(write, tmp_path):
    config = write(
        events={"pos": [0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3]},
        events_options={"order_column": "pos", "event_type": "order"},
        split={"kind": "leave_last_out"},
    )
    ingest_dataset(config, out=tmp_path / "out")

    dataset = read_dataset(tmp_path / "out")
    test = dataset.events.filter(pl.col("timestamp") >= dataset.split.validation_end)

    assert sorted(test["item_id"].to_list()) == ["2", "3", "3"]
    assert test["user_id"].n_unique() == 3


def test_bad_rows_go_to_quarantine_with_their_reasons(write, tmp_path):
    config = write(
        events={
            "item_id": [1, 2, 2, 3, 99, 3] + [1] * 6,
            "timestamp": ["nonsense", *map(str, EVENTS["timestamp"][1:])],
        }
    )
    ingest_dataset(config, out=tmp_path / "out")

    quarantine = pl.read_parquet(tmp_path / "out" / "quarantine.parquet")

    assert sorted(quarantine["reasons"].explode().to_list()) == [
        "item_id: not in the catalogue",
        "timestamp: cannot be read as a time",
    ]
    assert json.loads(quarantine["row"][1])["item_id"] == "99"
    assert read_lineage(tmp_path / "out").metrics["rows_quarantined"] == 2


def test_the_quarantine_holds_the_rows_as_they_were_written(write, tmp_path):
    config = write(events={"timestamp": ["nonsense", *map(str, EVENTS["timestamp"][1:])]})
    ingest_dataset(config, out=tmp_path / "out")

    quarantine = pl.read_parquet(tmp_path / "out" / "quarantine.parquet")

    assert json.loads(quarantine["row"][0])["timestamp"] == "nonsense"


def test_units_of_time_may_be_mixed(write, tmp_path):
    times = [1_600_000_000_000_000, *EVENTS["timestamp"][1:]]
    ingest_dataset(write(events={"timestamp": times}), out=tmp_path / "out")

    assert read_dataset(tmp_path / "out").events["timestamp"].dt.year().unique().to_list() == [2020]
    assert read_lineage(tmp_path / "out").metrics["rows_quarantined"] == 0


def test_one_column_may_serve_two_of_ours(write, tmp_path):
    ingest_dataset(
        write(events_options={"columns": {"user_id": "user_id", "request_id": "user_id"}}),
        out=tmp_path / "out",
    )

    events = read_dataset(tmp_path / "out").events
    assert events["request_id"].equals(events["user_id"].alias("request_id"))


def test_an_id_that_is_no_whole_number_is_no_id(write, tmp_path):
    ingest_dataset(write(events={"item_id": [1.0, 1.5, 2.0, 3.0, 1.0, 3.0] * 2}), out=tmp_path / "out")

    assert set(read_dataset(tmp_path / "out").events["item_id"]) == {"1", "2", "3"}
    assert read_lineage(tmp_path / "out").metrics["rows_quarantined"] == 2


def test_a_remote_store_without_its_driver_says_which_one_is_missing(write):
    with pytest.raises(UserError, match="s3fs"):
        digest_data(write(events_options={"uri": "s3://bucket/events/*.parquet"}))


def test_leave_last_out_is_for_logs_without_time(write):
    with pytest.raises(ValidationError, match="order_column"):
        write(split={"kind": "leave_last_out"})


def test_too_many_bad_rows_refuse_the_table_and_say_why(write, tmp_path):
    config = write(events={"item_id": [9] * 12})
    with pytest.raises(UserError, match=r"'events': 12 of 12 events of type 'click'.*not in the catalogue"):
        ingest_dataset(config, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_after_the_cut_off_is_read(write, tmp_path):
    cutoff = datetime.fromtimestamp(EVENTS["timestamp"][10], UTC)
    ingest_dataset(write(cutoff=cutoff), out=tmp_path / "out")

    assert read_dataset(tmp_path / "out").events["timestamp"].max() < cutoff
    assert read_lineage(tmp_path / "out").metrics["rows_after_cutoff"] == 2


def test_a_nan_price_is_a_missing_price(write, tmp_path):
    ingest_dataset(write(items={"price": [float("nan"), 2.0, None]}), out=tmp_path / "out")

    assert read_dataset(tmp_path / "out").items["price"].to_list() == [None, 2.0, None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"events": {"event_type": ["view"] * 12}}, r"view \(12 rows\)"),
        ({"items": {"item_id": [1, 1, None]}, "max_rejected_share": 0.9}, r"holds 1 usable item\(s\)"),
        ({"cutoff": datetime(2001, 1, 1, tzinfo=UTC)}, "no event before the cut-off"),
        (
            {"events": {"timestamp": [1_600_000_000] * 12, "user_id": list("abcdefghijkl")}},
            "cannot be divided in time",
        ),
        ({"items_options": {"columns": {"title": "nombre"}}}, "nombre.*does not have"),
    ],
)
def test_unusable_data_is_refused_with_the_reason(write, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        ingest_dataset(write(**change), out=tmp_path / "out")


def test_an_empty_file_and_a_missing_one_are_named(tmp_path):
    (tmp_path / "items.csv").write_text("")
    config = {"items": {"uri": str(tmp_path / "items.csv")}, "events": {"uri": str(tmp_path / "none.csv")}}
    with pytest.raises(UserError, match=r"items\.csv' is empty"):
        ingest_dataset(DataConfig.model_validate(config), out=tmp_path / "out")
    with pytest.raises(UserError, match=r"no file at .*none\.csv"):
        digest_data(DataConfig.model_validate(config))


def test_every_error_of_the_configuration_is_reported():
    wrong = {
        "items": {"uri": "a.csv", "columns": {"color": "c"}},
        "events": {"uri": "b.csv", "event_type": "view"},
        "split": {"train": 0.9, "validation": 0.2},
    }
    with pytest.raises(ValidationError) as caught:
        DataConfig.model_validate(wrong)
    assert caught.value.error_count() == 3


def test_the_digest_changes_with_the_content(write, tmp_path):
    before = digest_data(write())
    assert digest_data(write()) == before
    assert digest_data(write(items={"title": ["One", "Two", "Other"]})) != before


@pytest.fixture
def serve(tmp_path):
    """Writes a served log of these rows, and returns its folder and digest."""

    def _serve(rows):
        served_log = tmp_path / "served_log"
        frame = pl.DataFrame(rows).with_columns(pl.col("timestamp").cast(pl.Datetime("us", "UTC")))
        days = {}
        for (day,), day_rows in frame.group_by(pl.col("timestamp").dt.date()):
            events_path = name_day_folder(served_log, day) / EVENTS_FILE
            events_path.parent.mkdir(parents=True)
            write_table(events_path, SERVED_EVENTS, day_rows)
            days[day] = ServedDay(digest=digest_file(events_path), num_rows=len(day_rows), counts={})
        manifest = ServedLogManifest(collected_at=datetime(2026, 1, 1, tzinfo=UTC), days=days)
        write_manifest(served_log, manifest)
        return {"served_log": served_log, "served_digest": manifest.digest}

    return _serve


def _served(second, item="1", **more):
    moment = datetime.fromtimestamp(1_600_000_000 + second, UTC)
    return {"user_id": "u", "item_id": item, "timestamp": moment, "event_type": "click"} | more


def test_what_was_served_is_read_beside_the_history_and_wins(write, serve, tmp_path):
    ingest_dataset(write(), out=tmp_path / "alone")
    day = 86_400
    served = serve(
        [
            _served(0, request_id="r1", scene="home"),
            _served(day, "2", request_id="r2", propensity=0.5),
            _served(2 * day, "new item"),
        ]
    )
    ingest_dataset(write(), out=tmp_path / "both", **served)

    alone, both = (read_dataset(tmp_path / name) for name in ("alone", "both"))
    lineage = read_lineage(tmp_path / "both")

    assert len(both.events) == len(alone.events) + 1, "one is in both, one is of no item of the catalogue"
    assert both.events.select("request_id", "scene").row(0) == ("r1", "home")
    assert both.events["request_id"].to_list()[-1] == "r2"
    assert both.split.cutoff == both.events["timestamp"].max() + timedelta(microseconds=1)
    assert (
        lineage.labels
        | {
            "served_first_day": "2020-09-13",
            "served_last_day": "2020-09-14",
            "served_days": "2",
            "served_digest": served["served_digest"],
        }
        == lineage.labels
    )
    assert "served_digest" not in read_lineage(tmp_path / "alone").labels
    assert pl.read_parquet(tmp_path / "both" / "quarantine.parquet").height == 1


def test_an_order_that_the_shop_exports_too_counts_once(write, serve, tmp_path):
    order, day = {"event_type": "order", "quantity": 1, "price": 4.0}, 86_400
    clicks = [_served(3600 * hour, str(1 + hour % 3)) for hour in range(60)]
    exported = [_served(9 * day + later, **order) for later in (0, 600, 7200)]
    back = exported[0] | {"event_type": "return"}
    back |= {"timestamp": back["timestamp"] + timedelta(minutes=50)}
    config = write(events=pl.DataFrame([*clicks, *exported, back]).to_dict(as_series=False))
    posted = _served(9 * day + 41, request_id="r9", **order)
    other = posted | {"timestamp": posted["timestamp"] + timedelta(hours=5)}
    ingest_dataset(config, out=tmp_path / "out", **serve([posted, other]))
    orders = read_dataset(tmp_path / "out").events.filter(event_type="order")
    assert orders["request_id"].to_list() == ["r9", None, None, "r9"], "the one ten minutes later is another"
    assert orders["returned"].sum() == 1, "the shop knows what came back"


def test_served_guests_are_nobody_as_those_of_the_history_are(write, serve, tmp_path):
    guests = [_served(86_400 + n, user_id=name) for n, name in enumerate(("Guest", "-1"))]
    ingest_dataset(write(), out=tmp_path / "out", **serve([_served(86_399, "2"), *guests]))
    assert not {"Guest", "-1"} & set(read_dataset(tmp_path / "out").events["user_id"])
    notes = "; ".join(read_summary(tmp_path / "out").notes)
    assert "2 served events are of users such as 'Guest', who are nobody" in notes


def test_a_cutoff_holds_for_what_was_served_too(write, serve, tmp_path):
    served = serve([_served(1, "2"), _served(86_400)])
    cutoff = datetime.fromtimestamp(1_600_000_000 + 3600, UTC)
    ingest_dataset(write(cutoff=cutoff), out=tmp_path / "out", **served)
    assert read_lineage(tmp_path / "out").labels["served_days"] == "1"
    assert read_dataset(tmp_path / "out").events["timestamp"].max() < cutoff


def test_a_page_that_nobody_reacted_to_does_not_move_the_cutoff(write, serve, tmp_path):
    served = serve([_served(86_400, "2"), _served(9 * 86_400, "3", event_type="impression", request_id="r")])
    ingest_dataset(write(), out=tmp_path / "out", **served)
    dataset, lineage = read_dataset(tmp_path / "out"), read_lineage(tmp_path / "out")
    assert dataset.split.cutoff == datetime.fromtimestamp(1_600_000_000 + 86_400, UTC) + timedelta(
        microseconds=1
    )
    assert (lineage.metrics["rows_after_cutoff"], lineage.labels["served_last_day"]) == (1, "2020-09-14")


def test_without_served_traffic_the_dataset_is_what_it_was(write, tmp_path):
    ingest_dataset(write(), out=tmp_path / "one")
    ingest_dataset(write(), out=tmp_path / "other", served_log=tmp_path / "nowhere", served_digest="")
    one, other = (read_lineage(tmp_path / name) for name in ("one", "other"))
    assert (one.digest, one.labels, one.metrics) == (other.digest, other.labels, other.metrics)
