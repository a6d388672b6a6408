"""Deployments and rollbacks under load: no failed request, no answer of two versions, and how long going back takes.

A few requests, each with its moment fixed, are asked again and again, so that the scores of either ranker are known: an
answer mixes versions where its scores are not those of the version that it names.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from benchmarks.results import Row
from benchmarks.serving_inputs import END, FULL, QUICK, ShopSize
from benchmarks.serving_latency import NUM_CANDIDATES, row
from benchmarks.serving_load import Answer, Client, Request, offer, rank_requests
from benchmarks.serving_shop import ServedShop, serve_shop
from models.ranker.spec import RankerSpec
from serving.deploy import deploy_rankers, rollback

_RATE: Final = 10.0
_SHOWN: Final = 10
_NUM_REQUESTS: Final = 10
_PAUSE_S: Final = 2.0
_TOLERANCE: Final = 1e-4
"""Sums in another order; scores of two rankers with random weights differ by far more."""

Scores = dict[str, float]
"""Item -> score."""


class Switch(NamedTuple):
    """One change of the version; seconds since the load began."""

    kind: str
    began_s: float
    version: str
    """Answers from then on."""


def measure(*, quick: bool) -> list[Row]:
    """All rows of switching."""
    size, times = (QUICK, 2) if quick else (FULL, 10)
    with TemporaryDirectory() as folder, serve_shop(Path(folder), size) as shop:
        requests = list(_requests(size))
        expected: dict[tuple[str, bytes], Scores] = {}
        for ranker in shop.rankers:
            _deploy(shop, ranker)
            expected |= {(_version(a), a.request.body): _scores(a) for a in _ask(shop, requests)}
        switches: list[Switch] = []
        answers = _ask(shop, cycle(requests), aside=[_switch(shop, times, switches)])
    return list(_rows(switches, answers, expected))


def _requests(size: ShopSize) -> Iterator[Request]:
    for request in islice(rank_requests(size, candidates=NUM_CANDIDATES, seed=3, limit=_SHOWN), _NUM_REQUESTS):
        body = json.loads(request.body) | {"context": {"timestamp": END.isoformat()}}
        yield Request(request.path, json.dumps(body).encode())


def _ask(
    shop: ServedShop, requests: Sequence[Request] | Iterator[Request], aside: Sequence[object] = ()
) -> list[Answer]:
    client = Client(lambda: shop.addresses, timeout_s=10)
    return offer(client, iter(requests), rate=_RATE, seconds=0 if aside else _NUM_REQUESTS / _RATE, aside=aside)


async def _switch(shop: ServedShop, times: int, switches: list[Switch]) -> None:
    """Deploys the first ranker and goes back to the second, so often."""
    began = time.perf_counter()
    first, second = (RankerSpec.read(ranker).version for ranker in shop.rankers)
    changes: dict[str, tuple[str, Callable[[], object]]] = {
        "deploy": (first, lambda: _deploy(shop, shop.rankers[0])),
        "rollback": (second, lambda: rollback(shop.config, state=shop.config.state)),
    }
    for _ in range(times):
        for kind, (version, change) in changes.items():
            await asyncio.sleep(_PAUSE_S)
            switches.append(Switch(kind, time.perf_counter() - began, version))
            await asyncio.to_thread(change)
    await asyncio.sleep(_PAUSE_S)


def _deploy(shop: ServedShop, ranker: Path) -> None:
    deploy_rankers({"control": ranker}, shop.config, state=shop.config.state)


def _rows(
    switches: Sequence[Switch], answers: Sequence[Answer], expected: dict[tuple[str, bytes], Scores]
) -> Iterator[Row]:
    data = f"{len(switches) // 2} deployments and as many rollbacks, {_RATE:g} requests/s"
    ranked = [answer for answer in answers if answer.status == 200]
    yield row("switch.failed_requests", len(answers) - len(ranked), "requests", "lower", data)
    mixed = sum(not _is_alike(_scores(a), expected.get((_version(a), a.request.body), {})) for a in ranked)
    yield row("switch.mixed_answers", mixed, "answers", "lower", data)
    for kind, name in {"rollback": "rollback_s", "deploy": "switch.deploy_s"}.items():
        seconds = [_seconds(switch, ranked) for switch in switches if switch.kind == kind]
        yield row(name, max(seconds), "s", "lower", f"{data}; until the first answer of the other version")


def _seconds(switch: Switch, answers: Sequence[Answer]) -> float:
    """Until the first answer of the new version."""
    ends = [a.due_s + a.latency_s for a in answers if _version(a) == switch.version and a.due_s >= switch.began_s]
    return min(ends, default=float("inf")) - switch.began_s


def _version(answer: Answer) -> str:
    version: str = json.loads(answer.body)["model_version"]
    return version


def _scores(answer: Answer) -> Scores:
    return {item["item_id"]: item["score"] for item in json.loads(answer.body)["items"]}


def _is_alike(found: Scores, expected: Scores) -> bool:
    return found.keys() == expected.keys() and all(abs(found[i] - expected[i]) <= _TOLERANCE for i in found)
