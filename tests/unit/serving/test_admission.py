"""Who may come in, and how many at once: the gateway's own application, without what lies behind it."""

import asyncio

import httpx
import pytest
from fastapi.testclient import TestClient

from serving.config import TOKEN_ENV, GatewayConfig
from serving.gateway.admission import FORCED_ARMS_HEADER
from serving.gateway.gateway_app import app, describe_limits

EVENT = {"events": [{"user_id": "u", "item_id": "a", "event_type": "click"}]}


class FakeRanking:
    """Takes events; ranks only when it is told to."""

    def __init__(self):
        self.taken = []
        self.go_on = asyncio.Event()
        self.entered = 0

    async def log_posted_events(self, events):
        self.taken += events

    async def rank_candidates(self, request, forced_arms=None):
        self.entered += 1
        await self.go_on.wait()
        raise ConnectionError("broken")


@pytest.fixture
def ranking(monkeypatch):
    monkeypatch.delenv(TOKEN_ENV, raising=False)
    app.state.config = GatewayConfig(max_in_flight=2, max_body_bytes=1024)
    app.state.ranking = FakeRanking()
    yield app.state.ranking
    del app.state.config, app.state.ranking


def client(address: str = "127.0.0.1") -> TestClient:
    return TestClient(app, client=(address, 1))  # without `with`: no lifespan, so no store and no Triton


def test_one_too_many_is_sent_away_and_a_place_is_given_again(ranking) -> None:
    async def ask() -> list[int]:

        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://gateway"
        ) as caller:
            body = {"user_id": "u", "candidates": ["a"]}
            waiting = [asyncio.create_task(caller.post("/rank", json=body)) for _ in range(2)]
            while ranking.entered < 2:
                await asyncio.sleep(0)
            third = await caller.post("/rank", json=body)
            assert int(third.headers["retry-after"]) >= 1
            ranking.go_on.set()
            # They fail, or are given up: their places are free all the same.
            statuses = [third.status_code, *(answer.status_code for answer in await asyncio.gather(*waiting))]
            return [*statuses, (await caller.post("/rank", json=body)).status_code]

    assert asyncio.run(ask()) == [429, 500, 500, 500]


@pytest.mark.parametrize(
    ("header", "status"),
    [(None, 401), ("Bearer wrong", 401), ("secret", 401), ("Bearer secret", 202), ("Bearer ü", 401)],
)
def test_where_there_is_a_token_only_it_admits(ranking, monkeypatch, header: str | None, status: int) -> None:
    monkeypatch.setenv(TOKEN_ENV, "secret")
    headers = {} if header is None else {"authorization": header.encode("latin-1")}
    for address in ("10.0.0.7", "127.0.0.1"):
        assert client(address).post("/events", json=EVENT, headers=headers).status_code == status
    assert bool(ranking.taken) == (status == 202)


@pytest.mark.parametrize(
    ("address", "status"),
    [("127.0.0.1", 202), ("::1", 202), ("10.0.0.7", 401), ("2001:db8::1", 401), ("somebody", 401)],
)
def test_without_a_token_only_this_machine_writes(ranking, address: str, status: int) -> None:
    answer = client(address).post("/events", json=EVENT)
    assert answer.status_code == status
    assert status == 202 or TOKEN_ENV in answer.json()["detail"]


def test_who_may_not_write_is_told_so_before_the_body_is_read(ranking) -> None:
    assert client("10.0.0.7").post("/events", content=b"{broken").status_code == 401


def test_a_body_that_is_too_large_or_of_unknown_length_is_not_read(ranking) -> None:
    large = client().post("/events", content=b" " * 1025)
    assert large.status_code == 413
    assert "max_body_bytes" in large.json()["detail"]
    assert client().post("/events", content=iter([b"{}"])).status_code == 411


def test_arms_are_forced_only_with_the_right_to_write(ranking) -> None:
    body, headers = {"user_id": "u", "candidates": ["a"]}, {FORCED_ARMS_HEADER: "ranker=treatment"}
    assert client("10.0.0.7").post("/rank", json=body, headers=headers).status_code == 401
    assert client().post("/rank", json=body, headers={FORCED_ARMS_HEADER: "treatment"}).status_code == 422


def test_the_description_says_what_is_allowed(ranking) -> None:
    describe_limits(app, GatewayConfig(max_candidates=7))
    described = client().get("/openapi.json").json()
    schemas = described["components"]["schemas"]
    assert schemas["RankRequest"]["properties"]["candidates"]["maxItems"] == 7
    assert schemas["EventsRequest"]["properties"]["events"]["maxItems"] == 1000
    for path, statuses in {"/rank": {"401", "411", "413", "422", "429"}, "/events": {"401", "503"}}.items():
        assert statuses <= described["paths"][path]["post"]["responses"].keys()


@pytest.mark.parametrize(
    "body",
    [
        b"NaN",
        b"[1e400]",
        b'{"events": [{"user_id": "u", "item_id": "a", "event_type": "click", "price": NaN}]}',
        b'{"events": [{"user_id": "\\ud800", "item_id": "a", "event_type": "click"}]}',
        b'{"events": [], "\\ud800": Infinity}',
        b'{"events": "\xff"}',
    ],
)
def test_hostile_bodies_are_the_callers_fault(ranking, body: bytes) -> None:
    answer = client().post("/events", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert "detail" in answer.json()


def test_an_id_of_white_space_is_refused_in_words(ranking) -> None:
    answer = client().post("/rank", json={"user_id": "u", "candidates": ["a", "  "]})
    assert answer.json()["detail"][0]["msg"] == "An id must not be white space only"
    assert answer.json()["detail"][0]["loc"] == ["body", "candidates", 1]


def test_a_refused_page_says_which_candidate_is_bad_and_how_it_begins(ranking) -> None:
    app.state.config = GatewayConfig()
    answer = client().post("/rank", json={"user_id": "u", "candidates": ["a", "sku-" * 300, "b"]})
    assert answer.status_code == 422
    (problem,) = answer.json()["detail"]
    assert problem["loc"] == ["body", "candidates", 1]
    assert "1024" in problem["msg"]
    assert problem["input"].startswith("'sku-")
    assert len(problem["input"]) < 100
