"""Who may come in, and how many at once."""

import asyncio

import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient

from serving.admission import Admission, require_right_to_write
from serving.config import TOKEN_ENV


def writable() -> FastAPI:
    app = FastAPI()

    @app.post("/", dependencies=[Depends(require_right_to_write)])
    def take() -> str:
        return "taken"

    return app


def test_one_too_many_is_sent_away_and_a_free_place_is_given_again() -> None:
    door = Admission(2)
    with door.enter():
        with door.enter(), pytest.raises(HTTPException) as refusal, door.enter():
            pass
        assert refusal.value.status_code == 429
        assert int(refusal.value.headers["retry-after"]) >= 1
        with door.enter():
            pass


def test_a_request_that_fails_or_is_given_up_leaves_its_place() -> None:
    door = Admission(1)
    with pytest.raises(ValueError, match="broken"), door.enter():
        raise ValueError("broken")

    async def given_up() -> None:
        with door.enter():
            await asyncio.Event().wait()

    async def give_up() -> None:
        task = asyncio.create_task(given_up())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(give_up())
    with door.enter():
        pass


@pytest.mark.parametrize(
    ("header", "status"),
    [(None, 401), ("Bearer wrong", 401), ("secret", 401), ("Bearer secret", 200), ("Bearer ü", 401)],
)
def test_where_there_is_a_token_only_it_admits(monkeypatch, header: str | None, status: int) -> None:
    monkeypatch.setenv(TOKEN_ENV, "secret")
    headers = {} if header is None else {"authorization": header.encode("latin-1")}
    for client in (TestClient(writable()), TestClient(writable(), client=("127.0.0.1", 1))):
        assert client.post("/", headers=headers).status_code == status


@pytest.mark.parametrize(
    ("address", "status"),
    [("127.0.0.1", 200), ("::1", 200), ("10.0.0.7", 401), ("2001:db8::1", 401), ("somebody", 401)],
)
def test_without_a_token_only_this_machine_writes(monkeypatch, address: str, status: int) -> None:
    monkeypatch.delenv(TOKEN_ENV, raising=False)
    answer = TestClient(writable(), client=(address, 1)).post("/")
    assert answer.status_code == status
    assert status == 200 or TOKEN_ENV in answer.json()["detail"]
