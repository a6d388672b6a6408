"""Images of servers come up as the user that the manifests name, with nothing in their folders."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import docker
import pytest
from docker.models.containers import Container
from docker.types import Mount
from step_containers import find_image

from components.images import SERVE_IMAGE, TRITON_IMAGE
from serving.config import CONFIG_ENV, ServingConfig

pytestmark = pytest.mark.containers
_START_S = 120.0
_USER = 10001


def find_free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def serve(engine: docker.DockerClient, image: str, command: list[str], **options: Any) -> Iterator[Container]:
    """Runs a server on this machine's network, as the user of its image."""
    # Podman's health checks need systemd; the tests ask the servers themselves.
    no_checks = {"test": ["NONE"]}
    container = engine.containers.run(
        find_image(engine, image),
        command,
        detach=True,
        network_mode="host",
        healthcheck=no_checks,
        **options,
    )
    try:
        yield container
    finally:
        container.remove(force=True)


def ask(container: Container, address: str) -> tuple[int, str]:
    """The first answer of a server that starts: status and text."""
    deadline = time.monotonic() + _START_S
    while True:
        try:
            with urlopen(address, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()
        except (URLError, OSError):
            container.reload()
            assert container.status in ("created", "running"), container.logs().decode()
            assert time.monotonic() < deadline, container.logs().decode()
            time.sleep(0.2)


def read_components(container: Container) -> set[str]:
    """The packages that the image says are in it."""
    sbom = json.loads(container.exec_run(["cat", "/opt/venv/sbom.cdx.json"]).output)
    return {component["name"] for component in sbom["components"]}


def test_the_gateway_without_torch_lives_and_says_what_it_waits_for(
    engine: docker.DockerClient, tmp_path: Path
) -> None:
    config = ServingConfig(state=Path("/tmp/state"), feature_store=Path("/tmp/features"))
    config_path = tmp_path / "serving.json"
    config_path.write_text(config.model_dump_json())
    config_path.chmod(0o644)
    port = find_free_port()
    command = ["bentoml", "serve", "serving.gateway.gateway_app:Gateway", "--host", "127.0.0.1"]
    options = {
        "environment": {CONFIG_ENV: "/etc/serving.json"},
        "mounts": [Mount(target="/etc/serving.json", source=str(config_path), type="bind", read_only=True)],
    }
    with serve(engine, SERVE_IMAGE, [*command, "--port", str(port)], **options) as container:
        assert ask(container, f"http://127.0.0.1:{port}/livez")[0] == 200
        status, text = ask(container, f"http://127.0.0.1:{port}/readyz")
        assert status == 503
        assert "no ranker is deployed in /tmp/state" in text
        done = container.exec_run(["python", "-c", "import os; print(os.getuid())"])
        assert int(done.output) == _USER
        missing = container.exec_run(["python", "-c", "import torch"])
        assert b"No module named 'torch'" in missing.output
        named = read_components(container)
        assert {"bentoml", "feast", "reaseq"} <= named
        assert not {"torch", "mypy", "pip"} & named


def test_triton_serves_without_a_model(engine: docker.DockerClient) -> None:
    http, grpc, metrics = find_free_port(), find_free_port(), find_free_port()
    ports = [f"--http-port={http}", f"--grpc-port={grpc}", f"--metrics-port={metrics}"]
    options = ["--model-repository=/tmp", "--model-control-mode=explicit", "--http-address=127.0.0.1"]
    with serve(engine, TRITON_IMAGE, ["tritonserver", *options, *ports]) as container:
        assert ask(container, f"http://127.0.0.1:{http}/v2/health/ready")[0] == 200
        _, text = ask(container, f"http://127.0.0.1:{http}/v2")
        assert json.loads(text)["name"] == "triton"
        assert "nvidia-pytriton" in read_components(container)
        done = container.exec_run(["python", "-c", "import os; print(os.getuid())"])
        assert int(done.output) == _USER
