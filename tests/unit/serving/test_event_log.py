import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from contracts.tables import ANSWERS, EVENTS, EXPOSURES, OUTCOMES
from serving.event_log import event_log, log_files
from serving.event_log.event_log import EventLog, EventLogFullError
from serving.event_log.log_records import build_event_record
from serving.event_log.log_tables import read_answers, read_events, read_exposures, read_outcomes
from serving.gateway.messages import PostedEvent
from serving.served_log.collected_rows import collect_lines

SHOWN = {
    "request_id": "r1",
    "user_id": "u1",
    "timestamp": "2026-01-01T00:00:00.000000+00:00",
    "arm": "treatment",
    "model_version": "v1",
    "item_ids": ["a", "b", "c"],
    "scores": [0.9, 0.5, -1.0],
    "degraded": [[], ["no_vector"], []],
}


def _event(item_id, event_type, second=1, **more):
    stamp = datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC).isoformat(timespec="microseconds")
    return {"user_id": "u1", "item_id": item_id, "event_type": event_type, "timestamp": stamp, **more}


def test_exposures_read_back_as_their_contract(tmp_path):
    with EventLog(tmp_path) as log:
        asyncio.run(log.write_and_sync("exposures", [SHOWN, SHOWN]))
    rows = read_exposures(tmp_path)
    assert rows.schema == EXPOSURES.schema
    assert rows["item_id"].to_list() == ["a", "b", "c"]
    assert rows["position"].to_list() == [0, 1, 2]
    assert rows["degraded"].to_list() == [[], ["no_vector"], []]
    assert rows["routed_version"].unique().to_list() == ["v1"], "the line is from before it was written"


def test_answers_tell_time_failure_and_what_was_missing(tmp_path):
    failed = {"item_ids": [], "scores": [], "degraded": [], "failure": "KeyError", "model_version": None}
    lines = [
        SHOWN | failed | {"request_id": "r2", "routed_version": "v1", "latency_ms": 3.0},
        SHOWN | {"request_id": "r2", "latency_ms": 12.5},
        SHOWN | {"request_id": "r2", "latency_ms": 99.0},
        SHOWN | {"request_id": "r3", "assignment": "forced"},
        SHOWN,
    ]
    with EventLog(tmp_path) as log:
        log.write_without_sync("exposures", lines)
    answers = read_answers(tmp_path).sort("request_id", "latency_ms")
    assert answers.schema == ANSWERS.schema
    told = answers.select("request_id", "latency_ms", "failure", "routed_version").rows()
    assert told == [
        ("r1", None, None, "v1"),  # the line is from before its time was told
        ("r2", 3.0, "KeyError", "v1"),
        ("r2", 12.5, None, "v1"),
    ]
    assert answers["degraded"].to_list() == [["no_vector"], [], ["no_vector"]]
    assert read_exposures(tmp_path)["request_id"].to_list() == ["r2"] * 3 + ["r3"] * 3 + ["r1"] * 3
    rows = collect_lines("exposures", next(tmp_path.glob("exposures-*")).read_bytes()).rows
    assert rows["request_id"].unique().sort().to_list() == ["r1", "r2", "r3"]
    assert rows["item_id"].null_count() == 0, "a failure shows nothing"


def test_lines_from_before_context_and_propensities_still_read(tmp_path):
    newer = SHOWN | {
        "request_id": "r2",
        "propensities": [1.0, 0.5, 1.0],
        "scene": "similar",
        "seed_item_id": "z",
    }
    with EventLog(tmp_path) as log:
        log.write_without_sync("exposures", [SHOWN, newer])
    rows = read_exposures(tmp_path)
    assert rows["propensity"].to_list() == [None] * 3 + [1.0, 0.5, 1.0]
    assert rows["scene"].to_list() == [None] * 3 + ["similar"] * 3
    assert rows["seed_item_id"].to_list()[-1] == "z"


def test_events_get_the_arm_that_showed_them_and_count_once(tmp_path):
    click = _event("b", "click", request_id="r1", position=1)
    with EventLog(tmp_path) as log:
        asyncio.run(log.write_and_sync("exposures", [SHOWN]))
        asyncio.run(log.write_and_sync("events", [click, click, _event("z", "click", second=2)]))
    rows = read_events(tmp_path)
    assert rows.schema == EVENTS.schema
    assert rows.select("item_id", "arm").rows() == [("b", "treatment"), ("z", None)]


