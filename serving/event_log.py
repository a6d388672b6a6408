"""The durable log of what was shown and done: append-only JSON lines, on the disk before they are acknowledged.

One file per process and start, so that several workers never write into one file. A writer thread takes everything
that waits, writes it, syncs once and wakes all who waited: under load one sync serves many requests. A crash can leave
half a line at a file's end; it was never acknowledged, and readers skip it.
"""

import asyncio
import json
import os
import queue
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TextIO

Kind = Literal["exposures", "events"]

_KINDS: Final[tuple[Kind, ...]] = ("exposures", "events")
_MAX_WAITING: Final = 10_000


class EventLogFullError(Exception):
    """The disk does not keep up; the caller must not acknowledge."""


class EventLog:
    """Writes records; safe to use from many threads and from an event loop."""

    def __init__(self, folder: Path) -> None:
        """Opens new files in `folder` and starts the writer."""
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"{time.time_ns()}-{os.getpid()}"
        self._files: dict[Kind, TextIO] = {
            kind: (folder / f"{kind}-{stem}.jsonl").open("a", encoding="utf-8") for kind in _KINDS
        }
        _sync_folder(folder)
        self._waiting: queue.Queue[tuple[Kind, list[str], Future[None]] | None] = queue.Queue(_MAX_WAITING)
        self._writer = threading.Thread(target=self._write_all, name="event-log", daemon=True)
        self._writer.start()

    async def append(self, kind: Kind, records: Iterable[dict[str, Any]]) -> None:
        """Returns when the records are on the disk.

        Raises:
            EventLogFullError: too much waits already.
            OSError: the disk refused.
        """
        await asyncio.wrap_future(self.submit(kind, records))

    def submit(self, kind: Kind, records: Iterable[dict[str, Any]]) -> "Future[None]":
        """Queues records; the future is done when they are on the disk."""
        done: Future[None] = Future()
        lines = [json.dumps(record, separators=(",", ":"), default=str) + "\n" for record in records]
        try:
            self._waiting.put_nowait((kind, lines, done))
        except queue.Full:
            raise EventLogFullError(f"{_MAX_WAITING} writes wait for the disk") from None
        return done

    def close(self) -> None:
        """Writes what waits, then closes."""
        if self._writer.is_alive():
            self._waiting.put(None)
            self._writer.join()
        for file in self._files.values():
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write_all(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            self._write([entry for entry in batch if entry is not None])
            if None in batch:
                return

    def _write(self, batch: list[tuple[Kind, list[str], "Future[None]"]]) -> None:
        try:
            for kind, lines, _ in batch:
                self._files[kind].writelines(lines)
            for kind in {kind for kind, _, _ in batch}:
                self._files[kind].flush()
                os.fsync(self._files[kind].fileno())
        except OSError as error:
            for _, _, done in batch:
                done.set_exception(error)
            return
        for _, _, done in batch:
            # A caller that gave up has cancelled its future; what it sent is written all the same.
            if done.set_running_or_notify_cancel():
                done.set_result(None)


def _sync_folder(folder: Path) -> None:
    # The new files' names must survive a power cut as well.
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
