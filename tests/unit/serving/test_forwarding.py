"""The log's records reach a sink in order, once, whatever fails in between; the sink here is a dictionary."""

import fcntl
import json
import threading
from pathlib import Path

import pytest

from serving.event_log.event_log import EventLog, EventLogFullError
from serving.event_log.redis_sink import SinkError
from serving.event_log.sink_forwarder import SinkForwarder

PATIENCE_S = 20


class DictionarySink:
    """Keeps lines; can be away, or lose its answer after it took the lines."""

    def __init__(self):
        self.lines, self.positions = [], {}
        self.is_away = self.loses_answers = False
        self.changed = threading.Condition()

    def read_position(self, source):
        self._require_there()
        return self.positions.get(source, 0)

    def store_lines(self, kind, lines, *, source, start, end):
        self._require_there()
        if self.positions.get(source, 0) != start:
            return False
        with self.changed:
            self.lines += [(kind, json.loads(line)["n"]) for line in lines]
            self.positions[source] = end
            self.changed.notify_all()
        if self.loses_answers:
            self.loses_answers = False
            raise SinkError("timed out")
        return True

    def close(self):
        pass

    def wait_for(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.lines) >= count, PATIENCE_S), self.lines

    def _require_there(self):
        if self.is_away:
            raise SinkError("away")


@pytest.fixture
def sink():
    return DictionarySink()


def _open(
    folder: Path,
    sink: DictionarySink,
    *,
    max_backlog_bytes: int = 1 << 20,
    max_file_bytes: int = 1 << 20,
    **more,
) -> EventLog:
    forwarder = SinkForwarder(sink, max_backlog_bytes=max_backlog_bytes, **more)
    return EventLog(folder, max_file_bytes=max_file_bytes, forwarder=forwarder)


def _put(log: EventLog, *numbers: int) -> None:
    log.write_without_sync("events", [{"n": number} for number in numbers])


def test_records_come_in_order_and_name_their_kind(sink, tmp_path):
    with _open(tmp_path, sink) as log:
        _put(log, 0, 1)
        _put(log, 2)
        log.write_without_sync("exposures", [{"n": 3}])
        sink.wait_for(4)
    assert sorted(sink.lines) == [("events", 0), ("events", 1), ("events", 2), ("exposures", 3)]


def test_a_clean_end_leaves_nothing_behind(sink, tmp_path):
    with _open(tmp_path, sink) as log:
        _put(log, *range(100))
    assert [number for _, number in sink.lines] == list(range(100))


def test_what_waits_for_a_sink_that_is_away_comes_when_it_is_back(sink, tmp_path):
    sink.is_away = True
    waiting: list[int] = []
    with _open(tmp_path, sink, on_backlog=waiting.append) as log:
        _put(log, 0, 1)
        log.start_synced_write("events", [{"n": 2}]).result(
            PATIENCE_S
        )  # acknowledged all the same: it is on the disk
        _until(lambda: log.is_sink_failing and waiting[-1] > 0)
        sink.is_away = False
        sink.wait_for(3)
        _until(lambda: not log.is_sink_failing and waiting[-1] == 0)
    assert [number for _, number in sink.lines] == [0, 1, 2]


def test_a_sink_that_fails_in_an_unknown_way_is_tried_again(sink, tmp_path, monkeypatch):
    monkeypatch.setattr(sink, "read_position", lambda source: 1 / 0)
    with _open(tmp_path, sink) as log:
        _put(log, 0)
        _until(lambda: log.is_sink_failing)
        monkeypatch.undo()
        sink.wait_for(1)
    assert sink.lines == [("events", 0)]


def test_an_answer_that_got_lost_does_not_send_twice(sink, tmp_path):
    sink.loses_answers = True
    with _open(tmp_path, sink) as log:
        _put(log, 0)
        sink.wait_for(1)
        _put(log, 1)
        sink.wait_for(2)
    assert sink.lines == [("events", 0), ("events", 1)]


def test_files_of_a_process_that_is_gone_are_taken_over(sink, tmp_path):
    (tmp_path / "events-1-1.jsonl").write_text('{"n":0}\n{"n":1}\n{"n":')
    sink.positions["events-1-1.jsonl"] = len('{"n":0}\n')
    with _open(tmp_path, sink):
        sink.wait_for(1)
    assert sink.lines == [("events", 1)]


def test_records_of_many_files_come_in_order_and_the_full_ones_are_given_up(sink, tmp_path):
    with _open(tmp_path, sink, max_file_bytes=20) as log:
        for number in range(50):
            _put(log, number)
            if number == 20:
                sink.wait_for(15)
                sink.is_away = True
        sink.is_away = False
        sink.wait_for(50)
        _put(log, 50)
        sink.wait_for(51)
        files = sorted(tmp_path.glob("events-*"))
        assert len(files) > 10
        _until(lambda: all(_is_free(file) for file in files[:-1]))
    assert [number for _, number in sink.lines] == list(range(51))