def test_outcomes_say_what_happened_to_everything_shown(tmp_path):
    events = [
        _event("b", "click", request_id="r1"),
        _event("b", "order", second=5, request_id="r1", price=10.0, quantity=2),
        _event("a", "order", second=5, price=99.0),
    ]
    with EventLog(tmp_path) as log:
        asyncio.run(log.write_and_sync("exposures", [SHOWN]))
        asyncio.run(log.write_and_sync("events", events))
    rows = read_outcomes(tmp_path)
    assert rows.schema == OUTCOMES.schema
    assert rows.select("item_id", "click", "order", "revenue").rows() == [
        ("a", False, False, 0.0),
        ("b", True, True, 20.0),
        ("c", False, False, 0.0),
    ]


def test_what_came_back_is_no_outcome(tmp_path):
    sold = {"request_id": "r1", "price": 10.0}
    events = [
        _event("a", "order", second=5, quantity=3, **sold),
        _event("b", "order", second=5, **sold),
        _event("b", "click", second=4, request_id="r1"),
        _event("a", "return", second=9, quantity=1),
        _event("b", "return", second=9),
    ]
    with EventLog(tmp_path) as log:
        asyncio.run(log.write_and_sync("exposures", [SHOWN]))
        asyncio.run(log.write_and_sync("events", events))
    assert "return" not in read_events(tmp_path)["event_type"].to_list()
    assert read_outcomes(tmp_path).select("item_id", "click", "order", "revenue").rows() == [
        ("a", False, True, 20.0),
        ("b", True, False, 0.0),
        ("c", False, False, 0.0),
    ]


def _read_revenue(folder, posts, **more):
    """Outcome of the item a after posts of (seconds after the first, changes) of an order of it."""
    order = {"user_id": "u1", "item_id": "a", "event_type": "order", "quantity": 1, "request_id": "r1"}
    now = datetime(2026, 1, 1, tzinfo=UTC)
    records = [
        build_event_record(PostedEvent(**order | change), now + timedelta(seconds=second))
        for second, change in posts
    ]
    with EventLog(folder) as log:
        log.write_without_sync("exposures", [SHOWN])
        log.write_without_sync("events", records)
    return read_outcomes(folder, **more).select("order", "revenue", "orders_without_price").row(0)


@pytest.mark.parametrize(
    ("posts", "revenue"),
    [
        ([(0, {}), (2, {})], 20.0),
        ([(0, {}), (2, {"timestamp": "2026-01-01T00:00:09Z"})], 20.0),
        ([(0, {"event_id": "1"}), (86_400, {"event_id": "1"})], 20.0),
        ([(0, {"event_id": "1"}), (2, {"event_id": "2"})], 40.0),
        ([(0, {"event_id": "1"}), (0, {"event_id": "2"})], 40.0),
        ([(0, {}), (3600, {})], 40.0),
        ([(0, {"quantity": 3}), (9, {"quantity": -1, "price": -20})], 40.0),
        ([(0, {"quantity": 3}), (9, {"event_type": "cancel", "quantity": 1})] * 2, 40.0),
    ],
)
def test_an_order_counts_once_however_often_it_was_sent(tmp_path, posts, revenue):
    posts = [(second, {"price": 20.0} | change) for second, change in posts]
    assert _read_revenue(tmp_path, posts) == (True, revenue, 0)


@pytest.mark.parametrize(
    ("listed_price", "posts", "outcome"),
    [
        (7.0, [(0, {"quantity": 2})], (True, 14.0, 1)),
        (7.0, [(0, {"price": 0})], (True, 0.0, 0)),
        (7.0, [(0, {}), (2, {"price": 5.0})], (True, 5.0, 0)),
        (7.0, [(0, {"event_id": "1", "price": 5.0}), (9, {"event_id": "2"})], (True, 12.0, 1)),
        (None, [(0, {})], (True, None, 1)),
        (None, [(0, {}), (9, {"event_type": "return"})], (False, 0.0, 0)),
    ],
)
def test_an_order_without_a_price_takes_the_catalogues_and_unknown_is_not_zero(
    tmp_path, listed_price, posts, outcome
):
    items = pl.DataFrame({"item_id": ["a"], "price": [listed_price]}, schema_overrides={"price": pl.Float64})
    assert _read_revenue(tmp_path, posts, items=items) == outcome


