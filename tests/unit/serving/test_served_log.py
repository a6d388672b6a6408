"""The gateway's log becomes a served log: once, by day, late or not, without bots, less what came back."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from contracts.errors import UserError
from contracts.events.bots import BotRuleConfig
from contracts.events.event_repeats import RepeatRuleConfig
from contracts.served_log import (
    EVENTS_FILE,
    SERVED_EVENTS,
    SERVED_LOG_FOLDER,
    name_day_folder,
    read_manifest,
    read_served_events,
)
from contracts.tables import EVENTS
from serving.config import SINK_ENV, EventLogConfig, ServedLogConfig
from serving.served_log import collect_log as collection
from serving.served_log.collect_log import collect_log, refresh_served_log
from serving.served_log.collected_days import COLLECTED_FILE
from serving.served_log.log_sources import LogFiles, open_log_source

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = START + timedelta(days=100)
CONFIG = ServedLogConfig()
REPEATS = RepeatRuleConfig()


def _moment(day=0.0):
    return (START + timedelta(days=day)).isoformat(timespec="microseconds")


def _answer(request="r1", day=0.0, items=("a", "b", "c"), user="u1", **more):
    return {
        "request_id": request,
        "user_id": user,
        "timestamp": _moment(day),
        "arm": "treatment",
        "assignment": "drawn",
        "model_version": "v1",
        "routed_version": "v1",
        "item_ids": list(items),
        "scores": [1.0] * len(items),
        "propensities": [0.5] * len(items),
        "degraded": [[] for _ in items],
        **more,
    }


def _event(event_type, item="a", day=0.1, request="r1", user="u1", **more):
    named_request = {"request_id": request} if request else {}
    return {
        "user_id": user,
        "item_id": item,
        "event_type": event_type,
        "timestamp": _moment(day),
        **named_request,
        **more,
    }


class Log:
    """An event log folder whose files grow."""

    def __init__(self, folder):
        self.folder, self.served = folder / "events", folder / "served_log"
        self.folder.mkdir()

    def write(self, *records, file="1"):
        for record in records:
            kind = "exposures" if "item_ids" in record else "events"
            with (self.folder / f"{kind}-{file}.jsonl").open("a") as stream:
                stream.write(json.dumps(record) + "\n")

    def collect(self, config=CONFIG, at=LATER, repeats=REPEATS):
        return collect_log(
            LogFiles(self.folder), config, served_log=self.served, repeats=repeats, collected_at=at
        )

    def read(self):
        return read_served_events(self.served, digest=read_manifest(self.served).digest)

    def read_day(self, day=0):
        folder = name_day_folder(self.served, (START + timedelta(days=day)).date())
        return pl.read_parquet(folder / EVENTS_FILE)

    def list_files(self):
        return {path: path.read_bytes() for path in sorted(self.served.rglob("*.parquet")) if path.is_file()}


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path)


def test_what_was_shown_and_done_becomes_events_of_its_own_day(log):
    log.write(_answer(scene="search", query="tent"), _event("click"), _event("order", day=3, price=5.0))
    counts = log.collect()
    events = log.read()
    assert events.schema == EVENTS.schema
    assert events.select("event_type", "item_id", "position", "arm", "query").rows() == [
        ("impression", "a", 0, "treatment", "tent"),
        ("impression", "b", 1, "treatment", "tent"),
        ("impression", "c", 2, "treatment", "tent"),
        ("click", "a", None, "treatment", "tent"),
        ("order", "a", None, "treatment", "tent"),
    ]
    assert events["propensity"].to_list() == [0.5] * 3 + [None] * 2
    assert [day.isoformat() for day in read_manifest(log.served).days] == ["2026-01-01", "2026-01-04"]
    assert (counts["impressions"], counts["clicks"], counts["orders"], counts["days"]) == (3, 1, 1, 2)
    assert log.read_day().schema == SERVED_EVENTS.schema


def test_collecting_twice_adds_nothing(log):
    log.write(_answer(), _event("click"))
    log.collect()
    files, digest = log.list_files(), read_manifest(log.served).digest
    assert log.collect()["new_rows"] == 0
    (log.served / "positions.json").unlink()  # all is read again
    counts = log.collect()
    assert (counts["new_rows"], counts["duplicate_rows"], counts["late_rows"]) == (0, 4, 0)
    assert log.list_files() == files
    assert read_manifest(log.served).digest == digest


def test_only_days_that_got_something_are_written_again(log):
    log.write(_answer(), _answer("r2", day=1))
    log.collect()
    log.write(_answer("r3", day=2), _event("click", day=0.2))
    counts = log.collect()
    assert (counts["written_days"], counts["late_rows"], counts["new_rows"]) == (2, 1, 4)
    assert log.read_day().filter(event_type="click").height == 1


def test_repeated_records_and_retried_requests_count_once(log):
    log.write(_answer(), _answer(items=("x", "y")), _event("click"), _event("click"))
    log.write(_answer(items=("z",)), file="2")
    log.collect()
    log.write(_answer(items=("q",)), _event("click"), file="3")
    counts = log.collect()
    assert log.read()["item_id"].to_list() == ["a", "b", "c", "a"]
    assert counts["duplicate_rows"] == 2


def test_an_impression_that_a_client_reports_does_not_count_beside_the_exposure(log):
    log.write(
        _answer(), _event("impression"), _event("impression", day=1), _event("impression", "b", request=None)
    )
    counts = log.collect()
    assert log.read()["event_type"].to_list() == ["impression"] * 4, "one is of no request of ours"
    assert counts["impressions_confirmed"] == 2


def test_half_a_line_waits_until_it_is_whole_and_a_broken_one_is_counted(log):
    line = json.dumps(_answer())
    path = log.folder / "exposures-1.jsonl"
    path.write_text("no json\n" + json.dumps({"request_id": "r0"}) + "\n" + line[:50])
    counts = log.collect()
    assert (counts.get("rows", 0), counts["broken_lines"]) == (0, 2)
    with path.open("a") as stream:
        stream.write(line[50:] + "\n")
    assert log.collect()["new_rows"] == 3


def test_a_folder_that_is_not_there_is_an_empty_log(tmp_path):
    source, served_log = LogFiles(tmp_path / "nowhere"), tmp_path / "served_log"
    assert collect_log(source, CONFIG, served_log=served_log)["new_rows"] == 0
    assert read_manifest(served_log).digest == ""
    with pytest.raises(UserError, match="nothing was served yet"):
        collect_log(source, ServedLogConfig(use=True), served_log=served_log)


def test_files_that_were_moved_away_stay_in_the_served_log(log):
    log.write(_answer())
    log.collect()
    (log.folder / "exposures-1.jsonl").unlink()
    log.write(_answer("r2", day=1), file="2")
    log.collect()
    assert log.read()["request_id"].unique().sort().to_list() == ["r1", "r2"]


def test_a_late_return_is_noted_at_its_order_and_is_no_event(log):
    log.write(_answer(), _event("order", day=0.1, quantity=3), _event("order", item="b", day=1))
    log.collect()
    log.write(_event("return", day=9, quantity=1), _event("return", item="b", day=9, request=None), file="2")
    counts = log.collect()
    bought = log.read().filter(event_type="order").select("item_id", "quantity", "returned")
    assert bought.rows() == [("a", 3, 1), ("b", None, 1)]
    assert (counts["returns"], counts["matched_returns"], counts["returned_orders"]) == (2, 2, 2)
    assert "return" not in log.read()["event_type"].to_list()
    (log.served / "positions.json").unlink()
    log.collect()
    assert log.read().filter(event_type="order")["returned"].to_list() == [1, 1]


def test_a_late_order_meets_the_return_that_was_there_first(log):
    log.write(_event("return", day=9, request=None))
    log.collect()
    log.write(_event("order", day=0.1), _event("order", day=20))
    log.collect()
    assert log.read()["returned"].to_list() == [1, None]


def test_a_cancellation_takes_back_its_order_too(log):
    log.write(_answer(), _event("order", quantity=2), _event("cancel", day=0.2, quantity=1))
    counts = log.collect()
    assert log.read()["returned"].drop_nulls().to_list() == [1]
    assert (counts["returns"], counts["cancellations"], counts["matched_returns"]) == (0, 1, 1)


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize(
    ("change", "first_day", "second_day"),
    [
        ({"event_id": "o1"}, 0.1, 5.0),
        ({}, 0.49, 0.505),  # 15 minutes before midnight, and 7 after
        ({"event_id": "c1", "event_type": "click"}, 0.1, 2.0),
    ],
)
def test_an_event_that_was_sent_again_counts_on_its_first_day(log, change, first_day, second_day, is_late):
    posts = [_event("order", day=day) | change for day in (first_day, second_day)]
    log.write(_answer(), posts[is_late])
    log.collect()
    log.write(posts[not is_late])
    counts = log.collect()
    assert log.read().filter(pl.col("event_type") != "impression")["timestamp"].to_list() == [
        START + timedelta(days=first_day)
    ]
    assert (counts["repeated_rows"], counts["repeated_orders"]) == (1, "event_type" not in change)


def test_another_rule_of_what_is_a_repeat_makes_all_days_anew(log):
    log.write(_answer(), _event("order", day=0.1), _event("order", day=0.11))
    assert log.collect()["orders"] == 1
    assert log.collect(repeats=RepeatRuleConfig(order_minutes=5))["orders"] == 2
    assert log.collect(repeats=RepeatRuleConfig(order_minutes=5))["written_days"] == 0


def test_lines_of_one_order_with_ids_of_their_own_add_up(log):
    log.write(_answer(), *(_event("order", price=price, event_id=str(price)) for price in (2.0, 4.0)))
    counts = log.collect()
    assert log.read().filter(event_type="order").select("quantity", "price").rows() == [(2, 3.0)]
    assert (counts["orders"], counts["quarantined_rows"], counts["orders_without_price"]) == (1, 0, 0)


def test_orders_without_a_price_are_counted_and_keep_none(log):
    log.write(_answer(), _event("order"), _event("order", item="b", price=3.0), _event("click", item="b"))
    assert log.collect()["orders_without_price"] == 1
    assert log.read().filter(event_type="order")["price"].to_list() == [None, 3.0]


def test_what_was_collected_before_events_had_ids_is_read_on(log):
    log.write(_answer(), _event("order"))
    log.collect()
    collected_path = name_day_folder(log.served, START.date()) / COLLECTED_FILE
    pl.read_parquet(collected_path).drop("event_id").write_parquet(collected_path)
    log.write(_event("click", event_id="1"))
    assert log.collect()["new_rows"] == 1
    assert log.read()["event_type"].to_list()[-2:] == ["click", "order"]


def test_a_return_after_the_collection_is_not_known_yet(log):
    log.write(_event("order"), _event("return", day=9))
    log.collect(at=START + timedelta(days=1))
    assert log.read()["returned"].to_list() == [None]
    log.collect()
    assert log.read()["returned"].to_list() == [1]


def test_bots_go_to_quarantine_and_come_back_under_another_rule(log):
    items = [f"i{number}" for number in range(10)]
    clicks = [_event("click", item=item, user="bot") for item in items]
    log.write(_answer(items=items, user="bot"), *clicks)
    log.write(_answer("r2", items=items), _event("click", item="i1", request="r2"))
    strict = ServedLogConfig(bots=BotRuleConfig(max_click_share=0.9, min_impressions=10))
    counts = log.collect(strict)
    assert log.read()["user_id"].unique().to_list() == ["u1"]
    assert (counts["bots"], counts["bot_rows"], counts["quarantined_rows"]) == (1, 20, 20)
    quarantine = pl.read_parquet(log.served / "day=2026-01-01" / "quarantine.parquet")
    assert quarantine["reasons"].explode().unique().to_list() == ["user_id: a bot"]
    assert log.collect()["bots"] == 0
    assert len(log.read()) == 31


@pytest.mark.parametrize(
    ("rule", "is_bot"),
    [
        ({"max_requests": 2}, True),
        ({"max_requests": 3}, False),
        ({"max_clicks": 3}, True),
        ({"max_clicks": 4}, False),
        ({"max_click_share": 0.5, "min_impressions": 6}, True),
        ({"max_click_share": 0.5, "min_impressions": 7}, False),
        ({"max_click_share": 0.7, "min_impressions": 6}, False),
    ],
)
def test_each_rule_has_its_bound(log, rule, is_bot):
    for number in range(3):
        log.write(_answer(f"r{number}", items=("a", "b"), day=number / 100))
    clicks = [("r0", "a", 0.1), ("r1", "a", 0.2), ("r2", "a", 0.3), ("r0", "b", 0.1)]
    log.write(*(_event("click", item, day, request) for request, item, day in clicks))
    off = {"max_requests": None, "max_clicks": None, "max_click_share": None}
    counts = log.collect(ServedLogConfig(bots=BotRuleConfig(**(off | rule))))
    assert counts["bots"] == is_bot


def test_repeated_clicks_on_one_item_are_no_bots(log):
    items = [f"i{number}" for number in range(20)]
    log.write(_answer(items=items), *(_event("click", "i0", day=number / 1000) for number in range(30)))
    assert log.collect()["bots"] == 0


def test_answers_that_are_not_the_policys_have_no_propensity(log):
    degraded = {"model_version": "fallback", "degraded": [["model"]] * 3}
    log.write(
        _answer("drawn"),
        _answer("held", assignment="holdout", day=0.01),
        _answer("forced", assignment="forced", day=0.02),
        _answer("fallback", day=0.03, **degraded),
    )
    counts = log.collect()
    rows = log.read_day().unique("request_id", maintain_order=True)
    assert rows.select("request_id", "propensity", "assignment").rows() == [
        ("drawn", 0.5, "drawn"),
        ("held", 0.5, "holdout"),
        ("forced", None, "forced"),
        ("fallback", None, "drawn"),
    ]
    assert (counts["fallback_requests"], counts["degraded_requests"], counts["forced_requests"]) == (1, 1, 1)


def test_what_lies_after_the_collection_is_held_back_until_then(log):
    log.write(_answer(), _event("click", day=0.1), _answer("r2", day=5))
    counts = log.collect(at=START + timedelta(days=0.05))
    assert log.read()["event_type"].to_list() == ["impression"] * 3
    assert counts["held_back_rows"] == 4
    log.collect(at=START + timedelta(days=1))
    assert len(log.read()) == 4
    log.collect()
    assert len(log.read()) == 7


def test_a_killed_collection_is_made_good_by_the_next(log, monkeypatch):
    log.write(_answer(), _answer("r2", day=1), _answer("r3", day=2))
    written = []
    write_day = collection._write_day

    def write_two_days(*args, **more):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(write_day(*args, **more))
        return written[-1]

    monkeypatch.setattr(collection, "_write_day", write_two_days)
    with pytest.raises(KeyboardInterrupt):
        log.collect()
    monkeypatch.undo()
    assert read_manifest(log.served) is None
    # Even where the source no longer holds what was read.
    for path in log.folder.iterdir():
        path.unlink()
    log.collect()
    assert len(log.read()) == 9
    assert not (log.served / ".staging").exists()


def test_a_log_in_another_state_is_not_learnt_from(log):
    log.write(_answer())
    log.collect()
    digest = read_manifest(log.served).digest
    assert read_served_events(log.served, digest=digest, before=START).is_empty()
    with pytest.raises(UserError, match="changed while the run went on"):
        read_served_events(log.served, digest="other")
    log.read_day().head(1).write_parquet(name_day_folder(log.served, START.date()) / EVENTS_FILE)
    with pytest.raises(UserError, match="is not what was collected"):
        read_served_events(log.served, digest=digest)


def test_rows_that_break_the_contract_go_to_quarantine(log):
    log.write(_event("click"), _event("look"), _event("click", item="b", price=-1.0))
    counts = log.collect()
    assert len(log.read()) == 1
    assert counts["quarantined_rows"] == 2


def test_the_served_log_of_a_workspace_is_refreshed_where_it_is_wanted(tmp_path):
    (tmp_path / "serving").mkdir()
    log = Log(tmp_path / "serving")
    log.write(_answer())
    switched_off = ServedLogConfig(use=False)
    assert refresh_served_log(switched_off, EventLogConfig(), workspace=tmp_path) == ("", {})
    assert not (tmp_path / SERVED_LOG_FOLDER).exists()
    served = refresh_served_log(CONFIG, EventLogConfig(), workspace=tmp_path)
    assert len(read_served_events(tmp_path / SERVED_LOG_FOLDER, digest=served.digest)) == 3
    assert served.counts["new_rows"] == 3


def test_without_the_sinks_address_its_files_are_read(tmp_path, monkeypatch):
    monkeypatch.delenv(SINK_ENV, raising=False)
    assert isinstance(open_log_source(EventLogConfig(sink="redis"), tmp_path), LogFiles)
