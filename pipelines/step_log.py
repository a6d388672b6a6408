"""The log of a local pipeline run: all of it in a file, and on the screen what a person wants to see.

On a terminal the running steps are a live display. Elsewhere each step is a line, with progress now and then.
"""

import io
import logging
import re
import time
from itertools import takewhile
from pathlib import Path
from types import TracebackType
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from contracts.errors import UserError
from contracts.progress import SUMMARY_PREFIX
from pipelines.run_progress import RunProgress, format_seconds

_COLOR = re.compile(r"\x1b\[\d+m")
# Importers only name an artifact that is there: nobody waits for them.
_STARTED = re.compile(r"Executing task '(?!importer)([^']+)'")
_ENDED = re.compile(r"Task '(?!importer)([^']+)' finished with status (\w+)")
_REUSED = re.compile(r"Task (?!importer)(\S+) cache hit")
_USER_ERROR = re.compile(r"^\s*contracts\.errors\.\w+: (.*)")
_SUMMARY = re.compile(rf"{SUMMARY_PREFIX}(.*)")
_TRACEBACK = re.compile(r"^\s*Traceback ")
_NOISE = re.compile(r"^\s*($|-{5,}|\[KFP Executor|\{|\}|\"|\])")
_NUM_TAIL_LINES = 25
_PLAIN_PERIOD_S = 15.0
"""Seconds between two lines of progress where there is no terminal."""


class StepFailedError(RuntimeError):
    """A step failed, and not on the user's input."""


class StepLog(io.TextIOBase):
    """A text stream that keeps everything in a file and shows the steps' progress on the screen."""

    def __init__(self, path: Path, *, screen: TextIO, num_steps: int = 0) -> None:
        """Opens the file anew.

        Args:
            path: the log file.
            screen: where the progress is shown.
            num_steps: steps of the run, for "3 of 17".
        """
        self.path = path
        self._screen = screen
        self._file = path.open("w", encoding="utf-8")
        self._progress = RunProgress(num_steps)
        self._unfinished_line = ""
        self._tail: list[str] = []
        self._step = ""
        self._failed_step: tuple[str, list[str]] | None = None
        self._reused_steps = _ReusedSteps(self)
        self._log_level = logging.root.level
        self._last_shown_s = time.monotonic()
        self._spinner = Spinner("dots")
        console = Console(file=screen)
        self._live = None
        if console.is_terminal and not console.is_dumb_terminal:
            # stdout is ours while the run goes on; what is printed on stderr appears above the display.
            self._live = Live(
                get_renderable=self._render_display, console=console, transient=True, redirect_stdout=False
            )

    def __enter__(self) -> "StepLog":
        logging.root.addHandler(self._reused_steps)
        logging.root.setLevel(logging.INFO)
        if self._live:
            self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        logging.root.removeHandler(self._reused_steps)
        logging.root.setLevel(self._log_level)
        self._file.close()

    def write(self, text: str) -> int:
        """Takes text as it comes, and reads each line once it is whole."""
        *lines, self._unfinished_line = (self._unfinished_line + text).split("\n")
        for line in lines:
            self._take_line(_COLOR.sub("", line))
        return len(text)

    def show_line(self, text: str) -> None:
        """Shows a line on the screen and keeps it in the file."""
        self._last_shown_s = time.monotonic()
        if self._live:
            self._live.console.print(Text(text))
        else:
            self._screen.write(text + "\n")
            self._screen.flush()
        self._file.write(text + "\n")

    def show_reused(self, step_name: str) -> None:
        """Shows that a step was taken from the cache."""
        self._progress.num_ended += 1
        self.show_line(f"  {step_name}: unchanged, reused ({self._progress.describe_position()})")

    def explain_failure(self, error: Exception) -> Exception:
        """What to raise for a failed run: the user's own error where the failed step named one."""
        step, tail = self._failed_step or (self._step, self._tail)
        for number, line in enumerate(tail):
            if match := _USER_ERROR.match(line):
                # The message goes on up to another traceback, as of a shard that ran at the same time.
                message_lines = takewhile(lambda line: not _TRACEBACK.match(line), tail[number + 1 :])
                return UserError(f"step '{step}': " + "\n".join([match.group(1), *message_lines]))
        last_lines = "\n".join(tail[-_NUM_TAIL_LINES:])
        reason = _COLOR.sub("", str(error))
        return StepFailedError(f"step '{step}' failed ({reason}).\n{last_lines}\nThe whole log: {self.path}")

    def _take_line(self, line: str) -> None:
        self._file.write(line + "\n")
        self._file.flush()
        if self._progress.read_line(line):
            if not self._live and time.monotonic() - self._last_shown_s >= _PLAIN_PERIOD_S:
                self.show_line("\n".join(f"    {text}" for text in self._progress.describe_running()))
        elif match := _SUMMARY.search(line):
            self.show_line(f"    {match.group(1)}")
        elif match := _STARTED.search(line):
            self._step, self._tail = match.group(1), []
            self._progress.start_step(self._step)
            if not self._live:
                self.show_line(f"  {self._step} ...")
        elif match := _ENDED.search(line):
            step_name, status = match.groups()
            step_seconds = self._progress.end_step(step_name)
            position = self._progress.describe_position()
            self.show_line(f"  {step_name}: {status.lower()} in {step_seconds:.1f} s ({position})")
            if status == "FAILURE" and self._failed_step is None:
                # Steps that do not depend on this one may still run: its own words must not get lost.
                self._failed_step = (step_name, self._tail)
        elif not _NOISE.match(line):
            self._tail.append(line)

    def _render_display(self) -> Group:
        elapsed = format_seconds(time.monotonic() - self._progress.started_s)
        self._spinner.update(text=Text(f"{self._progress.describe_position()}, {elapsed}", style="bold"))
        return Group(self._spinner, *(Text(f"  {line}") for line in self._progress.describe_running()))


class _ReusedSteps(logging.Handler):
    """kfp says through logging, not on the stream, that a step was found in the cache."""

    def __init__(self, step_log: StepLog) -> None:
        super().__init__(logging.INFO)
        self._step_log = step_log

    def emit(self, record: logging.LogRecord) -> None:
        if match := _REUSED.search(record.getMessage()):
            self._step_log.show_reused(match.group(1))
