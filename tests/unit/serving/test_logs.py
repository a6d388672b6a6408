"""Every log line of a request names it, and so does its answer."""

import asyncio
import io
import json
import logging
import sys

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from serving.gateway.json_logs import (
    RequestIdMiddleware,
    bind_request_id,
    configure_json_logs,
    make_json_formatter,
)


@pytest.fixture
def lines():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("serving.tested")
    logger.addHandler(handler)
    before = {root_handler: root_handler.formatter for root_handler in logging.getLogger().handlers}
    configure_json_logs()
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.removeHandler(handler)
    for root_handler, formatter in before.items():
        root_handler.setFormatter(formatter)


async def _answer(request):
    logging.getLogger("serving.tested").warning("slow: %s", "store\n{")
    return PlainTextResponse("")


CLIENT = TestClient(RequestIdMiddleware(Starlette(routes=[Route("/", _answer)])))


def test_a_request_is_named_in_its_lines_and_its_answer(lines):
    names = [CLIENT.get("/").headers["x-request-id"] for _ in range(2)]
    assert len(set(names)) == 2
    assert [line["request_id"] for line in lines()] == names
    assert lines()[0] | {"time": "", "request_id": ""} == {
        "time": "",
        "level": "WARNING",
        "logger": "serving.tested",
        "message": "slow: store\n{",
        "request_id": "",
    }


def test_a_callers_own_name_comes_back_and_is_another_field(lines):
    for _ in range(2):
        assert CLIENT.get("/", headers={"x-request-id": "page-7"}).headers["x-request-id"] == "page-7"
    first, second = lines()
    assert first["trace_id"] == second["trace_id"] == "page-7"
    assert first["request_id"] != second["request_id"]


@pytest.mark.parametrize("name", ["x" * 257, "caf\u00e9", ""])
def test_a_name_that_is_none_is_not_taken(lines, name):
    assert CLIENT.get("/", headers={"x-request-id": name.encode("latin-1")}).headers["x-request-id"] != name
    assert "trace_id" not in lines()[0]


def test_a_request_may_have_a_name_that_no_header_can_hold():
    async def answer(request):
        bind_request_id("\u202e\n7/a")
        return PlainTextResponse("")

    client = TestClient(RequestIdMiddleware(Starlette(routes=[Route("/", answer)])))
    assert client.get("/").headers["x-request-id"] == "%E2%80%AE%0A7/a"


def test_requests_at_once_keep_their_names(lines):
    async def work(name):
        bind_request_id(name)
        await asyncio.sleep(0)
        logging.getLogger("serving.tested").warning(name)

    async def all_of_them():
        await asyncio.gather(*(work(f"r{number}") for number in range(3)))

    asyncio.run(all_of_them())
    assert all(line["request_id"] == line["message"] for line in lines())


def test_an_error_comes_with_its_trace():
    try:
        raise ValueError("broken")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 1, "failed", (), sys.exc_info())
    assert "ValueError: broken" in json.loads(make_json_formatter().format(record))["error"]
