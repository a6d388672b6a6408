"""Time of a call, memory of a process, work in other processes."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")


def measure_seconds(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds that a call takes: wall time, or processor time with `time.process_time` as the clock."""
    start_s = clock()
    call()
    return clock() - start_s


def read_peak_kib() -> int:
    """Peak memory of this process since it began, in KiB."""
    # `ru_maxrss` would start from the peak of the process that started this one.
    process_status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(process_status.partition("VmHWM:")[2].split()[0])


def run_module(module: str, *arguments: object) -> list[str]:
    """Runs a module in a process of its own; returns the words of the last line that it printed."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    printed_lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return printed_lines[-1].split() if printed_lines else []


def run_on_all_cores(function: Callable[..., Result], *arguments: Iterable[Any]) -> list[Result]:
    """Maps a function over arguments, in as many processes as there are cores."""
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=get_context("spawn")) as pool:
        return list(pool.map(function, *arguments))
