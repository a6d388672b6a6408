"""Brings the event log to a sink elsewhere, in order, while the sink is there.

The local files are the truth: a record is in them before anybody is answered. A thread reads them from where the sink
says it stands and sends what follows, so nothing is lost and nothing is sent twice, whoever is killed in between. While
the sink is away, records wait in the files; files of processes that are gone are taken over, under a lock.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from serving.event_files import LogFile, claim

_CHUNK_BYTES: Final = 1 << 20
_IDLE_S: Final = 1.0
_CLOSE_TIMEOUT_S: Final = 10.0
_log = logging.getLogger(__name__)


class SinkError(Exception):
    """The sink cannot be reached, or refuses."""


class Sink(Protocol):
    """Takes lines of the event log. One call does all of it or nothing."""

    def position(self, source: str) -> int:
        """Bytes of a file that the sink holds.

        Raises:
            SinkError: the sink cannot be reached.
        """
        ...

    def send(self, kind: str, lines: Sequence[bytes], *, source: str, position: int) -> None:
        """Stores lines, and with them the file's new position.

        Raises:
            SinkError: nothing was stored, or it is not known whether it was: `position` tells.
        """
        ...

    def close(self) -> None:
        """Closes the connection."""
        ...


class Forwarder:
    """A thread that follows the event log's files; started and closed by the log."""

    def __init__(
        self, sink: Sink, *, max_backlog_bytes: int, on_backlog: Callable[[int], object] = lambda _: None
    ) -> None:
        """Takes a sink; nothing is sent yet.

        Args:
            sink: where records go.
            max_backlog_bytes: what may wait before the log takes no more.
            on_backlog: told how many bytes wait, about once a second.
        """
        self._sink = sink
        self._max_backlog_bytes = max_backlog_bytes
        self._on_backlog = on_backlog
        self._changed = threading.Event()
        self._closed = False
        self._positions: dict[LogFile, int] = {}
        self._done: set[Path] = set()
        self._look_at = 0.0
        self.is_failing = False

    @property
    def backlog_bytes(self) -> int:
        """What this process wrote and the sink does not have yet, as far as is known."""
        return sum(file.size - position for file, position in self._positions.items())

    @property
    def is_full(self) -> bool:
        """Does more wait than is allowed?"""
        return self.backlog_bytes > self._max_backlog_bytes

    def start(self, folder: Path, *, own: list[LogFile]) -> None:
        """Starts to follow a folder, of which this process writes the files `own`."""
        self._folder = folder
        self._positions = dict.fromkeys(own, 0)
        self._done = {file.path for file in own}
        self._thread = threading.Thread(target=self._run, name="event-forwarder", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Says that there is something new."""
        self._changed.set()

    def close(self) -> None:
        """Sends what waits if the sink is there; the rest waits in the files for the next start."""
        self._closed = True
        self._changed.set()
        self._thread.join(_CLOSE_TIMEOUT_S)
        self._sink.close()

    def _run(self) -> None:
        closed = False
        while not closed:
            closed = self._closed
            self._changed.clear()
            try:
                self._forward_all()
                self.is_failing = False
            except Exception as error:
                # Whatever goes wrong: the records are in the files, and the next ones want to be sent.
                if not self.is_failing:
                    _log.warning("the event sink fails; records wait in %s: %s", self._folder, error)
                self.is_failing = True
            self._on_backlog(self.backlog_bytes)
            # A sink that is away is tried once a second, however much comes in meanwhile.
            waiter = threading.Event() if self.is_failing else self._changed
            if not closed:
                waiter.wait(_IDLE_S)

    def _forward_all(self) -> None:
        for own in self._positions:
            self._positions[own] = self._forward(own)
        if time.monotonic() >= self._look_at:
            self._take_over()
            self._look_at = time.monotonic() + _IDLE_S

    def _take_over(self) -> None:
        for path in sorted(self._folder.glob("*.jsonl")):
            if path not in self._done and (orphan := claim(path)) is not None:
                with orphan:
                    self._forward(orphan)
                self._done.add(path)

    def _forward(self, file: LogFile) -> int:
        source = file.path.name
        position = self._sink.position(source)
        while content := file.read(position, _CHUNK_BYTES):
            position += len(content)
            self._sink.send(source.partition("-")[0], content.splitlines(), source=source, position=position)
        return position