def test_without_a_catalogue_the_revenue_of_such_an_order_is_not_known(tmp_path):
    assert _read_revenue(tmp_path, [(0, {})]) == (True, None, 1)


def test_lines_that_no_gateway_should_write_stop_no_report(tmp_path, caplog):
    sound = json.dumps(_event("a", "click", request_id="r1"))
    bad = [json.dumps(_event(" ", "click")), json.dumps(_event("a", "stare")), "no json", '{"user_id": "u"}']
    (tmp_path / "events-1.jsonl").write_text("\n".join([*bad, sound]) + "\n")
    (tmp_path / "exposures-1.jsonl").write_text(json.dumps(SHOWN) + "\n")
    assert read_events(tmp_path)["item_id"].to_list() == ["a"]
    assert "2 lines of the event log are no events" in caplog.text
    assert "event_type: not one of" in caplog.text


def test_an_empty_log_reads_as_empty_tables(tmp_path):
    assert read_exposures(tmp_path).schema == EXPOSURES.schema
    assert read_events(tmp_path).schema == EVENTS.schema
    assert read_outcomes(tmp_path).is_empty()


def test_half_a_line_at_the_end_is_skipped(tmp_path):
    with EventLog(tmp_path) as log:
        asyncio.run(log.write_and_sync("exposures", [SHOWN]))
    (file,) = tmp_path.glob("exposures-*.jsonl")
    with file.open("a") as stream:
        stream.write(json.dumps(SHOWN | {"request_id": "r2"})[:40])
    assert read_exposures(tmp_path)["request_id"].unique().to_list() == ["r1"]


_WRITER = """
import asyncio, pathlib, sys
from serving.event_log.event_log import EventLog
async def main():
    log = EventLog(pathlib.Path(sys.argv[1]))
    for number in range(10**6):
        event = {"user_id": "u", "item_id": str(number), "event_type": "click",
                 "timestamp": f"2026-01-01T00:00:00.{number:06d}+00:00"}
        await log.write_and_sync("events", [event])
        print(number, flush=True)
asyncio.run(main())
"""


def test_a_killed_writer_loses_nothing_that_was_acknowledged(tmp_path):
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    acknowledged = [int(writer.stdout.readline()) for _ in range(50)]
    os.kill(writer.pid, signal.SIGKILL)
    acknowledged += [int(line) for line in writer.stdout.read().split()]
    writer.wait()
    logged_ids = set(read_events(tmp_path)["item_id"].cast(int).to_list())
    assert set(acknowledged) <= logged_ids


def test_a_disk_that_does_not_sync_is_not_acknowledged(tmp_path, monkeypatch):
    def refuse(descriptor):
        raise OSError("input/output error")

    with EventLog(tmp_path) as log:
        monkeypatch.setattr(log_files.os, "fsync", refuse)
        with pytest.raises(OSError, match="input/output"):
            asyncio.run(log.write_and_sync("events", [_event("a", "click")]))
        monkeypatch.undo()
        asyncio.run(log.write_and_sync("events", [_event("b", "click")]))
    assert "b" in read_events(tmp_path)["item_id"].to_list()


def test_a_caller_that_gave_up_on_a_disk_that_fails_stops_nobody(tmp_path, monkeypatch):
    entered, go_on = threading.Event(), threading.Event()

    def refuse(descriptor):
        entered.set()
        go_on.wait(20)
        raise OSError("input/output error")

    with EventLog(tmp_path, sync_behind_s=60) as log:
        monkeypatch.setattr(log_files.os, "fsync", refuse)
        given_up = log.start_synced_write("events", [_event("a", "click")])
        assert entered.wait(20)
        given_up.cancel()
        go_on.set()
        with pytest.raises(OSError, match="input/output"):
            log.start_synced_write("events", [_event("b", "click")]).result(20)
        monkeypatch.undo()
        log.start_synced_write("events", [_event("c", "click")]).result(20)


