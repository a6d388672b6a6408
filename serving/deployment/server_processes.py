"""Starts servers as child processes: free ports, readiness by polling, shutting down by process id."""

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
from typing import Final, Self

import psutil

from contracts.errors import UserError

START_TIMEOUT_S: Final = 180.0
"""Longest wait for a server that we start: on a busy machine the gateway imports for half a minute."""
_POLL_INTERVAL_S: Final = 0.1


def require_free_port(port: int, *, host: str, purpose: str, setting: str) -> None:
    """Refuses a port that is taken.

    Raises:
        UserError: something listens there; the message names the setting to change.
    """
    with socket.socket() as probe:
        # A port that a server has just left is free, though the system holds it for a minute.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"port {port} for {purpose} is not free on {host} ({error.strerror}); stop what listens "
                f"there or set {setting} to another port."
            ) from error


def is_http_ok(url: str) -> bool:
    """Does a GET answer with 200?"""
    try:
        # Our own http:// addresses only.
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


class ServerProcess:
    """A server that runs as a child process, with its output in a log file; a context stops it at its end."""

    def __init__(
        self, command: Sequence[str], *, name: str, ready_url: str, log: Path, environment: Mapping[str, str]
    ) -> None:
        """Starts the process; `wait_ready` returns when it serves."""
        self.name = name
        self._ready_url = ready_url
        self._log_path = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as log_file:
            self._process = subprocess.Popen(
                command,
                stdout=log_file,
                stderr=subprocess.STDOUT,
                env=os.environ | environment,
                # Its own group: workers of the server go down with it, and Ctrl-C reaches us first.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Waits until the server answers.

        Raises:
            RuntimeError: it ended, or was not ready in time; the message holds the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        while not is_http_ok(self._ready_url):
            if self._process.poll() is not None:
                exit_code = self._process.returncode
                raise RuntimeError(f"{self.name} ended with code {exit_code}:\n{self._read_log_end()}")
            if time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.name} was not ready in {timeout_s:g} s:\n{self._read_log_end()}")
            time.sleep(_POLL_INTERVAL_S)

    def stop(self, timeout_s: float = 30.0) -> int:
        """Asks the process to end, then ends it and its workers; returns its exit code."""
        process_family = self._list_process_family()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self._kill_all(process_family)

    def kill(self) -> int:
        """Ends the process and its workers at once, as a crash would; returns its exit code."""
        return self._kill_all(self._list_process_family())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _list_process_family(self) -> list[psutil.Process]:
        # BentoML's workers have sessions of their own: no signal to our group reaches them.
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self._process.pid)
            return [process, *process.children(recursive=True)]
        return []

    def _kill_all(self, processes: list[psutil.Process]) -> int:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return self._process.wait()

    def _read_log_end(self, num_lines: int = 20) -> str:
        log_text = self._log_path.read_text(encoding="utf-8", errors="replace")
        return "\n".join(log_text.splitlines()[-num_lines:])
