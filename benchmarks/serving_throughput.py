"""How much the machine serves: saturation, percentiles under open-loop load, what happens above, memory over a soak.

Load generator, gateway, Triton and Redis share this machine's cores. Saturation is what a few connections that never
pause get answered; the loads are shares of it, offered on a fixed schedule (`serving_load`).
"""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import psutil

from benchmarks.results import Row
from benchmarks.serving_inputs import FULL, QUICK
from benchmarks.serving_latency import NUM_CANDIDATES, row
from benchmarks.serving_load import Answer, Client, Request, latencies_ms, offer, press, rank_requests
from benchmarks.serving_shop import ServedShop, serve_shop

SHARES: Final = (0.25, 0.5, 0.75, 1.0)
_ABOVE: Final = 2.0
_SOAK_SHARE: Final = 0.5
_CONNECTIONS: Final = 16
_PERCENTILES: Final = (50, 90, 99, 99.9)
_SAMPLE_S: Final = 1.0
_OK, _REFUSED = 200, 429
_DATA: Final = f"1 user x {NUM_CANDIDATES} candidates; gateway, Triton, Redis and load on one machine"


class _Times(NamedTuple):
    """Seconds of each part."""

    press: float
    load: float
    soak: float


def measure(*, quick: bool) -> list[Row]:
    """All rows of throughput."""
    size, times = (QUICK, _Times(5, 5, 60)) if quick else (FULL, _Times(20, 30, 600))
    with TemporaryDirectory() as folder, serve_shop(Path(folder), size) as shop:
        requests = rank_requests(size, candidates=NUM_CANDIDATES, seed=1)
        press(_client(shop), requests, connections=_CONNECTIONS, seconds=times.press)  # warms the caches
        saturation = press(_client(shop), requests, connections=_CONNECTIONS, seconds=times.press)
        rows = [row("saturation_rps", saturation, "requests/s", "higher", f"{_CONNECTIONS} connections, {_DATA}")]
        for share in SHARES:
            answers = _offer(shop, requests, share * saturation, times.load)
            rows += _load_rows(f"load_{100 * share:.0f}", answers, share * saturation)
        above = _offer(shop, requests, _ABOVE * saturation, times.load)
        rows += _rows_above(above, saturation, times.load)
        rows += _soak(shop, requests, _SOAK_SHARE * saturation, times.soak)
    return rows


def _client(shop: ServedShop) -> Client:
    return Client(lambda: shop.addresses, timeout_s=10)


def _offer(shop: ServedShop, requests: Iterator[Request], rate: float, seconds: float) -> list[Answer]:
    return offer(_client(shop), requests, rate=rate, seconds=seconds, keep_bodies=False)


def _load_rows(name: str, answers: list[Answer], rate: float) -> Iterator[Row]:
    data = f"{rate:.0f} requests/s, open loop, {_DATA}"
    for percentile in _PERCENTILES:
        value = float(np.percentile(latencies_ms(answers), percentile))
        yield row(f"{name}.p{percentile:g}_ms", value, "ms", "lower", data)
    yield row(f"{name}.errors", sum(answer.status != _OK for answer in answers), "requests", "lower", data)


def _rows_above(answers: list[Answer], saturation: float, seconds: float) -> Iterator[Row]:
    data = f"{_ABOVE:g} x saturation, open loop, {_DATA}"
    answered = [answer for answer in answers if answer.status == _OK]
    refused = sum(answer.status == _REFUSED for answer in answers)
    yield row("above.errors", len(answers) - len(answered) - refused, "requests", "lower", data)
    yield row("above.refused_share", refused / len(answers), "share", "lower", data)
    yield row("above.goodput_over_saturation", len(answered) / seconds / saturation, "ratio", "higher", data)
    yield row("above.p99_ms", float(np.percentile(latencies_ms(answered), 99)), "ms", "lower", data)


def _soak(shop: ServedShop, requests: Iterator[Request], rate: float, seconds: float) -> Iterator[Row]:
    samples: list[int] = []
    watching = [_watch(shop, samples, seconds)]
    answers = offer(_client(shop), requests, rate=rate, seconds=seconds, aside=watching, keep_bodies=False)
    data = f"{seconds:g} s at {rate:.0f} requests/s, {_DATA}"
    yield row("soak.errors", sum(answer.status != _OK for answer in answers), "requests", "lower", data)
    late = 1000 * max(answer.late_s for answer in answers)
    yield row("soak.load_late_max_ms", late, "ms", "lower", f"{data}; the load generator's own delay")
    memory = np.array(samples)
    yield row("soak.memory_growth", _growth(memory), "share", "lower", f"{data}; gateway and Triton")
    yield row("soak.memory_mib", float(memory[-1]) / 2**20, "MiB", "lower", f"{data}; gateway and Triton")


def _growth(memory: npt.NDArray[np.int64]) -> float:
    """Growth from the second tenth of the soak (the first one fills pools) to its last."""
    tenth = max(len(memory) // 10, 1)
    return float(memory[-tenth:].mean() / memory[tenth : 2 * tenth].mean() - 1)


async def _watch(shop: ServedShop, samples: list[int], seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        # Looking for children takes a while: the load must not wait for it.
        samples.append(await asyncio.to_thread(lambda: sum(map(_resident_bytes, shop.pids))))
        await asyncio.sleep(_SAMPLE_S)


def _resident_bytes(pid: int) -> int:
    process = psutil.Process(pid)
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
