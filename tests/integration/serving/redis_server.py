"""A real redis-server on a free loopback port, that can be stopped and started again on the same port."""

import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from served_shop import free_ports


class LocalRedis:
    """Keeps nothing on disk: after a restart it is empty."""

    def __init__(self, folder: Path) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            pytest.skip("no redis-server on this machine (Debian: apt-get install redis-server)")
        (self.port,) = free_ports(1)
        options = {"--bind": "127.0.0.1", "--port": str(self.port), "--save": "", "--dir": str(folder)}
        self._command = [binary, *(word for option in options.items() for word in option)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not _answers(self.port):
            assert time.monotonic() < deadline, "Redis did not come up"
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
