"""The event log with a real Redis stream behind it: nothing acknowledged is lost, nothing comes twice."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis
from redis_server import LocalRedis

from contracts.errors import UserError
from serving.config import SINK_ENV, EventLogConfig
from serving.event_log.event_log import EventLog
from serving.event_log.redis_sink import RECORD_FIELD, RedisSink, SinkError, open_sink
from serving.event_log.sink_forwarder import SinkForwarder

pytestmark = pytest.mark.integration

EVENTS, EXPOSURES = "{reaseq}:events", "{reaseq}:exposures"
CONFIG = EventLogConfig(sink="redis")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalRedis]:
    server = LocalRedis(tmp_path)
    server.start()
    monkeypatch.setenv(SINK_ENV, server.url)
    yield server
    server.stop()


def _open(folder: Path, config: EventLogConfig = CONFIG) -> EventLog:
    sink = open_sink(config)
    assert sink is not None
    return EventLog(folder, forwarder=SinkForwarder(sink, max_backlog_bytes=config.max_backlog_bytes))


def _read(server: LocalRedis, stream: str) -> list[int]:
    with closing(Redis(port=server.port)) as redis:
        return [json.loads(fields[RECORD_FIELD.encode()])["n"] for _, fields in redis.xrange(stream)]


def _wait_for(server: LocalRedis, stream: str, numbers: set[int]) -> list[int]:
    deadline = time.monotonic() + 60
    while not numbers <= set(arrived := _read(server, stream)):
        assert time.monotonic() < deadline, sorted(numbers - set(arrived))
        time.sleep(0.05)
    return arrived


def test_both_kinds_have_their_stream(server: LocalRedis, tmp_path: Path) -> None:
    with _open(tmp_path / "log") as log:
        log.write_without_sync("exposures", [{"n": 1}])
        log.write_without_sync("events", [{"n": 2}, {"n": 3}])
    assert _read(server, EXPOSURES) == [1]
    assert _read(server, EVENTS) == [2, 3]


def test_a_stream_can_be_bounded(server: LocalRedis, tmp_path: Path) -> None:
    with _open(tmp_path / "log", CONFIG.model_copy(update={"stream_max_entries": 100})) as log:
        log.write_without_sync("events", [{"n": number} for number in range(1000)])
    assert len(_read(server, EVENTS)) < 1000


_WRITER = """
import pathlib, sys
from serving.event_log.event_log import EventLog
from serving.event_log.redis_sink import open_sink
from serving.config import EventLogConfig
from serving.event_log.sink_forwarder import SinkForwarder
config = EventLogConfig(sink="redis")
forwarder = SinkForwarder(open_sink(config), max_backlog_bytes=1 << 30)
log = EventLog(pathlib.Path(sys.argv[1]), forwarder=forwarder)
for number in range(10**6):
    log.start_synced_write("events", [{"n": number}]).result()
    print(number, flush=True)
"""


def test_a_killed_writer_loses_nothing_and_repeats_nothing(server: LocalRedis, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _WRITER, str(tmp_path / "log")]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    acknowledged = [int(writer.stdout.readline()) for _ in range(50)]
    os.kill(writer.pid, signal.SIGKILL)
    acknowledged += [int(line) for line in writer.stdout.read().split()]
    writer.wait()
    with _open(tmp_path / "log"):
        arrived = _wait_for(server, EVENTS, set(acknowledged))
    assert arrived == sorted(set(arrived))


def test_a_sink_that_was_away_gets_everything(server: LocalRedis, tmp_path: Path) -> None:
    with _open(tmp_path / "log") as log:
        log.write_without_sync("events", [{"n": 0}])
        _wait_for(server, EVENTS, {0})
        server.stop()
        log.start_synced_write("events", [{"n": 1}]).result(20)
        deadline = time.monotonic() + 20
        while not log.is_sink_failing:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        server.start()  # empty: it had nothing on disk
        assert _wait_for(server, EVENTS, {0, 1}) == [0, 1]


def test_what_redis_refuses_is_not_taken_as_sent(server: LocalRedis) -> None:
    with closing(Redis(port=server.port)) as redis:
        redis.set(EVENTS, "something else")
    with closing(RedisSink(server.url, name="reaseq")) as sink:
        with pytest.raises(SinkError, match="WRONGTYPE"):
            sink.store_lines("events", [b"{}"], source="file", start=0, end=2)
        assert sink.read_position("file") == 0


def test_the_address_must_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SINK_ENV, raising=False)
    with pytest.raises(UserError, match=SINK_ENV):
        open_sink(CONFIG)
    assert open_sink(EventLogConfig()) is None
