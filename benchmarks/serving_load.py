"""An open-loop load generator: arrivals on a fixed schedule, latency from the moment a request was due.

A request that waits for a free connection, or for this process, has that wait in its latency: a server that stalls is
not asked less meanwhile (no coordinated omission). Plain asyncio and HTTP/1.1 with kept connections, since a
general client's own time would take a third of the machine from the servers beside it.
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
import numpy.typing as npt

from benchmarks.serving_inputs import ShopSize

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

    async def post(self, request: Request) -> tuple[int, bytes]:
        """Status and body; status `UNANSWERED` where no gateway answered in time."""
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    for address in self._addresses():
                        try:
                            return await self._exchange(address, request)
                        except (OSError, asyncio.IncompleteReadError):
                            self._idle.pop(address, None)
                    await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            return UNANSWERED, b""

    async def _exchange(self, address: Address, request: Request) -> tuple[int, bytes]:
        idle = self._idle.setdefault(address, [])
        reader, writer = idle.pop() if idle else await asyncio.open_connection(*address)
        try:
            writer.write(head_of(address, request) + request.body)
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length[1]) if length else 0)
        except BaseException:
            writer.close()
            raise
        if _CLOSES.search(head):
            writer.close()
        else:
            idle.append((reader, writer))
        return int(head[9:12]), body


def offer(
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
    with _no_collector():
        answers = asyncio.run(
            _offer(client, requests, rate=rate, seconds=seconds, aside=aside, keep_bodies=keep_bodies)
        )
    return sorted(answers)


def press(client: Client, requests: Iterator[Request], *, connections: int, seconds: float) -> float:
    """Answered requests per second where each connection sends its next request after the answer: the saturation."""

    async def one(until: float) -> int:
        answered = 0
        while time.perf_counter() < until:
            answered += (await client.post(next(requests)))[0] == 200
        return answered

    async def all_of_them() -> float:
        until = time.perf_counter() + seconds
        return sum(await asyncio.gather(*(one(until) for _ in range(connections)))) / seconds

    return asyncio.run(all_of_them())


def rank_requests(size: ShopSize, *, candidates: int, seed: int, limit: int | None = None) -> Iterator[Request]:
    """Ranking requests without end: random users, random candidates, request ids that tell them apart."""
    rng = np.random.default_rng(seed)
    names = np.array(size.item_ids)
    while True:
        chosen = names[rng.choice(size.items, candidates, replace=False)].tolist()
        user = f"user_{rng.integers(size.users)}"
        body = {"user_id": user, "candidates": chosen, "request_id": rng.bytes(12).hex(), "limit": limit}
        yield Request("/rank", json.dumps(body).encode())


def latencies_ms(answers: Sequence[Answer]) -> npt.NDArray[np.float64]:
    """Latencies of the answers, milliseconds."""
    return np.array([answer.latency_s for answer in answers]) * 1000


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    """Python's garbage collector would look through all answers again and again, and the schedule would wait for it."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _offer(
    client: Client,
    requests: Iterator[Request],
    *,
    rate: float,
    seconds: float,
    aside: Sequence[Any],
    keep_bodies: bool,
) -> list[Answer]:
    answers: list[Answer] = []

    async def send(request: Request, due_s: float) -> None:
        late_s = time.perf_counter() - began - due_s
        status, body = await client.post(request)
        latency_s = time.perf_counter() - began - due_s
        kept = (body, request) if keep_bodies else (b"", _NOT_KEPT)
        answers.append(Answer(due_s, late_s, latency_s, status, *kept))

    work = [asyncio.create_task(one) for one in aside]
    began, count = time.perf_counter(), 0
    async with asyncio.TaskGroup() as waiting:
        while count < rate * seconds or any(not task.done() for task in work):
            due_s = count / rate
            await asyncio.sleep(max(began + due_s - time.perf_counter(), 0))
            waiting.create_task(send(next(requests), due_s))
            count += 1
    await asyncio.gather(*work)
    return answers


def head_of(address: Address, request: Request) -> bytes:
    """The HTTP head of a post."""
    lines = (
        f"POST {request.path} HTTP/1.1",
        f"host: {address[0]}:{address[1]}",
        "content-type: application/json",
        f"content-length: {len(request.body)}",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
