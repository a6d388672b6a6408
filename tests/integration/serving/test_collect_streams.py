"""Collection from real Redis streams gives what collection from the files gives."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis_server import LocalRedis

from contracts.errors import UserError
from contracts.served_log import read_manifest
from serving.config import SINK_ENV, EventLogConfig, ServedLogConfig
from serving.event_log.event_log import EventLog
from serving.event_log.redis_sink import open_sink
from serving.event_log.sink_forwarder import SinkForwarder
from serving.served_log.collect_log import collect_log
from serving.served_log.log_sources import open_log_source

pytestmark = pytest.mark.integration

CONFIG = EventLogConfig(sink="redis")
COLLECTED_AT = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalRedis]:
    server = LocalRedis(tmp_path)
    server.start()
    monkeypatch.setenv(SINK_ENV, server.url)
    yield server
    server.stop()


def _answer(number: int) -> dict[str, Any]:
    return {
        "request_id": f"r{number}",
        "user_id": f"u{number % 7}",
        "timestamp": f"2026-01-{number % 3 + 1:02d}T00:00:{number % 60:02d}.{number:06d}+00:00",
        "arm": "control",
        "model_version": "v1",
        "item_ids": ["a", "b"],
        "scores": [1.0, 0.5],
        "propensities": [1.0, 1.0],
        "degraded": [[], []],
    }


def _click(number: int) -> dict[str, Any]:
    shown = _answer(number)
    named = {name: shown[name] for name in ("request_id", "user_id", "timestamp")}
    return named | {"item_id": "a", "event_type": "click"}


def _write(folder: Path, numbers: range, config: EventLogConfig = CONFIG) -> None:
    sink = open_sink(config)
    assert sink is not None
    forwarder = SinkForwarder(sink, max_backlog_bytes=config.max_backlog_bytes)
    with EventLog(folder, forwarder=forwarder) as log:  # closing sends what waits
        log.write_without_sync("exposures", [_answer(number) for number in numbers])
        log.start_synced_write("events", [_click(number) for number in numbers]).result(20)


def _collect(config: EventLogConfig, log: Path, served_log: Path) -> dict[str, float]:
    source = open_log_source(config, log)
    return collect_log(source, ServedLogConfig(), served_log=served_log, collected_at=COLLECTED_AT)


def test_streams_and_files_give_the_same_served_log(server: LocalRedis, tmp_path: Path) -> None:
    log = tmp_path / "log"
    _write(log, range(3000))  # more than one reading of the stream
    first = _collect(CONFIG, log, tmp_path / "of_streams")
    assert (first["new_rows"], first["lost_records"]) == (9000, 0)
    _write(log, range(3000, 3010))
    second = _collect(CONFIG, log, tmp_path / "of_streams")
    assert (second["new_rows"], second["duplicate_rows"]) == (30, 0), "it went on where it was"
    _collect(EventLogConfig(), log, tmp_path / "of_files")
    of_streams, of_files = (read_manifest(tmp_path / name) for name in ("of_streams", "of_files"))
    assert of_streams is not None
    assert of_files is not None
    assert of_streams.digest == of_files.digest


def test_records_that_the_stream_gave_up_unread_are_counted(server: LocalRedis, tmp_path: Path) -> None:
    bounded = CONFIG.model_copy(update={"stream_max_entries": 100})
    log = tmp_path / "log"
    _write(log, range(10), bounded)
    assert _collect(bounded, log, tmp_path / "served")["lost_records"] == 0
    _write(log, range(10, 2000), bounded)
    counts = _collect(bounded, log, tmp_path / "served")
    assert counts["lost_records"] > 1000
    _write(log, range(2000, 2010), bounded)
    assert _collect(bounded, log, tmp_path / "served")["lost_records"] == 0, "they were counted once"


def test_a_sink_that_is_away_is_an_error_that_says_where(server: LocalRedis, tmp_path: Path) -> None:
    server.stop()
    with pytest.raises(UserError, match=SINK_ENV):
        _collect(CONFIG, tmp_path, tmp_path / "served")
