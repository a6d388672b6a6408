import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contracts.tables import EVENTS, EXPOSURES, OUTCOMES
from serving import event_files, event_log
from serving.event_log import EventLog, EventLogFullError
from serving.event_tables import read_events, read_exposures, read_outcomes

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
        asyncio.run(log.append("exposures", [SHOWN, SHOWN]))
    rows = read_exposures(tmp_path)
    assert rows.schema == EXPOSURES.schema
    assert rows["item_id"].to_list() == ["a", "b", "c"]
    assert rows["position"].to_list() == [0, 1, 2]
    assert rows["degraded"].to_list() == [[], ["no_vector"], []]
    assert rows["routed_version"].unique().to_list() == ["v1"], "the line is from before it was written"


def test_events_get_the_arm_that_showed_them_and_count_once(tmp_path):
    click = _event("b", "click", request_id="r1", position=1)
    with EventLog(tmp_path) as log:
        asyncio.run(log.append("exposures", [SHOWN]))
        asyncio.run(log.append("events", [click, click, _event("z", "click", second=2)]))
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
        asyncio.run(log.append("exposures", [SHOWN]))
        asyncio.run(log.append("events", events))
    rows = read_outcomes(tmp_path)
    assert rows.schema == OUTCOMES.schema
    assert rows.select("item_id", "click", "order", "revenue").rows() == [
        ("a", False, False, 0.0),
        ("b", True, True, 20.0),
        ("c", False, False, 0.0),
    ]


def test_an_empty_log_reads_as_empty_tables(tmp_path):
    assert read_exposures(tmp_path).schema == EXPOSURES.schema
    assert read_events(tmp_path).schema == EVENTS.schema
    assert read_outcomes(tmp_path).is_empty()


def test_half_a_line_at_the_end_is_skipped(tmp_path):
    with EventLog(tmp_path) as log:
        asyncio.run(log.append("exposures", [SHOWN]))
    (file,) = tmp_path.glob("exposures-*.jsonl")
    with file.open("a") as stream:
        stream.write(json.dumps(SHOWN | {"request_id": "r2"})[:40])
    assert read_exposures(tmp_path)["request_id"].unique().to_list() == ["r1"]


_WRITER = """
import asyncio, pathlib, sys
from serving.event_log import EventLog
async def main():
    log = EventLog(pathlib.Path(sys.argv[1]))
    for number in range(10**6):
        event = {"user_id": "u", "item_id": str(number), "event_type": "click",
                 "timestamp": f"2026-01-01T00:00:00.{number:06d}+00:00"}
        await log.append("events", [event])
        print(number, flush=True)
asyncio.run(main())
"""


def test_a_killed_writer_loses_nothing_that_was_acknowledged(tmp_path):
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    acknowledged = [int(writer.stdout.readline()) for _ in range(50)]
    os.kill(writer.pid, signal.SIGKILL)
    acknowledged += [int(line) for line in writer.stdout.read().split()]
    writer.wait()
    found = set(read_events(tmp_path)["item_id"].cast(int).to_list())
    assert set(acknowledged) <= found


def test_a_disk_that_does_not_sync_is_not_acknowledged(tmp_path, monkeypatch):
    def refuse(descriptor):
        raise OSError("input/output error")

    with EventLog(tmp_path) as log:
        monkeypatch.setattr(event_files.os, "fsync", refuse)
        with pytest.raises(OSError, match="input/output"):
            asyncio.run(log.append("events", [_event("a", "click")]))
        monkeypatch.undo()
        asyncio.run(log.append("events", [_event("b", "click")]))
    assert "b" in read_events(tmp_path)["item_id"].to_list()


def test_a_caller_that_gave_up_on_a_disk_that_fails_stops_nobody(tmp_path, monkeypatch):
    entered, go_on = threading.Event(), threading.Event()

    def refuse(descriptor):
        entered.set()
        go_on.wait(20)
        raise OSError("input/output error")

    with EventLog(tmp_path, sync_behind_s=60) as log:
        monkeypatch.setattr(event_files.os, "fsync", refuse)
        given_up = log.submit("events", [_event("a", "click")])
        assert entered.wait(20)
        given_up.cancel()
        go_on.set()
        with pytest.raises(OSError, match="input/output"):
            log.submit("events", [_event("b", "click")]).result(20)
        monkeypatch.undo()
        log.submit("events", [_event("c", "click")]).result(20)


def test_a_disk_that_fills_up_in_the_middle_of_a_line_leaves_whole_lines(tmp_path, monkeypatch):
    write = os.write
    with EventLog(tmp_path) as log:
        log.put("exposures", [SHOWN])
        monkeypatch.setattr(event_files.os, "write", lambda descriptor, content: write(descriptor, content[:20]))
        with pytest.raises(OSError, match="took 20 of"):
            log.put("exposures", [SHOWN | {"request_id": "r2"}])
        monkeypatch.undo()
        log.put("exposures", [SHOWN | {"request_id": "r3"}])
    assert read_exposures(tmp_path)["request_id"].unique().sort().to_list() == ["r1", "r3"]


def test_a_large_file_is_followed_by_the_next(tmp_path):
    with EventLog(tmp_path, max_file_bytes=100) as log:
        done = [log.submit("events", [_event(f"item {number}", "click")]) for number in range(20)]
        for future in done:
            future.result(20)
        log.put("exposures", [SHOWN])
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

    monkeypatch.setattr(event_files.os, "fsync", note)
    with EventLog(tmp_path, max_file_bytes=1) as log, ThreadPoolExecutor(4) as pool:

        def send(item_id):
            log.submit("events", [_event(item_id, "click")]).result(20)
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

    monkeypatch.setattr(event_files.os, "fsync", refuse)
    with EventLog(tmp_path, sync_behind_s=0.01, max_file_bytes=1) as log:
        failing.set()
        log.put("exposures", [SHOWN])
        log.put("exposures", [SHOWN | {"request_id": "r2"}])
        log.submit("events", [_event("a", "click")]).result(20)  # of another file: it does not fail
    assert {path.stat().st_ino for path in tmp_path.glob("exposures-*")} <= synced


def test_a_folder_that_takes_no_new_file_leaves_the_old_one_in_use(tmp_path, monkeypatch):
    before = len(list(Path("/proc/self/fd").iterdir()))

    def refuse(source, target):
        raise OSError("no space left on device")

    with EventLog(tmp_path, max_file_bytes=1) as log:
        monkeypatch.setattr(event_files.os, "replace", refuse)
        for number in range(5):
            log.submit("events", [_event(f"item {number}", "click")]).result(20)
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
    assert len(list(tmp_path.iterdir())) == 2
    assert len(read_events(tmp_path)) == 5


def test_what_nobody_waits_for_is_on_the_disk_soon(tmp_path, monkeypatch):
    synced = threading.Event()
    monkeypatch.setattr(event_files.os, "fsync", lambda descriptor: synced.set())
    with EventLog(tmp_path, sync_behind_s=0.01) as log:
        synced.clear()
        log.put("exposures", [SHOWN])
        assert synced.wait(20)


def test_a_disk_that_lags_pushes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(event_log, "_MAX_WAITING", 1)
    go_on = threading.Event()
    with EventLog(tmp_path) as log:
        monkeypatch.setattr(event_files.os, "fsync", lambda descriptor: go_on.wait(20))
        with pytest.raises(EventLogFullError):
            deque((log.submit("events", [_event("a", "click")]) for _ in range(3)), maxlen=0)
        go_on.set()
