"""A Redis server of the benchmark's own, that can be killed and started again with its data."""

import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

import redis

from contracts.errors import UserError

HOST = "127.0.0.1"
_START_TIMEOUT_S = 30.0


def find_free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    probe_sockets = [socket.socket() for _ in range(count)]
    for probe_socket in probe_sockets:
        probe_socket.bind((HOST, 0))
    ports = [int(probe_socket.getsockname()[1]) for probe_socket in probe_sockets]
    for probe_socket in probe_sockets:
        probe_socket.close()
    return ports


class RedisServer:
    """Runs from `with` or `start_server` to `kill_server`; its data is there again after the next start."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        """Takes a port; `folder` holds what `SAVE` writes, or every write of a durable server.

        Raises:
            UserError: there is no redis-server on this machine.
        """
        if shutil.which("redis-server") is None:
            raise UserError("no redis-server on this machine; on Debian: apt-get install redis-server")
        folder.mkdir(parents=True, exist_ok=True)
        self._options = ["--save", "", "--dir", str(folder)]
        if durable:
            self._options += ["--appendonly", "yes", "--appendfsync", "always"]
        self._port = find_free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """As `REASEQ_REDIS` takes it."""
        return f"{HOST}:{self._port}"

    @property
    def client(self) -> redis.Redis:
        """A client for the raw bytes."""
        return redis.Redis(host=HOST, port=self._port)

    def start_server(self) -> Self:
        """Starts the server and waits until it has read its data."""
        command = ["redis-server", "--bind", HOST, "--port", str(self._port), *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while not self.is_answering():
            if time.monotonic() > deadline_s:
                self.kill_server()
                raise RuntimeError(f"Redis did not come up within {_START_TIMEOUT_S:g} s")
            time.sleep(0.01)
        return self

    def kill_server(self) -> None:
        """Ends the server at once."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self.start_server()

    def __exit__(self, *_error: object) -> None:
        self.kill_server()

    def is_answering(self) -> bool:
        """Whether the server takes commands."""
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False
