"""Deployments and rollbacks under load: failed requests, answers of two versions, time to go back.

A few requests, each with its moment fixed, are asked again and again, so that the scores of either ranker are
known: an answer mixes versions where its scores are not those of the version that it names.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from benchmarks.serving.generated_inputs import END, FULL, QUICK, ShopSize
from benchmarks.serving.latency import NUM_CANDIDATES
from benchmarks.serving.load_generator import Answer, Request, iter_rank_requests, offer_load
from benchmarks.serving.served_shop import ServedShop, serve_generated_shop
from benchmarks.shared.results import Row, make_row
from models.ranker.inputs.ranker_spec import RankerSpec
from serving.deployment.deploy_rankers import deploy_rankers, roll_back_routes

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


def measure_switching(*, quick: bool) -> list[Row]:
    """All rows of switching."""
    size, num_switches = (QUICK, 2) if quick else (FULL, 10)
    with TemporaryDirectory() as folder, serve_generated_shop(Path(folder), size) as shop:
        requests = list(_make_requests(size))
        expected_scores: dict[tuple[str, bytes], Scores] = {}
        for ranker in shop.rankers:
            _deploy_ranker(shop, ranker)
            for answer in _ask_requests(shop, requests):
                expected_scores[_read_version(answer), answer.request.body] = _read_scores(answer)
        switches: list[Switch] = []
        answers = _ask_requests(shop, cycle(requests), aside=[_switch_rankers(shop, num_switches, switches)])
    return _make_switch_rows(switches, answers, expected_scores)


def _make_requests(size: ShopSize) -> Iterator[Request]:
    rank_requests = iter_rank_requests(size, candidates=NUM_CANDIDATES, seed=3, limit=_SHOWN)
    for rank_request in islice(rank_requests, _NUM_REQUESTS):
        timed_body = json.loads(rank_request.body) | {"context": {"timestamp": END.isoformat()}}
        yield Request(rank_request.path, json.dumps(timed_body).encode())


def _ask_requests(
    shop: ServedShop, requests: Sequence[Request] | Iterator[Request], aside: Sequence[object] = ()
) -> list[Answer]:
    seconds = 0 if aside else _NUM_REQUESTS / _RATE
    return offer_load(shop.open_client(), iter(requests), rate=_RATE, seconds=seconds, aside=aside)


async def _switch_rankers(shop: ServedShop, num_times: int, switches: list[Switch]) -> None:
    """Deploys the first ranker and goes back to the second, so often."""
    load_start = time.perf_counter()
    first_version, second_version = (RankerSpec.read(ranker).version for ranker in shop.rankers)
    changes: dict[str, tuple[str, Callable[[], object]]] = {
        "deploy": (first_version, lambda: _deploy_ranker(shop, shop.rankers[0])),
        "rollback": (second_version, lambda: roll_back_routes(shop.config, state=shop.config.state)),
    }
    for _ in range(num_times):
        for kind, (version, change) in changes.items():
            await asyncio.sleep(_PAUSE_S)
            switches.append(Switch(kind, time.perf_counter() - load_start, version))
            await asyncio.to_thread(change)
    await asyncio.sleep(_PAUSE_S)


def _deploy_ranker(shop: ServedShop, ranker: Path) -> None:
    deploy_rankers({"control": ranker}, shop.config, state=shop.config.state)


def _make_switch_rows(
    switches: Sequence[Switch], answers: Sequence[Answer], expected: dict[tuple[str, bytes], Scores]
) -> list[Row]:
    data = f"{len(switches) // 2} deployments and as many rollbacks, {_RATE:g} requests/s"
    rankings = [answer for answer in answers if answer.status == 200]
    num_mixed = sum(
        not _are_alike(_read_scores(one), expected.get((_read_version(one), one.request.body), {}))
        for one in rankings
    )
    rollback_s = max(measure_switch_s(switch, rankings) for switch in switches if switch.kind == "rollback")
    make_lower_row = partial(make_row, better="lower")
    num_failed = len(answers) - len(rankings)
    until_note = f"{data}; until the first answer of the other version"
    return [
        make_lower_row("serving.switch.failed_requests", num_failed, unit="requests", data=data),
        make_lower_row("serving.switch.mixed_answers", num_mixed, unit="answers", data=data),
        make_lower_row("serving.rollback_s", rollback_s, unit="s", data=until_note),
    ]


def measure_switch_s(switch: Switch, answers: Sequence[Answer]) -> float:
    """Seconds until the first answer of the new version."""
    answer_ends = [
        answer.due_s + answer.latency_s
        for answer in answers
        if _read_version(answer) == switch.version and answer.due_s >= switch.began_s
    ]
    return min(answer_ends, default=float("inf")) - switch.began_s


def _read_version(answer: Answer) -> str:
    return str(json.loads(answer.body)["model_version"])


def _read_scores(answer: Answer) -> Scores:
    return {item["item_id"]: item["score"] for item in json.loads(answer.body)["items"]}


def _are_alike(scores: Scores, expected: Scores) -> bool:
    return scores.keys() == expected.keys() and all(
        abs(scores[item_id] - expected[item_id]) <= _TOLERANCE for item_id in scores
    )