def test_a_sink_that_lost_files_long_full_gets_them_again_in_order(sink, tmp_path):
    with _open(tmp_path, sink, max_file_bytes=30) as log:
        for number in range(10):
            _put(log, number)
        sink.wait_for(10)
        _until(lambda: all(_is_free(file) for file in sorted(tmp_path.glob("events-*"))[:-1]))
        sink.lines, sink.positions = [], {}
        _put(log, 10)
        sink.wait_for(11)
    assert [number for _, number in sink.lines] == list(range(11))


def test_an_emptied_sink_is_filled_again_though_nothing_new_comes(sink, tmp_path):
    (tmp_path / "events-1-1.jsonl").write_text('{"n":0}\n{"n":1}\n')
    with _open(tmp_path, sink):
        sink.wait_for(2)
        sink.lines, sink.positions = [], {}
        sink.wait_for(2)
    assert [number for _, number in sink.lines] == [0, 1]


def test_a_sink_that_is_emptied_while_it_gets_an_old_file_gets_all_of_it(sink, tmp_path, monkeypatch):
    (tmp_path / "events-1-1.jsonl").write_text('{"n":0}\n{"n":1}\n')
    sink.positions = {"events-1-1.jsonl": len('{"n":0}\n')}
    store_lines = sink.store_lines

    def emptied(*args, **more):
        sink.positions = {}
        monkeypatch.setattr(sink, "store_lines", store_lines)
        return store_lines(*args, **more)

    monkeypatch.setattr(sink, "store_lines", emptied)
    with _open(tmp_path, sink):
        sink.wait_for(2)
    assert [number for _, number in sink.lines] == [0, 1]


def test_a_file_that_is_shorter_than_what_the_sink_has_of_it_stops_nothing(sink, tmp_path):
    (tmp_path / "events-1-1.jsonl").write_text(
        '{"n":0}\n'
    )  # the rest was not on the disk when the power went
    (tmp_path / "events-2-1.jsonl").write_text('{"n":7}\n')
    sink.positions["events-1-1.jsonl"] = 100
    with _open(tmp_path, sink):
        sink.wait_for(1)
    assert sink.lines == [("events", 7)]


def test_a_sink_that_hangs_keeps_its_files_open(sink, tmp_path, monkeypatch):
    monkeypatch.setattr("serving.event_log.sink_forwarder._CLOSE_TIMEOUT_S", 0.01)
    entered, go_on = threading.Event(), threading.Event()
    store_lines = sink.store_lines

    def hang(*args, **more):
        entered.set()
        assert go_on.wait(PATIENCE_S)
        return store_lines(*args, **more)

    monkeypatch.setattr(sink, "store_lines", hang)
    log = _open(tmp_path, sink)
    _put(log, 0)
    assert entered.wait(PATIENCE_S)
    log.close()
    assert not _is_free(next(tmp_path.glob("events-*")))
    go_on.set()
    sink.wait_for(1)


def _is_free(path):
    with path.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_files_of_a_process_that_lives_are_not(sink, tmp_path):
    with (tmp_path / "events-1-1.jsonl").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write('{"n":0}\n')
        other.flush()
        with _open(tmp_path, sink) as log:
            _put(log, 1)
    assert sink.lines == [("events", 1)]


def test_a_sink_that_lost_everything_is_filled_again(sink, tmp_path):
    with _open(tmp_path, sink) as log:
        _put(log, 0)
        sink.wait_for(1)
        sink.lines, sink.positions = [], {}
        _put(log, 1)
        sink.wait_for(2)
    assert [number for _, number in sink.lines] == [0, 1]


def test_too_much_that_waits_pushes_back(sink, tmp_path):
    sink.is_away = True
    with _open(tmp_path, sink, max_backlog_bytes=10) as log:
        _put(log, 0, 1)
        with pytest.raises(EventLogFullError, match="max_backlog_bytes"):
            _put(log, 2)
        sink.is_away = False
        sink.wait_for(2)


def test_a_line_longer_than_a_chunk_goes_through(sink, tmp_path, monkeypatch):
    monkeypatch.setattr("serving.event_log.sink_forwarder._CHUNK_BYTES", 4)
    with _open(tmp_path, sink) as log:
        _put(log, *range(20))
    assert [number for _, number in sink.lines] == list(range(20))


def _until(holds) -> None:
    waited = threading.Event()
    for _ in range(100 * PATIENCE_S):
        if holds():
            return
        waited.wait(0.01)
    raise AssertionError("it did not happen")
