"""Starting servers as child processes: free ports, readiness by polling, shutting down by process id."""

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from contracts.errors import UserError

_POLL_S = 0.1


def require_free_port(port: int, *, host: str, purpose: str, setting: str) -> None:
    """Refuses a port that is taken.

    Raises:
        UserError: something listens there; the message names the setting to change.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"port {port} for {purpose} is not free on {host} ({error.strerror}); stop what listens there or set "
                f"{setting} to another port."
            ) from error


def is_http_ok(url: str) -> bool:
    """Does a GET answer with 200?"""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - our own http:// addresses only
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


class ServerProcess:
    """A server that runs as a child process, with its output in a log file."""

    def __init__(
        self, command: Sequence[str], *, name: str, ready_url: str, log: Path, environment: Mapping[str, str]
    ) -> None:
        """Starts the process; `wait_ready` returns when it serves."""
        self.name = name
        self._ready_url = ready_url
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | environment,
                # Its own group: workers of the server go down with it, and Ctrl-C reaches us first.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def wait_ready(self, timeout_s: float) -> None:
        """Waits until the server answers.

        Raises:
            RuntimeError: it ended, or was not ready in time; the message holds the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        while not is_http_ok(self._ready_url):
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with code {self._process.returncode}:\n{self._tail()}")
            if time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.name} was not ready within {timeout_s:g} s:\n{self._tail()}")
            time.sleep(_POLL_S)

    def stop(self, timeout_s: float = 30.0) -> int:
        """Asks the process to end, then ends it and its workers; returns its exit code."""
        family = self._family()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self._end(family)

    def kill(self) -> int:
        """Ends the process and its workers at once, as a crash would; returns its exit code."""
        return self._end(self._family())

    def _family(self) -> list[psutil.Process]:
        # BentoML's workers have sessions of their own: no signal to our group reaches them.
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self._process.pid)
            return [process, *process.children(recursive=True)]
        return []

    def _end(self, family: list[psutil.Process]) -> int:
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return self._process.wait()

    def _tail(self, lines: int = 20) -> str:
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
