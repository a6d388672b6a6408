"""An engine that speaks Docker's API: Docker itself, or Podman started for the tests.

Podman runs in a mount namespace of its own, since a container has no control groups to give away.
"""

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException

_START_S = 60.0
_MAX_FILES = 20_000
_MAX_PROCESSES = 8_192
_PRIVATE_MOUNTS = 'umount /sys/fs/cgroup/unified 2> /dev/null; exec "$@"'


@contextmanager
def serve_engine(folder: Path) -> Iterator[str]:
    """The address of an engine, for `DOCKER_HOST`; skips where there is none.

    Args:
        folder: takes the socket and settings of an engine that has to be started.
    """
    address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if _answers(address):
        yield address
        return
    if not shutil.which("podman") or os.geteuid() != 0:
        pytest.skip("no Docker answers, and Podman is not installed or may not start (it needs root here)")
    settings_path, socket_path = folder / "containers.conf", folder / "podman.sock"
    settings_path.write_text(_describe_engine())
    command = ["podman", "system", "service", "--time=0", f"unix://{socket_path}"]
    with (folder / "podman.log").open("wb") as log:
        engine = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "bash", "-c", _PRIVATE_MOUNTS, "_", *command],
            env=os.environ | {"CONTAINERS_CONF": str(settings_path)},
            stdout=log,
            stderr=log,
        )
        try:
            _await_engine(engine, f"unix://{socket_path}", folder / "podman.log")
            yield f"unix://{socket_path}"
        finally:
            engine.terminate()
            engine.wait()


def _describe_engine() -> str:
    # Podman would raise both limits beyond what it may where it runs in a container itself.
    num_files = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], _MAX_FILES)
    return f"""
[containers]
cgroups = "disabled"
default_ulimits = ["nofile={num_files}:{num_files}", "nproc={_MAX_PROCESSES}:{_MAX_PROCESSES}"]
[engine]
runtime = "crun"
events_logger = "file"
"""


def _await_engine(engine: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while not _answers(address):
        is_starting = engine.poll() is None and time.monotonic() < deadline
        assert is_starting, f"podman: {log.read_text()}"
        time.sleep(0.1)


def _answers(address: str) -> bool:
    try:
        client = docker.DockerClient(base_url=address)
    except DockerException:
        return False
    try:
        return bool(client.ping())
    except (DockerException, OSError):
        return False
    finally:
        client.close()
