"""A real gateway that is asked to end, or is killed, while it answers; Triton is not there, so answers are
degraded."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from served_shop import ITEMS, Served, free_ports

from serving.config import ServingConfig
from serving.deployment.deploy_rankers import deploy_rankers
from serving.deployment.local_stack import start_gateway
from serving.deployment.server_processes import is_http_ok
from serving.event_log.log_tables import read_events, read_exposures

pytestmark = pytest.mark.integration


@pytest.fixture
def config(served: Served, tmp_path: Path) -> ServingConfig:
    (tmp_path / "feature_store").symlink_to(served.config.feature_store)
    ports = dict(zip(("http_port", "grpc_port", "metrics_port"), free_ports(3), strict=True))
    triton = served.config.triton.model_copy(update=ports)
    gateway = served.config.gateway.model_copy(update={"port": free_ports(1)[0], "deadline_ms": 500})
    config = served.config.model_copy(update={"triton": triton, "gateway": gateway}).in_folders(
        tmp_path / "serving"
    )
    deploy_rankers({"all": served.baseline}, config, state=config.state)
    return config


class Callers:
    """Threads that post, one new connection each time, as long as they are answered and `goes_on` says so."""

    def __init__(self, url: str, goes_on: Callable[[], bool]) -> None:
        self.acknowledged: set[str] = set()
        self.answered: set[str] = set()
        self.unanswered: list[str] = []
        self._url, self._goes_on = url, goes_on
        self.busy = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(4)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)

    def _call(self, caller: int) -> None:
        number = 0
        while self._goes_on():
            name, number = f"{caller}-{number}", number + 1
            event = {"user_id": "u", "item_id": name, "event_type": "click"}
            try:
                _post(f"{self._url}/events", {"events": [event]})
                self.acknowledged.add(name)
                _post(f"{self._url}/rank", {"user_id": "u", "candidates": ITEMS, "request_id": name})
                self.answered.add(name)
            except OSError as error:
                self.unanswered.append(f"{name}: {error}")
                return
            if number == 5:
                self.busy.set()


def _post(url: str, body: Any) -> None:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.status in (200, 202)


def _check_log(config: ServingConfig, callers: Callers) -> None:
    assert callers.acknowledged <= set(read_events(config.event_log_folder)["item_id"])
    assert callers.answered <= set(read_exposures(config.event_log_folder)["request_id"])


def test_on_sigterm_it_says_so_answers_what_comes_and_ends(config: ServingConfig) -> None:
    gateway = start_gateway(config)
    url = f"http://127.0.0.1:{config.gateway.port}"
    try:
        gateway.wait_ready(180)
        callers = Callers(url, lambda: is_http_ok(f"{url}/readyz"))  # as a load balancer does
        assert callers.busy.wait(60)
    finally:
        code = gateway.stop()
    callers.join()
    assert code == 0
    assert callers.unanswered == []
    _check_log(config, callers)


def test_a_killed_gateway_loses_nothing_that_it_acknowledged(config: ServingConfig) -> None:
    gateway = start_gateway(config)
    url = f"http://127.0.0.1:{config.gateway.port}"
    try:
        gateway.wait_ready(180)
        callers = Callers(url, lambda: True)
        assert callers.busy.wait(60)
    finally:
        gateway.kill()
    callers.join()
    assert len(callers.unanswered) == 4
    _check_log(config, callers)
