import signal
import socket
import sys

import psutil
import pytest

from contracts.errors import UserError
from serving.config import CONFIG_ENV, TRITON_PYTHON_ENV, ServingConfig, TritonConfig
from serving.deployment.deploy_rankers import open_triton_control
from serving.deployment.local_stack import LocalStack
from serving.deployment.server_processes import ServerProcess, require_free_port
from serving.triton.triton_server import find_triton_wheel


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_taken_port_is_named_with_its_setting():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            UserError, match=rf"port {port} for Triton is not free.*serving\.triton\.http_port"
        ):
            require_free_port(port, host="127.0.0.1", purpose="Triton", setting="serving.triton.http_port")


def test_no_triton_environment_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv(TRITON_PYTHON_ENV, str(tmp_path / "python"))
    with pytest.raises(UserError, match="make setup"):
        find_triton_wheel()


def test_an_environment_without_the_wheel_names_the_remedy(monkeypatch):
    monkeypatch.setenv(TRITON_PYTHON_ENV, sys.executable)
    with pytest.raises(UserError, match=r"no Triton server in the environment.*make setup"):
        find_triton_wheel()


def test_a_remote_triton_that_is_away_is_not_started_here(tmp_path):
    config = ServingConfig(
        state=tmp_path, triton=TritonConfig(host="localhost.invalid", grpc_port=_free_port())
    )
    with pytest.raises(UserError, match="no Triton answers at"), open_triton_control(config):
        pass


def test_a_server_that_dies_says_why(tmp_path):
    url = f"http://127.0.0.1:{_free_port()}/"
    command = [sys.executable, "-c", "print('bad option'); raise SystemExit(3)"]
    server = ServerProcess(command, name="the server", ready_url=url, log=tmp_path / "log", environment={})
    with pytest.raises(RuntimeError, match=r"ended with code 3:\nbad option"):
        server.wait_ready(20)


_PARENT = """
import subprocess, sys, time
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(worker.pid, flush=True)
time.sleep(600)
"""


def test_workers_with_sessions_of_their_own_end_with_their_server(tmp_path):
    log = tmp_path / "log"
    command = [sys.executable, "-c", _PARENT]
    server = ServerProcess(command, name="the server", ready_url="", log=log, environment={})
    while not (text := log.read_text()).endswith("\n"):
        assert psutil.pid_exists(server.pid)
    worker = psutil.Process(int(text))
    assert server.kill() == -signal.SIGKILL
    psutil.wait_procs([worker], timeout=20)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


def test_a_local_stack_needs_a_deployment(tmp_path):
    with pytest.raises(UserError, match="run the deploy step"):
        LocalStack(ServingConfig().in_folders(tmp_path)).start()


def test_the_gateway_config_must_be_named_and_valid(tmp_path, monkeypatch):
    monkeypatch.delenv(CONFIG_ENV, raising=False)
    with pytest.raises(UserError, match=CONFIG_ENV):
        ServingConfig.from_environment()
    (tmp_path / "serving.json").write_text('{"stat": "x"}')
    monkeypatch.setenv(CONFIG_ENV, str(tmp_path / "serving.json"))
    with pytest.raises(UserError, match="stat"):
        ServingConfig.from_environment()
    (tmp_path / "serving.json").write_text(ServingConfig().in_folders(tmp_path / "s").model_dump_json())
    assert ServingConfig.from_environment().feature_store == tmp_path / "feature_store"
