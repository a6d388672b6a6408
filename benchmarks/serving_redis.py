"""A Redis server of the benchmark's own, that can be killed and started again with its data."""

import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from contracts.errors import UserError

HOST = "127.0.0.1"
_START_TIMEOUT_S = 30.0


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind((HOST, 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class RedisServer:
    """Runs from `with` or `start` to `kill`; its data is there again after the next start."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        """Takes a port; `folder` will hold the data: what `save` wrote, or every write of a durable server.

        Raises:
            UserError: there is no redis-server on this machine.
        """
        if shutil.which("redis-server") is None:
            raise UserError("no redis-server on this machine; install one (Debian: apt-get install redis-server)")
        folder.mkdir(parents=True, exist_ok=True)
        self._options = ["--save", "", "--dir", str(folder)]
        if durable:
            self._options += ["--appendonly", "yes", "--appendfsync", "always"]
        self._port = free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """As `REASEQ_REDIS` takes it."""
        return f"{HOST}:{self._port}"

    @property
    def client(self) -> redis.Redis:
        """A client for the raw bytes."""
        return redis.Redis(host=HOST, port=self._port)

    def start(self) -> Self:
        """Starts the server and waits until it has read its data."""
        command = ["redis-server", "--bind", HOST, "--port", str(self._port), *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            if time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"Redis did not come up within {_START_TIMEOUT_S:g} s")
            time.sleep(0.01)
        return self

    def save(self) -> None:
        """Writes the data to the disk."""
        self.client.save()

    def kill(self) -> None:
        """Ends the server at once."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False
