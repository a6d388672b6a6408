"""SIGTERM is noticed at once and reaches the server later; from then on answers end their connections."""

import asyncio
import os
import signal

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from serving.gateway.connection_drain import CloseConnectionsMiddleware, ConnectionDrain


@pytest.fixture
def former():
    """The server's own handler; pytest's comes back afterwards."""
    calls = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
    yield calls
    signal.signal(signal.SIGTERM, before)


def test_the_server_hears_of_sigterm_once_and_later(former):
    async def work():
        drain = ConnectionDrain()
        drain.begin_on_sigterm(after_s=0.01)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            assert drain.has_begun
            assert former == []
        async with asyncio.timeout(20):
            while not former:
                await asyncio.sleep(0.001)
        assert former == [signal.SIGTERM]

    asyncio.run(work())


def test_answers_end_their_connection_once_the_drain_has_begun():
    async def answer(request):
        return PlainTextResponse("")

    drain = ConnectionDrain()
    client = TestClient(CloseConnectionsMiddleware(Starlette(routes=[Route("/", answer)]), drain))
    assert "connection" not in client.get("/").headers
    drain.has_begun = True
    assert client.get("/").headers["connection"] == "close"
