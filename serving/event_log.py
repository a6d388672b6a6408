"""The durable log of what was shown and done: append-only JSON lines.

Files belong to one kind and process, so that several workers never write into one; a large one is followed by the
next. A line is written before the answer goes out, so whoever kills the process loses nothing. Events are on the
disk, too, before they are acknowledged: a thread syncs for all who wait at once. Exposures are synced shortly after
the answer (`event_log.exposure_sync_ms`): only a machine that loses power loses that much. A crash can leave half a
line at a file's end; readers skip it.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from pydantic_core import to_json

from serving.event_files import LogFile, claim_new
from serving.forwarding import Forwarder

Kind = Literal["exposures", "events"]

_KINDS: Final[tuple[Kind, ...]] = ("exposures", "events")
_MAX_WAITING: Final = 10_000
_log = logging.getLogger(__name__)


class EventLogFullError(Exception):
    """The disk or the sink does not keep up; the caller must not acknowledge."""


class EventLog:
    """Writes records; safe to use from many threads and from an event loop."""

    def __init__(
        self,
        folder: Path,
        *,
        sync_behind_s: float = 0.05,
        max_file_bytes: int = 1 << 28,
        forwarder: Forwarder | None = None,
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
        self._files: dict[Kind, LogFile] = {kind: self._new_file(kind) for kind in _KINDS}
        self._full: list[tuple[Kind, LogFile]] = []
        self._limits: dict[Kind, int] = dict.fromkeys(_KINDS, max_file_bytes)
        self._max_file_bytes = max_file_bytes
        self._sync_behind_s = sync_behind_s
        self._forwarder = forwarder
        self._changed = threading.Condition()
        self._waiting: list[tuple[Kind, Future[None]]] = []
        self._closed = False
        self._syncer = threading.Thread(target=self._sync_all, name="event-log", daemon=True)
        self._syncer.start()
        if forwarder is not None:
            forwarder.start(folder, own=list(self._files.values()))

    @property
    def is_sink_failing(self) -> bool:
        """Do records wait here because the sink cannot be reached?"""
        return self._forwarder is not None and self._forwarder.is_failing

    async def append(self, kind: Kind, records: Iterable[dict[str, Any]]) -> None:
        """Returns when the records are on the disk.

        Raises:
            EventLogFullError: too much waits already.
            OSError: the disk refused.
        """
        await asyncio.wrap_future(self.submit(kind, records))

    def submit(self, kind: Kind, records: Iterable[dict[str, Any]]) -> "Future[None]":
        """Writes records; the future is done when they are on the disk.

        Raises:
            EventLogFullError: too much waits already.
            OSError: the disk refused.
        """
        done: Future[None] = Future()
        with self._changed:
            if len(self._waiting) >= _MAX_WAITING:
                raise EventLogFullError(f"{_MAX_WAITING} writes wait for the disk")
            self._write(kind, records)
            self._waiting.append((kind, done))
            self._changed.notify()
        return done

    def put(self, kind: Kind, records: Iterable[dict[str, Any]]) -> None:
        """Writes records; they outlive this process from now on, and a loss of power a moment later.

        Raises:
            EventLogFullError: too much waits already.
            OSError: the disk refused.
        """
        with self._changed:
            self._write(kind, records)

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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, kind: Kind, records: Iterable[dict[str, Any]]) -> None:
        if self._forwarder is not None and self._forwarder.is_full:
            raise EventLogFullError("too much waits for the sink (serving.event_log.max_backlog_bytes)")
        if self._files[kind].size >= self._limits[kind]:
            self._begin_new_file(kind)
        self._files[kind].append(b"".join(to_json(record) + b"\n" for record in records))
        if self._forwarder is not None:
            self._forwarder.wake()

    def _begin_new_file(self, kind: Kind) -> None:
        try:
            fresh = self._new_file(kind)
        except OSError as error:
            self._limits[kind] = self._files[kind].size + self._max_file_bytes
            _log.error("the event log goes on with its old file: %s", error)
            return
        self._full.append((kind, self._files[kind]))
        self._files[kind], self._limits[kind] = fresh, self._max_file_bytes
        if self._forwarder is not None:
            self._forwarder.follow(fresh)

    def _new_file(self, kind: Kind) -> LogFile:
        return claim_new(self._folder, f"{kind}-{time.time_ns()}-{os.getpid()}.jsonl")

    def _sync_all(self) -> None:
        all_due_at, closed = 0.0, False
        while not closed:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed, timeout=self._sync_behind_s)
                waiting, self._waiting, closed = self._waiting, [], self._closed
                full, self._full = self._full, []
                now = time.monotonic()
                # Who waits is not made to wait for files that nobody waits for.
                due = set(_KINDS) if closed or now >= all_due_at else {kind for kind, _ in waiting}
                # Taken under the lock: what waits lies in these files or in the full ones.
                files = [*full, *((kind, self._files[kind]) for kind in due)]
            all_due_at = now + self._sync_behind_s if due == set(_KINDS) else all_due_at
            failures = {}
            for kind, file in files:
                try:
                    file.sync()
                except OSError as error:
                    _log.error("the event log could not be synced: %s", error)
                    failures[kind] = error
            self._release(full, failures)
            _tell(waiting, failures)

    def _release(self, full: "list[tuple[Kind, LogFile]]", failures: Mapping[Kind, OSError]) -> None:
        """Gives up files that nobody writes any more, once they are on the disk."""
        for kind, file in full:
            if kind in failures:
                with self._changed:
                    self._full.append((kind, file))
            elif self._forwarder is not None:
                self._forwarder.leave(file)
            else:
                file.close()


def _tell(waiting: "list[tuple[Kind, Future[None]]]", failures: Mapping[Kind, OSError]) -> None:
    for kind, done in waiting:
        # A caller that gave up has cancelled its future; what it sent is written all the same.
        if done.set_running_or_notify_cancel():
            failure = failures.get(kind)
            done.set_exception(failure) if failure else done.set_result(None)
