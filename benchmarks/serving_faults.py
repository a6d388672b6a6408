"""Each part is killed (SIGKILL) and started again under load, many times: who notices?

Two gateways share Triton, Redis and the state folder; the client goes to the other one where one is gone, as a load
balancer would. Rankings and events are posted at a fixed rate all the while. A request is unanswered where no gateway
gave a ranking (or took the events) in time; an answer is unmarked where a part was away the whole time and it does not
say so. An acknowledged event, or a ranking that does not say that its exposure is missing, is lost where the log's
files or the sink's streams do not hold it at the end.

Recovery counts from the moment when the part is ready again to the first answer that does not do without it; for a
gateway it is the longest that any request took around its end. How long a part takes to start is a row of its own.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from benchmarks.results import Row
from benchmarks.serving_inputs import FULL, QUICK, ShopSize
from benchmarks.serving_latency import NUM_CANDIDATES, row
from benchmarks.serving_load import Answer, Client, Request, offer, rank_requests
from benchmarks.serving_shop import ServedShop, serve_shop
from serving.event_sinks import FIELD
from serving.event_tables import read_events, read_exposures

_RATE: Final = 10.0
_SHOWN: Final = 10
_TIMEOUT_S: Final = 10.0
_DOWN_S, _UP_S = 1.0, 3.0
"""How long a part stays away after its end, and up before the next one."""
_KILL_S: Final = 0.2
"""An end takes its time to be seen."""
_DELIVERY_S, _POLL_S = 30.0, 1.0
"""How long the sink may take to get the last records."""
_EVENTS_EVERY: Final = 5
"""One request in so many posts events."""


class Fault(NamedTuple):
    """One end and restart; seconds since the load began."""

    killed_s: float
    started_s: float
    ready_s: float


class Part(NamedTuple):
    """Something that can fail."""

    kill: Callable[[], object]
    start: Callable[[], object]
    flag: str | None
    """What an answer says that did without it; None where another one of its kind takes over."""


def measure(*, quick: bool) -> list[Row]:
    """All rows of faults."""
    size, times = (QUICK, 2) if quick else (FULL, 20)
    found: dict[str, list[Fault]] = {}
    answers: dict[str, list[Answer]] = {}
    with TemporaryDirectory() as folder, serve_shop(Path(folder), size, gateways=2) as shop:
        requests = _requests(size)
        offer(Client(lambda: shop.addresses, timeout_s=_TIMEOUT_S), requests, rate=_RATE, seconds=5)  # warms up
        parts = _parts(shop)
        for name, part in parts.items():
            found[name] = []
            client = Client(lambda: shop.addresses, timeout_s=_TIMEOUT_S)
            faults = [_fail(part, times, found[name])]
            answers[name] = offer(client, requests, rate=_RATE, seconds=0, aside=faults)
        lost = _lost(shop, [answer for part in answers.values() for answer in part])
    return list(_rows({name: part.flag for name, part in parts.items()}, found, answers, lost))


def _parts(shop: ServedShop) -> dict[str, Part]:
    ports = cycle(list(shop.gateways))
    down: list[int] = []

    def kill_gateway() -> None:
        down.append(next(ports))
        shop.kill_gateway(down[-1])

    return {
        "redis": Part(shop.redis.kill, shop.redis.start, "feature_store"),
        "triton": Part(shop.kill_triton, shop.start_triton, "model"),
        "sink": Part(shop.sink.kill, shop.sink.start, "event_sink"),
        "gateway": Part(kill_gateway, lambda: shop.start_gateways(down[-1]), None),
    }


def _requests(size: ShopSize) -> Iterator[Request]:
    ranks = rank_requests(size, candidates=NUM_CANDIDATES, seed=2, limit=_SHOWN)
    for number, rank in enumerate(ranks):
        yield rank
        if number % _EVENTS_EVERY == 0:
            event = {"user_id": "user_1", "item_id": "item_1", "event_type": "click", "request_id": f"event_{number}"}
            yield Request("/events", json.dumps({"events": [event]}).encode())


async def _fail(part: Part, times: int, faults: list[Fault]) -> None:
    began = time.perf_counter()
    for _ in range(times):
        killed_s = time.perf_counter() - began
        await asyncio.to_thread(part.kill)
        await asyncio.sleep(_DOWN_S)
        started_s = time.perf_counter() - began
        await asyncio.to_thread(part.start)
        faults.append(Fault(killed_s, started_s, time.perf_counter() - began))
        await asyncio.sleep(_UP_S)


def _rows(
    flags: dict[str, str | None], found: dict[str, list[Fault]], answers: dict[str, list[Answer]], lost: int
) -> Iterator[Row]:
    times = len(next(iter(found.values())))
    data = f"Redis, Triton, event sink and one gateway of two killed {times} times each; {_RATE:g} requests/s"
    recoveries = {name: _recoveries(flags[name], found[name], answers[name]) for name in found}
    all_answers = [answer for part in answers.values() for answer in part]
    yield row("faults.unanswered", sum(map(_is_unanswered, all_answers)), "requests", "lower", data)
    yield row("faults.requests", len(all_answers), "requests", "higher", data)
    unmarked = sum(_unmarked(flags[name], found[name], answers[name]) for name in found)
    yield row("faults.unmarked", unmarked, "requests", "lower", data)
    yield row("faults.events_lost", lost, "records", "lower", data)
    yield row("faults.recovery_s", max(map(max, recoveries.values())), "s", "lower", data)
    for name, seconds in recoveries.items():
        yield row(f"faults.{name}.recovery_s", max(seconds), "s", "lower", data)
        starts = [fault.ready_s - fault.started_s for fault in found[name]]
        yield row(f"faults.{name}.start_s", max(starts), "s", "lower", data)


def _is_unanswered(answer: Answer) -> bool:
    return answer.status != (202 if answer.request.path == "/events" else 200)


def _flags(answer: Answer) -> list[str]:
    flags: list[str] = json.loads(answer.body)["degraded"]
    return flags


def _rankings(answers: Sequence[Answer]) -> list[Answer]:
    return [answer for answer in answers if answer.request.path == "/rank" and answer.status == 200]


def _recoveries(flag: str | None, faults: Sequence[Fault], answers: Sequence[Answer]) -> list[float]:
    if flag is None:
        around = [(fault.killed_s - 1, fault.ready_s) for fault in faults]
        return [max(a.latency_s for a in answers if low <= a.due_s <= high) for low, high in around]
    whole = [answer for answer in _rankings(answers) if flag not in _flags(answer)]
    ends = [(answer.due_s, answer.due_s + answer.latency_s) for answer in whole]
    return [min((end for due, end in ends if due >= f.ready_s), default=float("inf")) - f.ready_s for f in faults]


def _unmarked(flag: str | None, faults: Sequence[Fault], answers: Sequence[Answer]) -> int:
    def is_inside(answer: Answer) -> bool:
        end_s = answer.due_s + answer.latency_s
        return any(fault.killed_s + _KILL_S < answer.due_s and end_s < fault.started_s for fault in faults)

    return sum(flag is not None and is_inside(a) and flag not in _flags(a) for a in _rankings(answers))


def _lost(shop: ServedShop, answers: Sequence[Answer]) -> int:
    """Acknowledged events and unmarked exposures that the files or the streams do not hold."""
    events = {_request_id(answer) for answer in answers if answer.request.path == "/events" and answer.status == 202}
    exposures = {
        json.loads(answer.body)["request_id"] for answer in _rankings(answers) if "event_log" not in _flags(answer)
    }
    lost = [
        events - set(read_events(shop.config.events)["request_id"]),
        exposures - set(read_exposures(shop.config.events)["request_id"]),
        _missing(shop, "events", events),
        _missing(shop, "exposures", exposures),
    ]
    return sum(map(len, lost))


def _missing(shop: ServedShop, kind: str, ids: set[str]) -> set[str]:
    """Request ids that the sink's stream does not get in time."""
    stream = f"{{{shop.config.event_log.stream}}}:{kind}"
    deadline = time.monotonic() + _DELIVERY_S
    while True:
        entries = shop.sink.client.xrange(stream)
        missing = ids - {json.loads(entry[FIELD.encode()])["request_id"] for _, entry in entries}
        if not missing or time.monotonic() > deadline:
            return missing
        time.sleep(_POLL_S)


def _request_id(answer: Answer) -> str:
    request_id: str = json.loads(answer.request.body)["events"][0]["request_id"]
    return request_id
