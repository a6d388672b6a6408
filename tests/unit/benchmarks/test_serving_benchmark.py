import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice, repeat

import numpy as np
import pytest

from benchmarks.serving.degraded import compute_ndcg
from benchmarks.serving.faults import Fault, is_unanswered, measure_recoveries
from benchmarks.serving.fuzz import iter_hostile_requests
from benchmarks.serving.generated_inputs import ShopSize, make_two_code_embeddings
from benchmarks.serving.load_generator import (
    UNANSWERED,
    Address,
    Answer,
    Client,
    Request,
    iter_rank_requests,
    offer_load,
)
from benchmarks.serving.redis_server import find_free_ports
from benchmarks.serving.switch import Switch, measure_switch_s
from benchmarks.serving.throughput import measure_growth

RANK = Request("/rank", b"{}")


@contextmanager
def _gateway(together: int) -> Iterator[Address]:
    """A server that answers nobody before so many requests are there."""
    loop = asyncio.new_event_loop()
    arrived = asyncio.Semaphore(0)
    enough = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            assert head == b"POST /rank HTTP/1.1\r\n"
            while await reader.readline() != b"\r\n":
                pass
            await reader.readexactly(2)
            arrived.release()
            if arrived._value >= together:
                enough.set()
            await enough.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
        writer.close()

    server = loop.run_until_complete(asyncio.start_server(answer, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield server.sockets[0].getsockname()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def test_load_goes_on_while_answers_wait_and_their_wait_counts() -> None:
    with _gateway(together=10) as address:
        answers = offer_load(Client(lambda: [address], timeout_s=30), repeat(RANK), rate=200, seconds=0.05)
    assert [(answer.status, answer.body) for answer in answers] == [(200, b"done")] * 10
    assert answers[0].due_s == 0
    assert answers[0].latency_s >= answers[9].due_s, "the first one waited for the last one"
    assert all(0 <= answer.late_s <= answer.latency_s for answer in answers)


def test_a_long_load_keeps_no_bodies() -> None:
    with _gateway(together=1) as address:
        answers = offer_load(
            Client(lambda: [address], timeout_s=30), repeat(RANK), rate=200, seconds=0.05, keep_bodies=False
        )
    assert [(answer.status, answer.body, answer.request.body) for answer in answers] == [(200, b"", b"")] * 10


def test_the_next_gateway_answers_for_one_that_is_gone() -> None:
    gone = ("127.0.0.1", find_free_ports(1)[0])
    with _gateway(together=1) as address:
        (answer,) = offer_load(
            Client(lambda: [gone, address], timeout_s=30), repeat(RANK), rate=100, seconds=0.01
        )
    assert answer.status == 200
    (answer,) = offer_load(Client(lambda: [gone], timeout_s=0.05), repeat(RANK), rate=100, seconds=0.01)
    assert answer.status == UNANSWERED


def test_load_lasts_as_long_as_what_runs_aside() -> None:
    async def aside() -> None:
        while not answered:
            await asyncio.sleep(0)

    answered: list[int] = []
    with _gateway(together=3) as address:
        client = Client(lambda: [address], timeout_s=30)
        original = client.post_request

        async def post(request: Request) -> tuple[int, bytes]:
            found = await original(request)
            answered.append(1)
            return found

        client.post_request = post  # type: ignore[method-assign]
        assert len(offer_load(client, repeat(RANK), rate=200, seconds=0, aside=[aside()])) >= 3


def test_requests_are_the_same_for_a_seed_and_name_known_ids() -> None:
    size = ShopSize(items=20, users=3)
    first, second = (list(islice(iter_rank_requests(size, candidates=5, seed=7), 3)) for _ in range(2))
    assert first == second
    body = json.loads(first[0].body)
    assert set(body["candidates"]) < set(size.item_ids)
    assert len({json.loads(request.body)["request_id"] for request in first}) == 3


def _answer(
    due_s: float, *flags: str, status: int = 200, latency_s: float = 0.5, version: str = "a"
) -> Answer:
    body = json.dumps({"degraded": flags, "model_version": version}).encode()
    return Answer(due_s, 0, latency_s, status, body, RANK)


def test_recovery_ends_with_the_first_whole_answer_after_the_part_is_ready() -> None:
    faults = [Fault(killed_s=1, ready_s=4)]
    answers = [_answer(0), _answer(1.5, "model"), _answer(4.1, "model"), _answer(4.5), _answer(6)]
    assert measure_recoveries("model", faults, answers) == [pytest.approx(1.0)]
    assert measure_recoveries("model", faults, answers[:3]) == [float("inf")]


def test_recovery_of_a_pair_is_the_longest_answer_around_the_end_of_one() -> None:
    answers = [_answer(0.5, latency_s=0.1), _answer(1.1, latency_s=2.0), _answer(9, latency_s=5.0)]
    assert measure_recoveries(None, [Fault(1, 4)], answers) == [2.0]


def test_events_are_answered_by_another_status_than_rankings() -> None:
    assert is_unanswered(_answer(0, status=503))
    assert not is_unanswered(Answer(0, 0, 0, 202, b"", Request("/events", b"")))


def test_a_switch_lasts_until_the_first_answer_of_the_new_version() -> None:
    answers = [_answer(0, version="b"), _answer(2.1), _answer(3, version="b"), _answer(4, version="b")]
    assert measure_switch_s(Switch("rollback", 2.0, "b"), answers) == pytest.approx(1.5)


def test_growth_leaves_out_the_first_tenth() -> None:
    assert measure_growth(np.array([1, *[10] * 8, 11])) == pytest.approx(0.1)


def test_ndcg_of_the_best_order_is_one() -> None:
    gains = np.linspace(0.9, 0.1, 12).astype(np.float32)
    assert compute_ndcg(gains, range(12)) == pytest.approx(1)
    assert compute_ndcg(gains, range(11, -1, -1)) < 0.6


def test_hostile_requests_never_end_and_are_the_same_each_time() -> None:
    first, second = (list(islice(iter_hostile_requests(("127.0.0.1", 1)), 400)) for _ in range(2))
    assert first == second
    assert len(set(first)) > 390


def test_generated_vectors_are_rows_of_the_contract() -> None:
    frame = make_two_code_embeddings(["a", "b"], np.ones((2, 3), np.float32))
    assert frame["embedding"].to_list() == [[1, 1, 1]] * 2
    assert frame["semantic_id"].n_unique() == 2
