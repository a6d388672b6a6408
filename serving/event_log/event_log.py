"""The durable log of what was shown and done: append-only JSON lines.

Files belong to one kind and process, so that several workers never write into one; a large one is followed by
the next. A line is written before the answer goes out, so whoever kills the process loses nothing. Events are
on the disk, too, before they are acknowledged: a thread syncs for all who wait at once. Exposures are synced
shortly after the answer: only a machine that loses power loses that much. A crash can leave half a line at a
file's end; readers skip it.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic_core import to_json

from serving.event_log.log_files import LogFile, create_locked_file
from serving.event_log.sink_forwarder import SinkForwarder

RecordKind = Literal["exposures", "events"]
_WaitingWrite = tuple[RecordKind, "Future[None]"]

_RECORD_KINDS: Final[tuple[RecordKind, ...]] = ("exposures", "events")
_MAX_WAITING: Final = 10_000
# An exposure is on the disk so much after its answer; a loss of power costs at most that.
_SYNC_BEHIND_S: Final = 0.05
# A file of this size is followed by a new one, so that old ones can be moved away while the gateway runs.
_MAX_FILE_BYTES: Final = 1 << 28
_log = logging.getLogger(__name__)


class EventLogFullError(Exception):
    """The disk or the sink does not keep up; the caller must not acknowledge."""


class EventLog:
    """Writes records; safe to use from many threads and from an event loop."""

    def __init__(
        self,
        folder: Path,
        *,
        sync_behind_s: float = _SYNC_BEHIND_S,
        max_file_bytes: int = _MAX_FILE_BYTES,
        forwarder: SinkForwarder | None = None,
    ) -> None:
        """Opens new files in `folder` and starts the thread that syncs.

        Args:
            folder: where the files lie.
            sync_behind_s: longest time until records that nobody waits for are on the disk.
            max_file_bytes: a file of this size is closed, and a new one begun.
            forwarder: brings the records to a sink elsewhere; it is started and closed with the log.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._files: dict[RecordKind, LogFile] = {kind: self._create_file(kind) for kind in _RECORD_KINDS}
        self._full_files: list[tuple[RecordKind, LogFile]] = []
        self._size_limits: dict[RecordKind, int] = dict.fromkeys(_RECORD_KINDS, max_file_bytes)
        self._max_file_bytes = max_file_bytes
        self._sync_behind_s = sync_behind_s
        self._forwarder = forwarder
        self._changed = threading.Condition()
        self._waiting: list[_WaitingWrite] = []
        self._closed = False
        self._syncer = threading.Thread(target=self._sync_until_closed, name="event-log", daemon=True)
        self._syncer.start()
        if forwarder is not None:
            forwarder.start_following(folder, own_files=list(self._files.values()))

    @property
    def is_sink_failing(self) -> bool:
        """Do records wait here because the sink cannot be reached?"""
        return self._forwarder is not None and self._forwarder.is_failing

    async def write_and_sync(self, kind: RecordKind, records: Iterable[dict[str, Any]]) -> None:
        """Returns when the records are on the disk.

        Raises:
            EventLogFullError: too much waits already.
            OSError: the disk refused.
        """
        await asyncio.wrap_future(self.start_synced_write(kind, records))

    def start_synced_write(self, kind: RecordKind, records: Iterable[dict[str, Any]]) -> "Future[None]":
        """Writes records; the future is done when they are on the disk.

        Raises:
            EventLogFullError: too much waits already.
            OSError: the disk refused.
        """
        synced: Future[None] = Future()
        with self._changed:
            if len(self._waiting) >= _MAX_WAITING:
                raise EventLogFullError(f"{_MAX_WAITING} writes wait for the disk")
            self._write_lines(kind, records)
            self._waiting.append((kind, synced))
            self._changed.notify()
        return synced

    def write_without_sync(self, kind: RecordKind, records: Iterable[dict[str, Any]]) -> None:
        """Writes records; they outlive this process from now on, and a loss of power a moment later.

        Raises:
            EventLogFullError: too much waits already.
            OSError: the disk refused.
        """
        with self._changed:
            self._write_lines(kind, records)

    def close(self) -> None:
        """Syncs what was written, gives the sink a moment, then closes."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._syncer.join()
        if self._forwarder is not None and not self._forwarder.close():
            return  # it still reads the files; they are closed with the process
        for file in self._files.values():
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write_lines(self, kind: RecordKind, records: Iterable[dict[str, Any]]) -> None:
        if self._forwarder is not None and self._forwarder.is_backlog_full:
            raise EventLogFullError("too much waits for the sink (serving.event_log.max_backlog_bytes)")
        if self._files[kind].size >= self._size_limits[kind]:
            self._begin_new_file(kind)
        self._files[kind].append_bytes(b"".join(to_json(log_record) + b"\n" for log_record in records))
        if self._forwarder is not None:
            self._forwarder.wake()

    def _begin_new_file(self, kind: RecordKind) -> None:
        try:
            new_file = self._create_file(kind)
        except OSError as error:
            self._size_limits[kind] = self._files[kind].size + self._max_file_bytes
            _log.error("the event log goes on with its old file: %s", error)
            return
        self._full_files.append((kind, self._files[kind]))
        self._files[kind], self._size_limits[kind] = new_file, self._max_file_bytes
        if self._forwarder is not None:
            self._forwarder.follow_file(new_file)

    def _create_file(self, kind: RecordKind) -> LogFile:
        return create_locked_file(self._folder, f"{kind}-{time.time_ns()}-{os.getpid()}.jsonl")

    def _sync_until_closed(self) -> None:
        all_due_at, is_closed = 0.0, False
        while not is_closed:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed, timeout=self._sync_behind_s)
                waiting, self._waiting, is_closed = self._waiting, [], self._closed
                full_files, self._full_files = self._full_files, []
                now = time.monotonic()
                # Who waits is not made to wait for files that nobody waits for.
                are_all_due = is_closed or now >= all_due_at
                due_kinds = set(_RECORD_KINDS) if are_all_due else {kind for kind, _ in waiting}
                # Taken under the lock: what waits lies in these files or in the full ones.
                due_files = [*full_files, *((kind, self._files[kind]) for kind in due_kinds)]
            all_due_at = now + self._sync_behind_s if due_kinds == set(_RECORD_KINDS) else all_due_at
            failures = {}
            for kind, due_file in due_files:
                try:
                    due_file.sync_to_disk()
                except OSError as error:
                    _log.error("the event log could not be synced: %s", error)
                    failures[kind] = error
            self._release_full_files(full_files, failures)
            _resolve_futures(waiting, failures)

    def _release_full_files(
        self, full_files: "list[tuple[RecordKind, LogFile]]", failures: Mapping[RecordKind, OSError]
    ) -> None:
        """Gives up files that nobody writes any more, once they are on the disk."""
        for kind, file in full_files:
            if kind in failures:
                with self._changed:
                    self._full_files.append((kind, file))
            elif self._forwarder is not None:
                self._forwarder.release_file(file)
            else:
                file.close()


def _resolve_futures(waiting: "list[_WaitingWrite]", failures: Mapping[RecordKind, OSError]) -> None:
    for kind, synced in waiting:
        # A caller that gave up has canceled its future; what it sent is written all the same.
        if synced.set_running_or_notify_cancel():
            failure = failures.get(kind)
            synced.set_exception(failure) if failure else synced.set_result(None)
