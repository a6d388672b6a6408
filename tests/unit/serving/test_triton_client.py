"""The client against real gRPC servers that fail as they are told to."""

import asyncio
import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.config import TritonConfig
from serving.triton.triton_client import (
    TritonControl,
    TritonError,
    TritonScorer,
    list_servers,
    make_channel_target,
)

FEED = {"x": np.zeros((1, 2), np.float32)}


class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers [1, 2], or as the next entry of `failures` says."""

    def __init__(self):
        self.calls = 0
        self.failures = []
        self.seconds_left = []

    def ModelInfer(self, request, context):  # noqa: N802 - gRPC's name
        self.calls += 1
        self.seconds_left.append(context.time_remaining())
        if self.failures:
            context.abort(self.failures.pop(0), "as told")
        answer = service_pb2.ModelInferResponse(model_name=request.model_name)
        answer.outputs.add(name="score", datatype="FP32", shape=[1, 2])
        answer.raw_output_contents.append(np.array([[1, 2]], np.float32).tobytes())
        return answer


class Server:
    def __init__(self, port=0):
        self.servicer = Servicer()
        self._server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self.servicer, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._server.start()

    def stop(self):
        self._server.stop(None).wait()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.stop()


def _config(*servers: Server) -> TritonConfig:
    return TritonConfig(addresses=[f"127.0.0.1:{server.port}" for server in servers])


async def _score(scorer: TritonScorer, timeout_s: float = 20):
    return (await scorer.score("model", FEED, ("score",), timeout_s=timeout_s))["score"].tolist()


def _run(config: TritonConfig, work):
    async def all_of_it():
        scorer = TritonScorer(config)
        try:
            return await work(scorer)
        finally:
            await scorer.close()

    return asyncio.run(all_of_it())


def test_every_call_has_a_deadline(server):
    assert _run(_config(server), _score) == [[1, 2]]
    assert 0 < server.servicer.seconds_left[0] <= 20


def test_only_a_server_that_is_away_is_tried_again(server):
    server.servicer.failures = [grpc.StatusCode.UNAVAILABLE] * 2
    assert _run(_config(server), _score) == [[1, 2]]
    assert server.servicer.calls == 3
    for status in (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ):
        server.servicer.failures, before = [status], server.servicer.calls
        with pytest.raises(TritonError, match=status.name):
            _run(_config(server), _score)
        assert server.servicer.calls == before + 1


def test_a_server_that_stays_away_is_not_waited_for_again_and_again(server):
    async def work(scorer):
        server.servicer.failures = [grpc.StatusCode.UNAVAILABLE] * 1000
        with pytest.raises(TritonError):
            await _score(scorer, timeout_s=0.2)
        before = server.servicer.calls
        with pytest.raises(TritonError):
            await _score(scorer)
        assert server.servicer.calls == before + 1
        server.servicer.failures = []
        assert await _score(scorer) == [[1, 2]]
        server.servicer.failures = [grpc.StatusCode.UNAVAILABLE]
        assert await _score(scorer) == [[1, 2]]

    _run(_config(server), work)


def test_several_servers_take_turns(server):
    other = Server()

    async def work(scorer):
        for _ in range(20):
            await _score(scorer)
        while min(server.servicer.calls, other.servicer.calls) < 5:  # both connections stand by now
            await _score(scorer)
        before = server.servicer.calls, other.servicer.calls
        for _ in range(10):
            await _score(scorer)
        assert (server.servicer.calls - before[0], other.servicer.calls - before[1]) == (5, 5)
        other.stop()
        for _ in range(10):
            assert await _score(scorer) == [[1, 2]]

    _run(_config(server, other), work)


def test_a_server_that_comes_back_is_found_again():
    first = Server()
    port = first.port

    async def work(scorer):
        assert await _score(scorer) == [[1, 2]]
        first.stop()
        with pytest.raises(TritonError, match=r"UNAVAILABLE|DEADLINE_EXCEEDED"):
            await _score(scorer, timeout_s=0.2)
        second = Server(port)
        answer = None
        async with asyncio.timeout(60):
            while answer is None:
                with contextlib.suppress(TritonError):
                    answer = await _score(scorer)
                await asyncio.sleep(0.01)
        second.stop()

    _run(TritonConfig(addresses=[f"127.0.0.1:{port}"]), work)


def test_a_name_is_left_to_grpc():
    assert make_channel_target(TritonConfig(host="triton", grpc_port=8001)) == "triton:8001"
    with pytest.raises(ValueError, match="addresses"):
        TritonConfig(addresses=["triton:8001"])


def test_nobody_there_is_said_within_the_deadline():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        config = TritonConfig(grpc_port=probe.getsockname()[1])
        with pytest.raises(TritonError, match=r"UNAVAILABLE|DEADLINE_EXCEEDED"):
            _run(config, lambda scorer: _score(scorer, timeout_s=0.2))


def test_a_name_that_stands_for_several_servers_is_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    known = ["10.0.0.2"]

    def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        if host != "triton":
            raise socket.gaierror("unknown")
        return [(None, None, None, "", (address, port)) for address in known]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    config = TritonConfig(host="triton")
    assert make_channel_target(config) == "triton:8001", "gRPC asks for the addresses again by itself"
    assert list_servers(config) == ("10.0.0.2:8001",)
    assert list_servers(TritonConfig(host="absent")) == ("absent:8001",)
    control = TritonControl(config)
    assert not control.join_new_servers()
    known.append("10.0.0.1")
    assert control.join_new_servers()
    assert not control.join_new_servers()
    control.close()
