"""A real tritonserver on this machine, started from the wheel in its own environment.

The wheel ships the server and its python backend; the backend folder has to be put together, and the backend's stub
needs the interpreter's own shared libraries on its path, or it mixes two Pythons.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from contracts.errors import UserError
from serving.config import TRITON_PYTHON_ENV, TritonConfig
from serving.processes import ServerProcess, require_free_port

_LOOPBACK: Final = "127.0.0.1"
_CHECKOUT: Final = Path(__file__).parents[1]
_PROBE: Final = (
    "import json, sysconfig; print(json.dumps([sysconfig.get_path('purelib'), "
    "sysconfig.get_config_var('LIBDIR'), sysconfig.get_python_version()]))"
)


class TritonWheel(NamedTuple):
    """Where the wheel's parts lie."""

    site_packages: Path
    python_libraries: Path
    python_version: str

    @property
    def root(self) -> Path:
        """Folder of the server."""
        return self.site_packages / "pytriton" / "tritonserver"


class TritonServer:
    """A tritonserver child process; models are loaded by explicit request only."""

    def __init__(self, repository: Path, config: TritonConfig, *, scratch: Path) -> None:
        """Prepares, does not start.

        Args:
            repository: the model repository.
            config: ports and limits.
            scratch: folder for the backend folder and the log.
        """
        self._repository = repository
        self._config = config
        self._scratch = scratch
        self._process: ServerProcess | None = None

    @property
    def pid(self) -> int | None:
        """Process id, once started."""
        return self._process.pid if self._process else None

    def start(self) -> Self:
        """Starts the server and waits until it is ready.

        Raises:
            UserError: the environment is not there, or a port is taken.
            RuntimeError: the server did not come up.
        """
        wheel = find_wheel(self._config)
        for name in ("http_port", "grpc_port", "metrics_port"):
            port = getattr(self._config, name)
            require_free_port(port, host=_LOOPBACK, purpose="Triton", setting=f"serving.triton.{name}")
        self._repository.mkdir(parents=True, exist_ok=True)
        self._process = ServerProcess(
            self._command(wheel, _prepare_backends(wheel, self._scratch / "backends")),
            name="Triton",
            ready_url=f"http://{_LOOPBACK}:{self._config.http_port}/v2/health/ready",
            log=self._scratch / "triton.log",
            environment={
                "LD_LIBRARY_PATH": f"{wheel.python_libraries}:{wheel.site_packages / 'nvidia_pytriton.libs'}",
                "PYTHONPATH": str(wheel.site_packages),
            },
        )
        self._process.wait_ready(self._config.start_timeout_s)
        return self

    def stop(self) -> None:
        """Ends the server."""
        if self._process:
            self._process.stop()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _command(self, wheel: TritonWheel, backends: Path) -> list[str]:
        options = {
            "model-repository": self._repository.resolve(),
            "backend-directory": backends.resolve(),
            "model-control-mode": "explicit",
            "http-address": _LOOPBACK,
            "http-port": self._config.http_port,
            "grpc-address": _LOOPBACK,
            "grpc-port": self._config.grpc_port,
            "metrics-address": _LOOPBACK,
            "metrics-port": self._config.metrics_port,
            "exit-timeout-secs": 5,
        }
        return [str(wheel.root / "bin" / "tritonserver"), *(f"--{name}={value}" for name, value in options.items())]


def find_wheel(config: TritonConfig) -> TritonWheel:
    """Finds the Triton environment.

    Raises:
        UserError: it is not there.
    """
    python = config.python or Path(os.environ.get(TRITON_PYTHON_ENV, _CHECKOUT / ".venv-triton" / "bin" / "python"))
    advice = f"run `make setup`, or set {TRITON_PYTHON_ENV} to the python of an environment with nvidia-pytriton."
    if not python.is_file():
        raise UserError(f"no Triton environment: {python} does not exist; {advice}")
    probe = subprocess.run([str(python.absolute()), "-c", _PROBE], capture_output=True, text=True, check=True)
    site_packages, libraries, version = json.loads(probe.stdout)
    wheel = TritonWheel(Path(site_packages), Path(libraries), version)
    if not (wheel.root / "bin" / "tritonserver").is_file():
        raise UserError(f"no Triton server in the environment of {python}; {advice}")
    return wheel


def _prepare_backends(wheel: TritonWheel, folder: Path) -> Path:
    backend = folder / "python"
    stub = wheel.root / "python_backend_stubs" / wheel.python_version / "triton_python_backend_stub"
    shutil.copytree(wheel.root / "backends" / "python", backend, dirs_exist_ok=True)
    shutil.copy2(stub, backend)
    return folder
