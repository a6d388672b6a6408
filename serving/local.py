"""The serving side on one machine: a real Triton and the gateway as child processes on the loopback address."""

import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from contracts.artifacts import write_text
from serving.config import CONFIG_ENV, ServingConfig
from serving.deploy import load_routed
from serving.processes import ServerProcess, require_free_port
from serving.routes import read_routes
from serving.triton_server import TritonServer, find_wheel


class LocalStack:
    """Starts Triton with the deployed rankers, then the gateway; stops both by process id.

    with LocalStack(config.at(state, feature_store)) as stack:
        requests.post(f"{stack.url}/rank", json={"user_id": "u1", "candidates": ["a", "b"]})
    """

    def __init__(self, config: ServingConfig) -> None:
        """Prepares, does not start.

        Args:
            config: with absolute folders (`ServingConfig.at`).
        """
        self._config = config
        self._triton = TritonServer(config.models, config.triton, scratch=config.state / "triton")
        self._gateway: ServerProcess | None = None

    @property
    def url(self) -> str:
        """Address of the gateway."""
        return f"http://{self._config.gateway.host}:{self._config.gateway.port}"

    @property
    def pids(self) -> dict[str, int | None]:
        """Process ids of the running servers."""
        return {"triton": self._triton.pid, "gateway": self._gateway.pid if self._gateway else None}

    def start(self) -> Self:
        """Starts both servers and waits until they are ready.

        Raises:
            UserError: nothing is deployed, the Triton environment is not there, or a port is taken.
            RuntimeError: a server did not come up; the message holds the end of its log.
        """
        read_routes(self._config.state)
        find_wheel(self._config.triton)
        gateway = self._config.gateway
        require_free_port(gateway.port, host=gateway.host, purpose="the gateway", setting="serving.gateway.port")
        try:
            # The gateway imports for half a minute; meanwhile Triton comes up.
            self._gateway = start_gateway(self._config)
            self._triton.start()
            load_routed(self._config)
            self._gateway.wait_ready(gateway.start_timeout_s)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Ends both servers."""
        if self._gateway:
            self._gateway.stop()
            self._gateway = None
        self._triton.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_gateway(config: ServingConfig) -> ServerProcess:
    """Starts a gateway; `wait_ready` of the process returns when it serves. Several may share a state folder."""
    state, gateway = config.state, config.gateway
    settings = state / f"serving-{gateway.port}.json"
    write_text(settings, config.model_dump_json(indent=1))
    options = {
        "--host": gateway.host,
        "--port": gateway.port,
        "--timeout-keep-alive": gateway.keep_alive_s,
        "--working-dir": Path(__file__).parents[1],
    }
    words = [str(word) for option in options.items() for word in option]
    return ServerProcess(
        [sys.executable, "-m", "bentoml", "serve", "serving.gateway:Gateway", *words],
        name="the gateway",
        ready_url=f"http://{gateway.host}:{gateway.port}/readyz",
        log=state / f"gateway-{gateway.port}.log",
        environment={CONFIG_ENV: str(settings), "BENTOML_HOME": str(state / "bentoml")},
    )
