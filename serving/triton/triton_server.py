"""A real tritonserver on this machine, started from the wheel in its own environment.

The wheel ships the server and its python backend. The backend folder has to be put together, and the
backend's stub needs the interpreter's own shared libraries on its path, or it mixes two Pythons.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

from contracts.errors import UserError
from serving.config import TRITON_PYTHON_ENV, TritonConfig
from serving.deployment.server_processes import ServerProcess, require_free_port

_LOOPBACK: Final = "127.0.0.1"
_DEFAULT_PYTHON: Final = Path(__file__).parents[2] / ".venv-triton" / "bin" / "python"
_PROBE_SCRIPT: Final = (
    "import json, sysconfig; print(json.dumps([sysconfig.get_path('purelib'), "
    "sysconfig.get_config_var('LIBDIR'), sysconfig.get_python_version()]))"
)


class TritonWheel(NamedTuple):
    """Where the wheel's parts lie."""

    site_packages: Path
    python_libraries: Path
    python_version: str

    @property
    def server_folder(self) -> Path:
        """Folder of the server."""
        return self.site_packages / "pytriton" / "tritonserver"


def start_triton(repository: Path, config: TritonConfig, *, scratch: Path) -> ServerProcess:
    """Starts a server and waits until it is ready; models are loaded by explicit request only.

    Args:
        repository: the model repository.
        config: ports and limits.
        scratch: folder for the backend folder and the log.

    Raises:
        UserError: the environment is not there, or a port is taken.
        RuntimeError: the server did not come up.
    """
    wheel = find_triton_wheel()
    for setting in ("http_port", "grpc_port", "metrics_port"):
        port = getattr(config, setting)
        require_free_port(port, host=_LOOPBACK, purpose="Triton", setting=f"serving.triton.{setting}")
    repository.mkdir(parents=True, exist_ok=True)
    options = {
        "model-repository": repository.resolve(),
        "backend-directory": _prepare_backends(wheel, scratch / "backends").resolve(),
        "model-control-mode": "explicit",
        "http-address": _LOOPBACK,
        "http-port": config.http_port,
        "grpc-address": _LOOPBACK,
        "grpc-port": config.grpc_port,
        "metrics-address": _LOOPBACK,
        "metrics-port": config.metrics_port,
        "exit-timeout-secs": 5,
    }
    program = str(wheel.server_folder / "bin" / "tritonserver")
    server = ServerProcess(
        [program, *(f"--{name}={value}" for name, value in options.items())],
        name="Triton",
        ready_url=f"http://{_LOOPBACK}:{config.http_port}/v2/health/ready",
        log=scratch / "triton.log",
        environment={
            "LD_LIBRARY_PATH": f"{wheel.python_libraries}:{wheel.site_packages / 'nvidia_pytriton.libs'}",
            "PYTHONPATH": str(wheel.site_packages),
        },
    )
    server.wait_ready()
    return server


def find_triton_wheel() -> TritonWheel:
    """Finds the Triton environment.

    Raises:
        UserError: it is not there.
    """
    python_path = Path(os.environ.get(TRITON_PYTHON_ENV, _DEFAULT_PYTHON))
    advice = f"run `make setup`, or set {TRITON_PYTHON_ENV} to a python with nvidia-pytriton."
    if not python_path.is_file():
        raise UserError(f"no Triton environment: {python_path} does not exist; {advice}")
    command = [str(python_path.absolute()), "-c", _PROBE_SCRIPT]
    probe = subprocess.run(command, capture_output=True, text=True, check=True)
    site_packages, python_libraries, python_version = json.loads(probe.stdout)
    wheel = TritonWheel(Path(site_packages), Path(python_libraries), python_version)
    if not (wheel.server_folder / "bin" / "tritonserver").is_file():
        raise UserError(f"no Triton server in the environment of {python_path}; {advice}")
    return wheel


def _prepare_backends(wheel: TritonWheel, folder: Path) -> Path:
    python_backend = folder / "python"
    stubs_folder = wheel.server_folder / "python_backend_stubs" / wheel.python_version
    shutil.copytree(wheel.server_folder / "backends" / "python", python_backend, dirs_exist_ok=True)
    shutil.copy2(stubs_folder / "triton_python_backend_stub", python_backend)
    return folder
