"""What whoever watches a run is told: progress of long loops, and summaries."""

import os
import sys
import time
from collections.abc import Iterable
from typing import Final

_PERIOD_S = 2.0
_last_lines_s: dict[str, float] = {}


def report_progress(stage: str, done: int, total: int, unit: str = "items") -> None:
    """Prints a line on stderr, at most one every two seconds and stage.

    Library code calls it in each round of a loop and needs no terminal. The step log of a local run reads the
    lines and computes rate and time left. It adds up processes that report the same stage, such as shards.

    Args:
        stage: what is done, as a reader would say it: `distill knowledge`.
        done: units done so far.
        total: units in all.
        unit: plural noun of what is counted.
    """
    now_s = time.monotonic()
    if now_s - _last_lines_s.get(stage, -_PERIOD_S) >= _PERIOD_S:
        _last_lines_s[stage] = now_s
        # One write: the lines of several processes share a pipe and must not mix.
        sys.stderr.write(f"progress: {stage} {done}/{total} {unit} (process {os.getpid()})\n")
        sys.stderr.flush()


SUMMARY_PREFIX: Final = "summary: "


def report_summary(lines: Iterable[str]) -> None:
    """Prints lines that a person should see while the run goes on; the step log shows them on the screen."""
    sys.stderr.write("".join(f"{SUMMARY_PREFIX}{line}\n" for line in lines))
    sys.stderr.flush()
