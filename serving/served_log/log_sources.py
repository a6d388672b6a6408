"""Where a collection reads the event log: its files, or the Redis streams behind them.

Both give JSON lines in chunks, and tell how far they were read. A reader that starts from there misses
nothing and meets nothing twice.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from redis import Redis
from redis.exceptions import RedisError

from contracts.errors import UserError
from serving.config import SINK_ENV, EventLogConfig
from serving.event_log.event_log import RecordKind
from serving.event_log.redis_sink import RECORD_FIELD, connect_to_sink, name_stream_key

RECORD_KINDS: Final[tuple[RecordKind, ...]] = ("exposures", "events")
_CHUNK_BYTES: Final = 1 << 24
_STREAM_BATCH: Final = 2_000
"""Entries of a stream that are asked for at once."""
Positions = dict[str, Any]
"""How far a source was read; JSON."""
_log = logging.getLogger(__name__)


class LogChunk(NamedTuple):
    """Some lines of the log, and how far it was read with them."""

    kind: RecordKind
    lines: bytes
    positions: Positions


class LogSource(Protocol):
    """An event log to collect from."""

    name: str
    """Under which its positions are kept."""

    def iter_chunks(self, positions: Positions) -> Iterator[LogChunk]:
        """Yields what follows the positions, exposures before events."""
        ...

    def count_lost_records(self, positions: Positions) -> int:
        """How many records went from the source before they were read."""
        ...


class LogFiles:
    """The files of an event log folder."""

    name = "files"

    def __init__(self, folder: Path) -> None:
        """Takes the folder; it need not be there yet."""
        self._folder = folder

    def iter_chunks(self, positions: Positions) -> Iterator[LogChunk]:
        """Yields whole lines; half a line at a file's end waits until it is whole."""
        # Files that are gone need no position any more.
        reached: Positions = {
            path.name: positions.get(path.name, 0) for path in sorted(self._folder.glob("*.jsonl"))
        }
        for kind in RECORD_KINDS:
            for file_name in [name for name in reached if name.startswith(f"{kind}-")]:
                with (self._folder / file_name).open("rb") as stream:
                    stream.seek(reached[file_name])
                    while lines := _read_whole_lines(stream):
                        reached[file_name] += len(lines)
                        yield LogChunk(kind, lines, dict(reached))

    def count_lost_records(self, positions: Positions) -> int:  # noqa: ARG002 - streams need them
        """None: files stay until somebody moves them away."""
        return 0


class LogStreams:
    """The Redis streams that the sink fills."""

    name = "redis"

    def __init__(self, config: EventLogConfig) -> None:
        """Connects with the first read.

        Raises:
            UserError: the sink's address is not set.
        """
        self._redis: Redis = connect_to_sink()
        self._keys = {kind: name_stream_key(config.stream, kind) for kind in RECORD_KINDS}

    def iter_chunks(self, positions: Positions) -> Iterator[LogChunk]:
        """Yields the entries after the stored ids.

        Raises:
            UserError: the sink cannot be reached.
        """
        reached = dict(positions)
        for kind, key in self._keys.items():
            # What is gone by now was read or has been counted as lost: it is not counted again.
            reached[f"num_{kind}"] = max(reached.get(f"num_{kind}", 0), self._count_removed(key))
            while entries := self._read_entries(key, after=reached.get(kind, "0-0")):
                reached[kind] = entries[-1][0].decode()
                reached[f"num_{kind}"] += len(entries)
                lines = b"".join(fields[RECORD_FIELD.encode()] + b"\n" for _, fields in entries)
                yield LogChunk(kind, lines, dict(reached))

    def count_lost_records(self, positions: Positions) -> int:
        """Counts entries that `stream_max_entries` took away unread."""
        return sum(
            max(self._count_removed(key) - positions.get(f"num_{kind}", 0), 0)
            for kind, key in self._keys.items()
        )

    def _count_removed(self, key: str) -> int:
        try:
            stream_info = self._redis.xinfo_stream(key) if self._redis.exists(key) else {}
        except RedisError as error:
            raise _explain_failure(error) from error
        return int(stream_info.get("entries-added", 0) - stream_info.get("length", 0))

    def _read_entries(self, key: str, *, after: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
        try:
            entries: list[tuple[bytes, dict[bytes, bytes]]] = self._redis.xrange(
                key, min=f"({after}", max="+", count=_STREAM_BATCH
            )
        except RedisError as error:
            raise _explain_failure(error) from error
        return entries


def open_log_source(config: EventLogConfig, folder: Path) -> LogSource:
    """Opens the event log where the gateway brings it: the sink's streams, or the files in `folder`.

    Raises:
        UserError: the sink's address is none.
    """
    if config.sink == "files":
        return LogFiles(folder)
    if SINK_ENV not in os.environ:
        # They are always written first, so nothing is missing where gateway and workspace share a volume.
        _log.warning("%s is not set: the event log is read from the files in %s", SINK_ENV, folder)
        return LogFiles(folder)
    return LogStreams(config)


def _read_whole_lines(stream: Any) -> bytes:
    content: bytes = stream.read(_CHUNK_BYTES)
    # One line may be longer than a chunk.
    while (last_line_end := content.rfind(b"\n") + 1) == 0 and (more := stream.read(_CHUNK_BYTES)):
        content += more
    stream.seek(last_line_end - len(content), 1)
    return content[:last_line_end]


def _explain_failure(error: RedisError) -> UserError:
    return UserError(f"the event log's Redis cannot be read: {error}; check {SINK_ENV}")
