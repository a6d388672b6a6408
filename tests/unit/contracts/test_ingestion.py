"""Ingestion: data of any common shape becomes the same tables; what is wrong is said clearly, nothing is lost."""

import json
from datetime import UTC, datetime

import polars as pl
import pytest
from pydantic import ValidationError

from contracts.artifacts import read_lineage
from contracts.dataset import read_dataset
from contracts.errors import UserError
from contracts.ingestion.config import DataConfig
from contracts.ingestion.ingest import ingest
from contracts.ingestion.normalise import parse_time
from contracts.ingestion.sources import data_digest

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
    ingest(write(), out=tmp_path / "out")

    dataset = read_dataset(tmp_path / "out")

    assert dataset.items["item_id"].to_list() == ["1", "2", "3"]
    assert dataset.events["timestamp"].is_sorted()
    assert dataset.split.train_end < dataset.split.validation_end < dataset.split.cutoff
    assert not dataset.has_impressions


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "csv.gz"])
def test_every_format_gives_the_same_dataset(write, tmp_path, suffix):
    config = write()
    ingest(config, out=tmp_path / "parquet")
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
    ingest(DataConfig.model_validate(sources), out=tmp_path / "other")

    one, other = read_dataset(tmp_path / "parquet"), read_dataset(tmp_path / "other")

    assert one.items.equals(other.items)
    assert one.events.equals(other.events)


def test_columns_are_mapped_and_categories_joined(write, tmp_path):
    config = write(
        items={"name": ["A", "B", "C"], "title": ["x"] * 3, "cats": ["Home, Kitchen", "Home,Bath", None]},
        items_options={"columns": {"title": "name", "category": "cats"}, "category_separator": ","},
    )
    ingest(config, out=tmp_path / "out")

    items = read_dataset(tmp_path / "out").items

    assert items["title"].to_list() == ["A", "B", "C"]
    assert items["category"].to_list() == ["Home > Kitchen", "Home > Bath", None]


def test_a_list_of_categories_needs_no_separator(write, tmp_path):
    ingest(write(items={"category": [["A", "B"], ["A"], None]}), out=tmp_path / "out")

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
        (["2020-09-13 12:26:40+00:00", "13/09/2020"], "auto"),
        (["2020-09-13T14:26:40+02:00", None], "auto"),
        ([datetime(2020, 9, 13, 12, 26, 40), None], "auto"),
    ],
)
def test_times_of_any_form_are_one_moment(values, unit):
    parsed = parse_time(pl.Series(values), unit)

    assert parsed.to_list() == [datetime(2020, 9, 13, 12, 26, 40, tzinfo=UTC), None]


def test_an_order_without_time_puts_last_events_into_the_test_part(write, tmp_path):
    config = write(
        events={"pos": [0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3]},
        events_options={"order_column": "pos", "event_type": "order"},
        split={"kind": "leave_last_out"},
    )
    ingest(config, out=tmp_path / "out")

    dataset = read_dataset(tmp_path / "out")
    test = dataset.events.filter(pl.col("timestamp") >= dataset.split.validation_end)

    assert sorted(test["item_id"].to_list()) == ["2", "3", "3"]
    assert test["user_id"].n_unique() == 3


def test_bad_rows_go_to_quarantine_with_their_reasons(write, tmp_path):
    config = write(
        events={"item_id": [1, 2, 2, 3, 99, 3] + [1] * 6, "timestamp": ["nonsense", *map(str, EVENTS["timestamp"][1:])]}
    )
    ingest(config, out=tmp_path / "out")

    quarantine = pl.read_parquet(tmp_path / "out" / "quarantine.parquet")

    assert sorted(quarantine["reasons"].explode().to_list()) == [
        "item_id: not in the catalogue",
        "timestamp: missing",
    ]
    assert json.loads(quarantine["row"][1])["item_id"] == "99"
    assert read_lineage(tmp_path / "out").metrics["rows_quarantined"] == 2


def test_the_quarantine_holds_the_rows_as_they_were_written(write, tmp_path):
    config = write(events={"timestamp": ["nonsense", *map(str, EVENTS["timestamp"][1:])]})
    ingest(config, out=tmp_path / "out")

    quarantine = pl.read_parquet(tmp_path / "out" / "quarantine.parquet")

    assert json.loads(quarantine["row"][0])["timestamp"] == "nonsense"


