"""A signal ends the command and everything that it started."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from reaseq.interruption import end_processes, is_alive

DEADLINE_S = 30.0
# `reaseq report` with a long run in its place: as kfp runs shards, in threads that go on with the next one.
LONG_RUN = """
import subprocess, sys
from concurrent.futures import ThreadPoolExecutor
from reaseq import report
from reaseq.cli import main

def run_shards(arguments):
    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(lambda _: subprocess.run(["sh", "-c", "sleep 600; true"]).returncode, range(4)))

report.run_verb = run_shards
sys.exit(main(["report"]))
"""
SERVER_RUN = """
import subprocess, sys
from reaseq import serve
from reaseq.cli import main

def run_server(arguments):
    subprocess.Popen(["sh", "-c", "sleep 600; true"], start_new_session=True)
    return subprocess.run(["sleep", "600"]).returncode

serve.run_verb = run_server
sys.exit(main(["serve"]))
"""


@contextlib.contextmanager
def start_process(*command: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            for survivor in (
                psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            ):
                survivor.kill()
            process.kill()


def wait_until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + DEADLINE_S
    while not (is_true := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return is_true


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("script", "num_children"), [(LONG_RUN, 4), (SERVER_RUN, 3)])
def test_a_signal_leaves_no_descendant(signal_number, script, num_children):
    with start_process(sys.executable, "-c", script) as process:
        command_process = psutil.Process(process.pid)
        assert wait_until(lambda: len(command_process.children(recursive=True)) >= num_children)
        descendants = command_process.children(recursive=True)

        process.send_signal(signal_number)

        assert process.wait(DEADLINE_S) == 128 + signal_number
        assert wait_until(lambda: not any(map(is_alive, descendants)))
        assert process.stderr.read().endswith(": interrupted\n")


def test_what_does_not_listen_is_killed():
    with start_process("sh", "-c", "trap '' TERM; echo ready >&2; while :; do sleep 0.1; done") as process:
        assert process.stderr.readline() == "ready\n"
        stubborn = psutil.Process(process.pid)

        end_processes([stubborn], grace_s=0.2)

        assert not is_alive(stubborn)
