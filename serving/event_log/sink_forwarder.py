"""Brings the event log to a sink elsewhere, in order, while the sink is there.

The local files are the truth: a record is in them before anybody is answered. A thread reads them from where
the sink says it stands and sends what follows, so nothing is lost and nothing is sent twice, whoever is
killed in between. While the sink is away, records wait in the files; files of processes that are gone are
taken over, under a lock.
"""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from serving.event_log.log_files import LogFile, take_over_file
from serving.event_log.redis_sink import RedisSink

_CHUNK_BYTES: Final = 1 << 20
_IDLE_S: Final = 1.0
_CLOSE_TIMEOUT_S: Final = 10.0
_log = logging.getLogger(__name__)


class SinkForwarder:
    """A thread that follows the event log's files; started and closed by the log."""

    def __init__(
        self,
        sink: RedisSink,
        *,
        max_backlog_bytes: int,
        gather_s: float = 0.0,
        on_backlog: Callable[[int], object] = lambda _: None,
    ) -> None:
        """Takes a sink; nothing is sent yet.

        Args:
            sink: where records go.
            max_backlog_bytes: what may wait before the log takes no more.
            gather_s: how long records are gathered and then sent together; each sending takes time from
                requests.
            on_backlog: told how many bytes wait, after each sending and about once a second.
        """
        self._sink = sink
        self._max_backlog_bytes = max_backlog_bytes
        self._gather_s = gather_s
        self._on_backlog = on_backlog
        self._changed = threading.Event()
        self._closed = threading.Event()
        self._positions: dict[LogFile, int] = {}
        """File of this process -> bytes of it that the sink holds, as far as is known."""
        self._released_files: set[LogFile] = set()
        self._done_paths: set[Path] = set()
        self._latest_done: tuple[str, int] | None = None
        self._next_takeover = 0.0
        self.is_failing = False

    @property
    def backlog_bytes(self) -> int:
        """What this process wrote and the sink does not have yet, as far as is known."""
        return sum(file.size - position for file, position in list(self._positions.items()))

    @property
    def is_backlog_full(self) -> bool:
        """Does more wait than is allowed?"""
        return self.backlog_bytes > self._max_backlog_bytes

    def start_following(self, folder: Path, *, own_files: list[LogFile]) -> None:
        """Starts to follow a folder, of which this process writes the files `own_files`."""
        self._folder = folder
        self._positions = dict.fromkeys(own_files, 0)
        self._thread = threading.Thread(target=self._run_until_closed, name="event-forwarder", daemon=True)
        self._thread.start()

    def follow_file(self, file: LogFile) -> None:
        """Follows one more file of this process."""
        self._positions[file] = 0

    def release_file(self, file: LogFile) -> None:
        """Closes a file of this process, to which no more is written, once the sink has all of it."""
        self._released_files.add(file)

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
        for file in self._released_files:
            file.close()
        self._sink.close()
        return True

    def _run_until_closed(self) -> None:
        is_closed, must_ask = False, True
        while not is_closed:
            is_closed = self._closed.is_set()
            self._changed.clear()
            try:
                self._forward_all_files(must_ask=must_ask)
                self.is_failing = False
            except Exception as error:
                # Whatever goes wrong: the records are in the files, and the next ones want to be sent.
                if not self.is_failing:
                    _log.warning("the event sink fails; records wait in %s: %s", self._folder, error)
                self.is_failing = True
            self._on_backlog(self.backlog_bytes)
            if not is_closed:
                must_ask = not self._wait_for_more()

    def _wait_for_more(self) -> bool:
        """Is there more to send, to a sink whose position is known? Else it is time to ask."""
        if self.is_failing:  # A sink that is away is tried once a second, however much comes in meanwhile.
            self._closed.wait(_IDLE_S)
            return False
        if not self._changed.wait(_IDLE_S):
            return False
        self._closed.wait(self._gather_s)
        return True

    def _forward_all_files(self, *, must_ask: bool) -> None:
        if must_ask and self._latest_done is not None:
            file_name, end_position = self._latest_done
            if self._sink.read_position(file_name) < end_position:
                self._begin_again()
        if time.monotonic() >= self._next_takeover:
            self._next_takeover = time.monotonic() + _IDLE_S
            self._forward_orphaned_files()
        for file, last_position in list(self._positions.items()):
            is_released = file in self._released_files
            position = self._sink.read_position(file.path.name) if must_ask else last_position
            if position < last_position:
                self._begin_again()
            else:
                position = self._forward_file(file, position)
            self._positions[file] = position
            if is_released and position >= file.size:
                self._released_files.discard(file)
                self._mark_done(file, self._positions.pop(file))
                file.close()

    def _mark_done(self, file: LogFile, position: int) -> None:
        self._done_paths.add(file.path)
        self._latest_done = file.path.name, position

    def _begin_again(self) -> None:
        """The sink lost something: all files are looked at again, the oldest first."""
        self._done_paths.clear()
        self._latest_done = None
        self._next_takeover = 0.0
        self._changed.set()

    def _forward_orphaned_files(self) -> None:
        for log_path in sorted(self._folder.glob("*.jsonl")):
            if log_path not in self._done_paths and (orphan := take_over_file(log_path)) is not None:
                with orphan:
                    position = self._forward_file(orphan, self._sink.read_position(log_path.name))
                if not self._next_takeover:
                    return  # the sink lost something meanwhile
                self._mark_done(orphan, position)

    def _forward_file(self, file: LogFile, position: int) -> int:
        """Sends what follows `position`; returns the position that the sink then holds."""
        source = file.path.name
        kind = source.partition("-")[0]
        while new_content := file.read_lines(position, _CHUNK_BYTES):
            end_position, lines = position + len(new_content), new_content.splitlines()
            is_stored = self._sink.store_lines(kind, lines, source=source, start=position, end=end_position)
            # It stands elsewhere where an answer of its was lost, or where it lost something.
            new_position = end_position if is_stored else self._sink.read_position(source)
            if new_position < position:
                self._begin_again()
                return new_position
            position = new_position
        return position
