"""The serving side on one machine: a real Triton and the gateway as child processes."""

import sys
from pathlib import Path
from typing import Self

from contracts.artifacts import write_text
from serving.config import CONFIG_ENV, KEEP_ALIVE_S, ServingConfig
from serving.deployment.deploy_rankers import load_routed_models
from serving.deployment.routes import read_routes
from serving.deployment.server_processes import ServerProcess, require_free_port
from serving.triton.triton_server import find_triton_wheel, start_triton


class LocalStack:
    """Starts Triton with the deployed rankers, then the gateway; stops both by process id.

    with LocalStack(config.in_folders(state, feature_store)) as stack:
        requests.post(f"{stack.url}/rank", json={"user_id": "u1", "candidates": ["a", "b"]})
    """

    def __init__(self, config: ServingConfig) -> None:
        """Prepares, does not start.

        Args:
            config: with absolute folders (`ServingConfig.in_folders`).
        """
        self._config = config
        self._servers: dict[str, ServerProcess] = {}

    @property
    def url(self) -> str:
        """Address of the gateway."""
        return f"http://{self._config.gateway.host}:{self._config.gateway.port}"

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the running servers, `triton` and `gateway`."""
        return {name: server.pid for name, server in self._servers.items()}

    def start(self) -> Self:
        """Starts both servers and waits until they are ready.

        Raises:
            UserError: nothing is deployed, the Triton environment is not there, or a port is taken.
            RuntimeError: a server did not come up; the message holds the end of its log.
        """
        config, gateway = self._config, self._config.gateway
        read_routes(config.state)
        find_triton_wheel()
        setting = "serving.gateway.port"
        require_free_port(gateway.port, host=gateway.host, purpose="the gateway", setting=setting)
        try:
            # The gateway imports for half a minute; meanwhile Triton comes up.
            self._servers["gateway"] = start_gateway(config)
            scratch = config.state / "triton"
            self._servers["triton"] = start_triton(config.model_repository, config.triton, scratch=scratch)
            load_routed_models(config)
            self._servers["gateway"].wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Ends both servers, the gateway first."""
        for server in self._servers.values():
            server.stop()
        self._servers = {}

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_gateway(config: ServingConfig) -> ServerProcess:
    """Starts a gateway and does not wait until it is ready. Several may share a state folder."""
    state, gateway = config.state, config.gateway
    config_path = state / f"serving-{gateway.port}.json"
    write_text(config_path, config.model_dump_json(indent=1))
    cli_options = {
        "--host": gateway.host,
        "--port": gateway.port,
        "--timeout-keep-alive": KEEP_ALIVE_S,
        "--working-dir": Path(__file__).parents[2],
    }
    option_words = [str(word) for option in cli_options.items() for word in option]
    return ServerProcess(
        [sys.executable, "-m", "bentoml", "serve", "serving.gateway.gateway_app:Gateway", *option_words],
        name="the gateway",
        ready_url=f"http://{gateway.host}:{gateway.port}/readyz",
        log=state / f"gateway-{gateway.port}.log",
        environment={CONFIG_ENV: str(config_path), "BENTOML_HOME": str(state / "bentoml")},
    )