def test_one_wrong_time_does_not_redate_the_others(write, tmp_path):
    times = [1_600_000_000_000_000, *EVENTS["timestamp"][1:]]
    ingest(write(events={"timestamp": times}), out=tmp_path / "out")

    assert read_dataset(tmp_path / "out").events["timestamp"].dt.year().unique().to_list() == [2020]
    assert read_lineage(tmp_path / "out").metrics["rows_quarantined"] == 1


def test_one_column_may_serve_two_of_ours(write, tmp_path):
    ingest(write(events_options={"columns": {"user_id": "user_id", "request_id": "user_id"}}), out=tmp_path / "out")

    events = read_dataset(tmp_path / "out").events
    assert events["request_id"].equals(events["user_id"].alias("request_id"))


def test_an_id_that_is_no_whole_number_is_no_id(write, tmp_path):
    ingest(write(events={"item_id": [1.0, 1.5, 2.0, 3.0, 1.0, 3.0] * 2}), out=tmp_path / "out")

    assert set(read_dataset(tmp_path / "out").events["item_id"]) == {"1", "2", "3"}
    assert read_lineage(tmp_path / "out").metrics["rows_quarantined"] == 2


def test_a_remote_store_without_its_driver_says_which_one_is_missing(write):
    with pytest.raises(UserError, match="s3fs"):
        data_digest(write(events_options={"uri": "s3://bucket/events/*.parquet"}))


def test_leave_last_out_is_for_logs_without_time(write):
    with pytest.raises(ValidationError, match="order_column"):
        write(split={"kind": "leave_last_out"})


def test_too_many_bad_rows_refuse_the_table_and_say_why(write, tmp_path):
    config = write(events={"item_id": [9] * 12})
    with pytest.raises(UserError, match=r"'events': 12 of 12 rows.*not in the catalogue"):
        ingest(config, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_after_the_cut_off_is_read(write, tmp_path):
    cutoff = datetime.fromtimestamp(EVENTS["timestamp"][10], UTC)
    ingest(write(cutoff=cutoff), out=tmp_path / "out")

    assert read_dataset(tmp_path / "out").events["timestamp"].max() < cutoff
    assert read_lineage(tmp_path / "out").metrics["rows_after_cutoff"] == 2


def test_a_nan_price_is_a_missing_price(write, tmp_path):
    ingest(write(items={"price": [float("nan"), 2.0, None]}), out=tmp_path / "out")

    assert read_dataset(tmp_path / "out").items["price"].to_list() == [None, 2.0, None]
    assert read_lineage(tmp_path / "out").metrics["nan_read_as_missing"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"events": {"event_type": ["view"] * 12}}, "12 of 12 rows"),
        ({"items": {"item_id": [1, 1, None]}, "max_rejected_share": 0.9}, r"holds 1 usable item\(s\)"),
        ({"cutoff": datetime(2001, 1, 1, tzinfo=UTC)}, "no event before the cut-off"),
        ({"events": {"timestamp": [5] * 12, "user_id": list("abcdefghijkl")}}, "cannot be divided in time"),
        ({"items_options": {"columns": {"title": "nombre"}}}, "nombre.*does not have"),
    ],
)
def test_unusable_data_is_refused_with_the_reason(write, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        ingest(write(**change), out=tmp_path / "out")


def test_an_empty_file_and_a_missing_one_are_named(tmp_path):
    (tmp_path / "items.csv").write_text("")
    config = {"items": {"uri": str(tmp_path / "items.csv")}, "events": {"uri": str(tmp_path / "none.csv")}}
    with pytest.raises(UserError, match=r"items\.csv' is empty"):
        ingest(DataConfig.model_validate(config), out=tmp_path / "out")
    with pytest.raises(UserError, match=r"no file at .*none\.csv"):
        data_digest(DataConfig.model_validate(config))


def test_every_error_of_the_configuration_is_reported():
    wrong = {
        "items": {"uri": "a.csv", "columns": {"colour": "c"}},
        "events": {"uri": "b.csv", "event_type": "view"},
        "split": {"train": 0.9, "validation": 0.2},
    }
    with pytest.raises(ValidationError) as caught:
        DataConfig.model_validate(wrong)
    assert caught.value.error_count() == 3


def test_the_digest_changes_with_the_content(write, tmp_path):
    before = data_digest(write())
    assert data_digest(write()) == before
    assert data_digest(write(items={"title": ["One", "Two", "Other"]})) != before