def test_a_disk_that_fills_up_in_the_middle_of_a_line_leaves_whole_lines(tmp_path, monkeypatch):
    write = os.write
    with EventLog(tmp_path) as log:
        log.write_without_sync("exposures", [SHOWN])
        monkeypatch.setattr(
            log_files.os, "write", lambda descriptor, content: write(descriptor, content[:20])
        )
        with pytest.raises(OSError, match="took 20 of"):
            log.write_without_sync("exposures", [SHOWN | {"request_id": "r2"}])
        monkeypatch.undo()
        log.write_without_sync("exposures", [SHOWN | {"request_id": "r3"}])
    assert read_exposures(tmp_path)["request_id"].unique().sort().to_list() == ["r1", "r3"]


def test_a_large_file_is_followed_by_the_next(tmp_path):
    with EventLog(tmp_path, max_file_bytes=100) as log:
        done = [log.start_synced_write("events", [_event(f"item {number}", "click")]) for number in range(20)]
        for future in done:
            future.result(20)
        log.write_without_sync("exposures", [SHOWN])
    files = sorted(tmp_path.glob("events-*.jsonl"))
    assert len(files) > 5
    assert all(file.stat().st_size < 1000 for file in files)
    assert read_events(tmp_path)["item_id"].to_list() == [f"item {number}" for number in range(20)]


def test_an_acknowledged_event_is_on_the_disk_whatever_file_it_went_to(tmp_path, monkeypatch):
    synced: dict[int, int] = {}
    fsync = os.fsync

    def note(descriptor):
        fsync(descriptor)
        synced[os.fstat(descriptor).st_ino] = os.fstat(descriptor).st_size

    def is_synced(item_id):
        for path in tmp_path.glob("events-*.jsonl"):
            if (end := path.read_bytes().find(f'"{item_id}"'.encode())) >= 0:
                return synced.get(path.stat().st_ino, 0) > end
        return False

    monkeypatch.setattr(log_files.os, "fsync", note)
    with EventLog(tmp_path, max_file_bytes=1) as log, ThreadPoolExecutor(4) as pool:

        def send(item_id):
            log.start_synced_write("events", [_event(item_id, "click")]).result(20)
            return is_synced(item_id)

        assert all(pool.map(send, (f"item {number}" for number in range(100))))


def test_a_full_file_whose_sync_failed_is_tried_again(tmp_path, monkeypatch):
    failing = threading.Event()
    fsync, synced = os.fsync, set()

    def refuse(descriptor):
        if failing.is_set():
            failing.clear()
            raise OSError("input/output error")
        fsync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(log_files.os, "fsync", refuse)
    with EventLog(tmp_path, sync_behind_s=0.01, max_file_bytes=1) as log:
        failing.set()
        log.write_without_sync("exposures", [SHOWN])
        log.write_without_sync("exposures", [SHOWN | {"request_id": "r2"}])
        log.start_synced_write("events", [_event("a", "click")]).result(
            20
        )  # of another file: it does not fail
    assert {path.stat().st_ino for path in tmp_path.glob("exposures-*")} <= synced


def test_a_folder_that_takes_no_new_file_leaves_the_old_one_in_use(tmp_path, monkeypatch):
    before = len(list(Path("/proc/self/fd").iterdir()))

    def refuse(source, target):
        raise OSError("no space left on device")

    with EventLog(tmp_path, max_file_bytes=1) as log:
        monkeypatch.setattr(log_files.os, "replace", refuse)
        for number in range(5):
            log.start_synced_write("events", [_event(f"item {number}", "click")]).result(20)
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
    assert len(list(tmp_path.iterdir())) == 2
    assert len(read_events(tmp_path)) == 5


def test_what_nobody_waits_for_is_on_the_disk_soon(tmp_path, monkeypatch):
    synced = threading.Event()
    monkeypatch.setattr(log_files.os, "fsync", lambda descriptor: synced.set())
    with EventLog(tmp_path, sync_behind_s=0.01) as log:
        synced.clear()
        log.write_without_sync("exposures", [SHOWN])
        assert synced.wait(20)


def test_a_disk_that_lags_pushes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(event_log, "_MAX_WAITING", 1)
    go_on = threading.Event()
    with EventLog(tmp_path) as log:
        monkeypatch.setattr(log_files.os, "fsync", lambda descriptor: go_on.wait(20))
        with pytest.raises(EventLogFullError):
            deque((log.start_synced_write("events", [_event("a", "click")]) for _ in range(3)), maxlen=0)
        go_on.set()
