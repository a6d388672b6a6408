"""An engine for the session, with kfp's runner mended."""

import docker
import pytest
from container_engine import serve_engine
from kfp.local import docker_task_handler
from step_containers import find_image, run_step_container

from components.images import MAIN_IMAGE


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory):
    """A client of the engine; `DOCKER_HOST` names it meanwhile, and kfp runs steps with it."""
    with (
        serve_engine(tmp_path_factory.mktemp("engine")) as address,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("DOCKER_HOST", address)
        patch.setattr(docker_task_handler, "run_docker_container", run_step_container)
        client = docker.from_env()
        yield client
        client.close()


@pytest.fixture(scope="session")
def main_image(engine: docker.DockerClient) -> str:
    """The image of pipeline steps."""
    find_image(engine, MAIN_IMAGE)
    return MAIN_IMAGE
