"""Turns the stream of a local pipeline run into one line a step on the screen; the whole of it goes to a file."""

import io
import logging
import re
import time
from itertools import takewhile
from pathlib import Path
from types import TracebackType
from typing import TextIO

from contracts.errors import UserError

_COLOUR = re.compile(r"\x1b\[\d+m")
_STARTED = re.compile(r"Executing task '([^']+)'")
_ENDED = re.compile(r"Task '([^']+)' finished with status (\w+)")
_REUSED = re.compile(r"Task (\S+) cache hit")
_USER_ERROR = re.compile(r"^\s*contracts\.errors\.UserError: (.*)")
_TRACEBACK = re.compile(r"^\s*Traceback ")
_NOISE = re.compile(r"^\s*($|-{5,}|\[KFP Executor|\{|\}|\"|\])")
_TAIL_LINES = 25


class StepLog(io.TextIOBase):
    """A text stream that keeps everything in a file and shows the steps' progress on the screen."""

    def __init__(self, path: Path, *, screen: TextIO) -> None:
        """Opens the file anew.

        Args:
            path: the log file.
            screen: where the progress is shown.
        """
        self.path = path
        self._screen = screen
        self._file = path.open("w", encoding="utf-8")
        self._partial = ""
        self._tail: list[str] = []
        self._step = ""
        self._failed: tuple[str, list[str]] | None = None
        self._started_s = 0.0
        self._reused = _ReusedSteps(self)
        self._level = logging.root.level

    def __enter__(self) -> "StepLog":
        logging.root.addHandler(self._reused)
        logging.root.setLevel(logging.INFO)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.root.removeHandler(self._reused)
        logging.root.setLevel(self._level)
        self._file.close()

    def write(self, text: str) -> int:
        """Takes text as it comes; whole lines are looked at."""
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            self._take(_COLOUR.sub("", line))
        return len(text)

    def show(self, text: str) -> None:
        """Shows a line on the screen and keeps it in the file."""
        self._screen.write(text + "\n")
        self._screen.flush()
        self._file.write(text + "\n")

    def explain(self, error: Exception) -> Exception:
        """What to raise for a failed run: the user's own error where the failed step named one."""
        step, tail = self._failed or (self._step, self._tail)
        for number, line in enumerate(tail):
            if found := _USER_ERROR.match(line):
                # The message goes on up to another traceback, as of a shard that ran at the same time.
                rest = takewhile(lambda line: not _TRACEBACK.match(line), tail[number + 1 :])
                return UserError(f"step '{step}': " + "\n".join([found.group(1), *rest]))
        lines = "\n".join(tail[-_TAIL_LINES:])
        return RuntimeError(f"step '{step}' failed ({error}).\n{lines}\nThe whole log: {self.path}")

    def _take(self, line: str) -> None:
        self._file.write(line + "\n")
        self._file.flush()
        if found := _STARTED.search(line):
            self._step, self._started_s, self._tail = found.group(1), time.monotonic(), []
            self.show(f"  {self._step} ...")
        elif found := _ENDED.search(line):
            took = time.monotonic() - self._started_s
            self.show(f"  {found.group(1)}: {found.group(2).lower()} in {took:.1f} s")
            if found.group(2) == "FAILURE" and self._failed is None:
                # Steps that do not depend on this one may still run: its own words must not get lost among theirs.
                self._failed = (found.group(1), self._tail)
        elif not _NOISE.match(line):
            self._tail.append(line)


class _ReusedSteps(logging.Handler):
    """kfp says through logging, not on the stream, that a step was found in the cache."""

    def __init__(self, log: StepLog) -> None:
        super().__init__(logging.INFO)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        if found := _REUSED.search(record.getMessage()):
            self._log.show(f"  {found.group(1)}: unchanged, reused")
