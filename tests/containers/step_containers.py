"""Steps in their images by `kfp.local.DockerRunner`, whose report of a failed container is put right."""

import os
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.types import Mount
from kfp import local


def find_image(client: docker.DockerClient, name: str) -> str:
    """The name under which the engine knows one of the project's images; skips where it was not built."""
    tags = [tag for image in client.images.list() for tag in image.tags]
    found = [tag for tag in tags if Path(tag).name == name]
    if not found:
        environment = name.removeprefix("reaseq-").partition(":")[0]
        pytest.skip(f"no image {name}; `scripts/build_images.sh docker {environment}` builds it")
    return found[0]


def make_runner(home: Path) -> local.DockerRunner:
    """A runner whose steps see the run's folder under its own path, as its owner, on the host's network."""
    return local.DockerRunner(
        mounts=[Mount(target=str(home), source=str(home), type="bind")],
        user=f"{os.getuid()}:{os.getgid()}",
        network_mode="host",
    )


def run_step_container(
    client: docker.DockerClient, image: str, command: list[str], volumes: dict[str, Any], **options: Any
) -> int:
    """Runs a container to its end, shows its lines, and returns its exit code.

    kfp's own function lets the engine remove the container. It then asks a container that is gone how it
    ended, and takes the missing answer for success.
    """
    container = client.containers.run(image=image, command=command, detach=True, volumes=volumes, **options)
    try:
        for line in container.logs(stream=True):
            print(line.decode(errors="replace"), end="")
        return int(container.wait()["StatusCode"])
    finally:
        container.remove(force=True)
