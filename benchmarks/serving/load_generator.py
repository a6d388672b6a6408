"""An open-loop load generator: arrivals on a fixed schedule, latency from the moment a request was due.

A request that waits for a free connection, or for this process, has that wait in its latency: a server that
stalls is not asked less meanwhile (no coordinated omission). Plain asyncio and HTTP/1.1 with kept
connections, since a general client's own time would take a third of the machine from the servers beside it.
"""

import asyncio
import contextlib
import gc
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from benchmarks.serving.generated_inputs import ShopSize

Address = tuple[str, int]
UNANSWERED: Final = 0
"""Status where no answer came."""
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSES: Final = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_PAUSE_S: Final = 0.01


class Request(NamedTuple):
    """What is sent."""

    path: str
    body: bytes


_NOT_KEPT: Final = Request("", b"")


class Answer(NamedTuple):
    """What came back."""

    due_s: float
    """When it should have been sent, seconds since the load began."""
    late_s: float
    """How much later it was sent: what this process itself adds to the latency."""
    latency_s: float
    """From then to the answer's last byte."""
    status: int
    body: bytes
    request: Request


class Client:
    """Posts to one gateway, or to the next one where that one is gone, as a load balancer would."""

    def __init__(self, addresses: Callable[[], Sequence[Address]], *, timeout_s: float) -> None:
        """Opens nothing yet.

        Args:
            addresses: gateways in the order in which they are tried.
            timeout_s: longest time for a request, all tries together.
        """
        self._addresses = addresses
        self._timeout_s = timeout_s
        self._idle: dict[Address, list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]] = {}

    async def post_request(self, request: Request) -> tuple[int, bytes]:
        """Status and body; status `UNANSWERED` where no gateway answered in time."""
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    for address in self._addresses():
                        try:
                            return await self.exchange_bytes(address, request)
                        except (OSError, asyncio.IncompleteReadError):
                            self._idle.pop(address, None)
                    await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            return UNANSWERED, b""

    async def exchange_bytes(self, address: Address, request: Request) -> tuple[int, bytes]:
        """Sends a request to one gateway; raises where the connection breaks."""
        idle_connections = self._idle.setdefault(address, [])
        reader, writer = (
            idle_connections.pop() if idle_connections else await asyncio.open_connection(*address)
        )
        try:
            writer.write(make_request_head(address, request) + request.body)
            answer_head = await reader.readuntil(b"\r\n\r\n")
            length_match = _LENGTH.search(answer_head)
            answer_body = await reader.readexactly(int(length_match[1]) if length_match else 0)
        except BaseException:
            writer.close()
            raise
        if _CLOSES.search(answer_head):
            writer.close()
        else:
            idle_connections.append((reader, writer))
        return int(answer_head[9:12]), answer_body


def offer_load(
    client: Client,
    requests: Iterator[Request],
    *,
    rate: float,
    seconds: float,
    aside: Sequence[Any] = (),
    keep_bodies: bool = True,
) -> list[Answer]:
    """Sends requests at a fixed rate, however long answers take.

    Args:
        client: where to.
        requests: at least `rate * seconds` of them.
        rate: requests per second.
        seconds: how long; coroutines of `aside` may take longer, then the load goes on until they are done.
        aside: coroutines that run meanwhile.
        keep_bodies: answers hold what was sent and received; a long load has no memory for that.
    """
    with _pause_garbage_collector():
        answers = asyncio.run(
            _offer_on_schedule(
                client, requests, rate=rate, seconds=seconds, aside=aside, keep_bodies=keep_bodies
            )
        )
    return sorted(answers)


def press_to_saturation(
    client: Client, requests: Iterator[Request], *, connections: int, seconds: float
) -> float:
    """Answered requests per second where each connection sends on after its answer: the saturation."""

    async def keep_asking(end_s: float) -> int:
        num_answered = 0
        while time.perf_counter() < end_s:
            num_answered += (await client.post_request(next(requests)))[0] == 200
        return num_answered

    async def ask_on_all_connections() -> float:
        end_s = time.perf_counter() + seconds
        return sum(await asyncio.gather(*(keep_asking(end_s) for _ in range(connections)))) / seconds

    return asyncio.run(ask_on_all_connections())


def iter_rank_requests(
    size: ShopSize, *, candidates: int, seed: int, limit: int | None = None
) -> Iterator[Request]:
    """Ranking requests without end: random users, random candidates, request ids that tell them apart."""
    rng = np.random.default_rng(seed)
    item_ids = np.array(size.item_ids)
    while True:
        candidate_ids = item_ids[rng.choice(size.items, candidates, replace=False)].tolist()
        user_id = f"user_{rng.integers(size.users)}"
        rank_body = {
            "user_id": user_id,
            "candidates": candidate_ids,
            "request_id": rng.bytes(12).hex(),
            "limit": limit,
        }
        yield Request("/rank", json.dumps(rank_body).encode())


@contextlib.contextmanager
def _pause_garbage_collector() -> Iterator[None]:
    """Python's garbage collector would look through all answers, and the schedule would wait for it."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _offer_on_schedule(
    client: Client,
    requests: Iterator[Request],
    *,
    rate: float,
    seconds: float,
    aside: Sequence[Any],
    keep_bodies: bool,
) -> list[Answer]:
    answers: list[Answer] = []

    async def send_request(request: Request, due_s: float) -> None:
        late_s = time.perf_counter() - load_start - due_s
        status, answer_body = await client.post_request(request)
        latency_s = time.perf_counter() - load_start - due_s
        kept_bodies = (answer_body, request) if keep_bodies else (b"", _NOT_KEPT)
        answers.append(Answer(due_s, late_s, latency_s, status, *kept_bodies))

    aside_tasks = [asyncio.create_task(coroutine) for coroutine in aside]
    load_start, num_sent = time.perf_counter(), 0
    async with asyncio.TaskGroup() as open_requests:
        while num_sent < rate * seconds or any(not aside_task.done() for aside_task in aside_tasks):
            due_s = num_sent / rate
            await asyncio.sleep(max(load_start + due_s - time.perf_counter(), 0))
            open_requests.create_task(send_request(next(requests), due_s))
            num_sent += 1
    await asyncio.gather(*aside_tasks)
    return answers


def make_request_head(address: Address, request: Request) -> bytes:
    """The HTTP head of a post."""
    head_lines = (
        f"POST {request.path} HTTP/1.1",
        f"host: {address[0]}:{address[1]}",
        "content-type: application/json",
        f"content-length: {len(request.body)}",
    )
    return ("\r\n".join(head_lines) + "\r\n\r\n").encode()
