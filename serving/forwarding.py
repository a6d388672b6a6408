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

    def send(self, kind: str, lines: Sequence[bytes], *, source: str, start: int, end: int) -> bool:
        """Stores the lines between two positions of a file, and with them that it holds the file up to `end`.

        Returns:
            False, and nothing is stored, where the sink does not hold the file up to `start` and no further.

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
        self,
        sink: Sink,
        *,
        max_backlog_bytes: int,
        gather_s: float = 0.0,
        on_backlog: Callable[[int], object] = lambda _: None,
    ) -> None:
        """Takes a sink; nothing is sent yet.

        Args:
            sink: where records go.
            max_backlog_bytes: what may wait before the log takes no more.
            gather_s: how long records are gathered and then sent together; each sending takes time from requests.
            on_backlog: told how many bytes wait, after each sending and about once a second.
        """
        self._sink = sink
        self._max_backlog_bytes = max_backlog_bytes
        self._gather_s = gather_s
        self._on_backlog = on_backlog
        self._changed = threading.Event()
        self._closed = threading.Event()
        self._positions: dict[LogFile, int] = {}
        self._left: set[LogFile] = set()
        self._done: set[Path] = set()
        self._latest_done: tuple[str, int] | None = None
        self._look_at = 0.0
        self.is_failing = False

    @property
    def backlog_bytes(self) -> int:
        """What this process wrote and the sink does not have yet, as far as is known."""
        return sum(file.size - position for file, position in list(self._positions.items()))

    @property
    def is_full(self) -> bool:
        """Does more wait than is allowed?"""
        return self.backlog_bytes > self._max_backlog_bytes

    def start(self, folder: Path, *, own: list[LogFile]) -> None:
        """Starts to follow a folder, of which this process writes the files `own`."""
        self._folder = folder
        self._positions = dict.fromkeys(own, 0)
        self._thread = threading.Thread(target=self._run, name="event-forwarder", daemon=True)
        self._thread.start()

    def follow(self, file: LogFile) -> None:
        """Follows one more file of this process."""
        self._positions[file] = 0

    def leave(self, file: LogFile) -> None:
        """Closes a file of this process, to which no more is written, once the sink has all of it."""
        self._left.add(file)

    def wake(self) -> None:
        """Says that there is something new."""
        self._changed.set()

    def close(self) -> bool:
        """Sends what waits if the sink is there; the rest waits in the files for the next start.

        Returns:
            True once it no longer reads the files; False where the sink takes too long.
        """
        self._closed.set()
        self._changed.set()
        self._thread.join(_CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            return False
        for file in self._left:
            file.close()
        self._sink.close()
        return True

    def _run(self) -> None:
        closed, asks = False, True
        while not closed:
            closed = self._closed.is_set()
            self._changed.clear()
            try:
                self._forward_all(asks=asks)
                self.is_failing = False
            except Exception as error:
                # Whatever goes wrong: the records are in the files, and the next ones want to be sent.
                if not self.is_failing:
                    _log.warning("the event sink fails; records wait in %s: %s", self._folder, error)
                self.is_failing = True
            self._on_backlog(self.backlog_bytes)
            if not closed:
                asks = not self._wait_for_more()

    def _wait_for_more(self) -> bool:
        """Is there more to send, to a sink whose position is known? Else it is time to ask."""
        if self.is_failing:  # A sink that is away is tried once a second, however much comes in meanwhile.
            self._closed.wait(_IDLE_S)
            return False
        if not self._changed.wait(_IDLE_S):
            return False
        self._closed.wait(self._gather_s)
        return True

    def _forward_all(self, *, asks: bool) -> None:
        if asks and self._latest_done is not None:
            name, position = self._latest_done
            if self._sink.position(name) < position:
                self._begin_again()
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _IDLE_S
            self._take_over()
        for own, believed in list(self._positions.items()):
            is_left = own in self._left
            found = self._sink.position(own.path.name) if asks else believed
            if found < believed:
                self._begin_again()
            else:
                found = self._forward(own, found)
            self._positions[own] = found
            if is_left and self._positions[own] >= own.size:
                self._give_up(own)

    def _give_up(self, file: LogFile) -> None:
        self._left.discard(file)
        self._note_done(file, self._positions.pop(file))
        file.close()

    def _note_done(self, file: LogFile, position: int) -> None:
        self._done.add(file.path)
        self._latest_done = file.path.name, position

    def _begin_again(self) -> None:
        """The sink lost something: all files are looked at again, the oldest first."""
        self._done.clear()
        self._latest_done = None
        self._look_at = 0.0
        self._changed.set()

    def _take_over(self) -> None:
        for path in sorted(self._folder.glob("*.jsonl")):
            if path not in self._done and (orphan := claim(path)) is not None:
                with orphan:
                    position = self._forward(orphan, self._sink.position(path.name))
                if not self._look_at:
                    return  # the sink lost something meanwhile
                self._note_done(orphan, position)

    def _forward(self, file: LogFile, position: int) -> int:
        source = file.path.name
        while content := file.read(position, _CHUNK_BYTES):
            kind, end = source.partition("-")[0], position + len(content)
            is_stored = self._sink.send(kind, content.splitlines(), source=source, start=position, end=end)
            # It stands elsewhere where an answer of its was lost, or where it lost something.
            found = end if is_stored else self._sink.position(source)
            if found < position:
                self._begin_again()
                return found
            position = found
        return position
