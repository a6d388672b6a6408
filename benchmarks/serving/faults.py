"""Each part is killed (SIGKILL) and started again under load, many times: who notices?

Two gateways share Triton, Redis and the state folder. The client goes to the other one where one is gone, as
a load balancer would. Rankings and events are posted at a fixed rate all the while. A request is unanswered
where no gateway gave a ranking (or took the events) in time. An acknowledged event, or a ranking that does
not say that its exposure is missing, is lost where the log's files or the sink's streams do not hold it at
the end.

Recovery counts from the moment when the part is ready again to the first answer that does not do without it.
For a gateway it is the longest that any request took around its end.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from benchmarks.serving.generated_inputs import FULL, QUICK, ShopSize
from benchmarks.serving.latency import NUM_CANDIDATES
from benchmarks.serving.load_generator import Answer, Request, iter_rank_requests, offer_load
from benchmarks.serving.served_shop import ServedShop, serve_generated_shop
from benchmarks.shared.results import Row, make_row
from serving.event_log.log_tables import read_events, read_exposures
from serving.event_log.redis_sink import RECORD_FIELD

_RATE: Final = 10.0
_SHOWN: Final = 10
_DOWN_S, _UP_S = 1.0, 3.0
"""How long a part stays away after its end, and up before the next one."""
_DELIVERY_S, _POLL_S = 30.0, 1.0
"""How long the sink may take to get the last records."""
_EVENTS_EVERY: Final = 5
"""One request in so many posts events."""


class Fault(NamedTuple):
    """One end and restart; seconds since the load began."""

    killed_s: float
    ready_s: float


class ServedPart(NamedTuple):
    """Something that can fail."""

    kill: Callable[[], object]
    start: Callable[[], object]
    missing_flag: str | None
    """What an answer says that did without it; None where another one of its kind takes over."""


def measure_fault_recovery(*, quick: bool) -> list[Row]:
    """All rows of faults."""
    size, num_kills = (QUICK, 2) if quick else (FULL, 20)
    faults_by_part: dict[str, list[Fault]] = {}
    answers_by_part: dict[str, list[Answer]] = {}
    with TemporaryDirectory() as folder, serve_generated_shop(Path(folder), size, gateways=2) as shop:
        requests = _iter_requests(size)
        offer_load(shop.open_client(), requests, rate=_RATE, seconds=5)  # warms up
        parts = _list_killable_parts(shop)
        for name, part in parts.items():
            faults_by_part[name] = []
            kills = _kill_repeatedly(part, num_kills, faults_by_part[name])
            client = shop.open_client()
            answers_by_part[name] = offer_load(client, requests, rate=_RATE, seconds=0, aside=[kills])
        all_answers = [answer for answers in answers_by_part.values() for answer in answers]
        num_lost = _count_lost_records(shop, all_answers)
    longest_recovery_s = max(
        recovery_s
        for name, part in parts.items()
        for recovery_s in measure_recoveries(part.missing_flag, faults_by_part[name], answers_by_part[name])
    )
    data = f"Redis, Triton, sink and one gateway of two killed {num_kills} times each; {_RATE:g} requests/s"
    num_unanswered = sum(map(is_unanswered, all_answers))
    return [
        make_row("serving.faults.unanswered", num_unanswered, unit="requests", better="lower", data=data),
        make_row("serving.faults.events_lost", num_lost, unit="records", better="lower", data=data),
        make_row("serving.faults.recovery_s", longest_recovery_s, unit="s", better="lower", data=data),
    ]


def _list_killable_parts(shop: ServedShop) -> dict[str, ServedPart]:
    gateway_ports = cycle(list(shop.gateways))
    killed_ports: list[int] = []

    def kill_gateway() -> None:
        killed_ports.append(next(gateway_ports))
        shop.kill_gateway(killed_ports[-1])

    return {
        "redis": ServedPart(shop.redis.kill_server, shop.redis.start_server, "feature_store"),
        "triton": ServedPart(shop.kill_triton, shop.start_triton, "model"),
        "sink": ServedPart(shop.sink.kill_server, shop.sink.start_server, "event_sink"),
        "gateway": ServedPart(kill_gateway, lambda: shop.start_gateways(killed_ports[-1]), None),
    }


def _iter_requests(size: ShopSize) -> Iterator[Request]:
    rank_requests = iter_rank_requests(size, candidates=NUM_CANDIDATES, seed=2, limit=_SHOWN)
    for number, rank_request in enumerate(rank_requests):
        yield rank_request
        if number % _EVENTS_EVERY == 0:
            event = {"user_id": "user_1", "item_id": "item_1", "event_type": "click"}
            event["request_id"] = f"event_{number}"
            yield Request("/events", json.dumps({"events": [event]}).encode())


async def _kill_repeatedly(part: ServedPart, num_kills: int, faults: list[Fault]) -> None:
    load_start = time.perf_counter()
    for _ in range(num_kills):
        killed_s = time.perf_counter() - load_start
        await asyncio.to_thread(part.kill)
        await asyncio.sleep(_DOWN_S)
        await asyncio.to_thread(part.start)
        faults.append(Fault(killed_s, time.perf_counter() - load_start))
        await asyncio.sleep(_UP_S)


def is_unanswered(answer: Answer) -> bool:
    """Whether a request was not served, by the status that its path promises."""
    return answer.status != (202 if answer.request.path == "/events" else 200)


def _read_degraded_flags(answer: Answer) -> list[str]:
    flags: list[str] = json.loads(answer.body)["degraded"]
    return flags


def _select_rankings(answers: Sequence[Answer]) -> list[Answer]:
    return [answer for answer in answers if answer.request.path == "/rank" and answer.status == 200]


def measure_recoveries(flag: str | None, faults: Sequence[Fault], answers: Sequence[Answer]) -> list[float]:
    """Seconds of recovery of each fault; `flag` is what answers say that did without the part."""
    if flag is None:
        return [
            max(one.latency_s for one in answers if fault.killed_s - 1 <= one.due_s <= fault.ready_s)
            for fault in faults
        ]
    whole_answers = [one for one in _select_rankings(answers) if flag not in _read_degraded_flags(one)]
    whole_times = [(answer.due_s, answer.due_s + answer.latency_s) for answer in whole_answers]
    return [
        min((end_s for due_s, end_s in whole_times if due_s >= fault.ready_s), default=float("inf"))
        - fault.ready_s
        for fault in faults
    ]


def _count_lost_records(shop: ServedShop, answers: Sequence[Answer]) -> int:
    """Acknowledged events and unmarked exposures that the files or the streams do not hold."""
    event_ids = {
        str(json.loads(answer.request.body)["events"][0]["request_id"])
        for answer in answers
        if answer.request.path == "/events" and answer.status == 202
    }
    exposure_ids = {
        str(json.loads(answer.body)["request_id"])
        for answer in _select_rankings(answers)
        if "event_log" not in _read_degraded_flags(answer)
    }
    missing_ids = [
        event_ids - set(read_events(shop.config.event_log_folder)["request_id"]),
        exposure_ids - set(read_exposures(shop.config.event_log_folder)["request_id"]),
        _find_missing_entries(shop, "events", event_ids),
        _find_missing_entries(shop, "exposures", exposure_ids),
    ]
    return sum(map(len, missing_ids))


def _find_missing_entries(shop: ServedShop, kind: str, ids: set[str]) -> set[str]:
    """Request ids that the sink's stream does not get in time."""
    stream_name = f"{{{shop.config.event_log.stream}}}:{kind}"
    deadline_s = time.monotonic() + _DELIVERY_S
    while True:
        stream_entries = shop.sink.client.xrange(stream_name)
        delivered_ids = {
            json.loads(entry[RECORD_FIELD.encode()])["request_id"] for _, entry in stream_entries
        }
        missing_ids = ids - delivered_ids
        if not missing_ids or time.monotonic() > deadline_s:
            return missing_ids
        time.sleep(_POLL_S)
