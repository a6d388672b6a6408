"""How much the machine serves: saturation, errors under open-loop load, errors and memory over a soak.

Load generator, gateway, Triton and Redis share this machine's cores. Saturation is what a few connections
that never pause get answered. The loads are shares of it, offered on a fixed schedule (load_generator.py).
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import numpy as np
import psutil

from benchmarks.serving.generated_inputs import FULL, QUICK
from benchmarks.serving.latency import NUM_CANDIDATES
from benchmarks.serving.load_generator import Request, iter_rank_requests, offer_load, press_to_saturation
from benchmarks.serving.served_shop import ServedShop, serve_generated_shop
from benchmarks.shared.results import Row, make_row
from contracts.array_types import IntArray

SHARES: Final = (0.25, 0.5, 0.75)
_SOAK_SHARE: Final = 0.5
_CONNECTIONS: Final = 16
_SAMPLE_S: Final = 1.0
_DATA: Final = f"1 user x {NUM_CANDIDATES} candidates; gateway, Triton, Redis and load on one machine"


class _Durations(NamedTuple):
    """Seconds of each part."""

    press: float
    load: float
    soak: float


def measure_throughput(*, quick: bool) -> list[Row]:
    """All rows of throughput."""
    size, durations = (QUICK, _Durations(5, 5, 60)) if quick else (FULL, _Durations(20, 30, 600))
    with TemporaryDirectory() as folder, serve_generated_shop(Path(folder), size) as shop:
        requests = iter_rank_requests(size, candidates=NUM_CANDIDATES, seed=1)
        for _ in ("warms the caches", "counts"):
            saturation = press_to_saturation(
                shop.open_client(), requests, connections=_CONNECTIONS, seconds=durations.press
            )
        saturation_data = f"{_CONNECTIONS} connections, {_DATA}"
        rows = [make_row("serving.saturation_rps", saturation, unit="requests/s", data=saturation_data)]
        for share in SHARES:
            rate = share * saturation
            num_errors = _count_errors(shop, requests, rate, durations.load)
            data = f"{rate:.0f} requests/s, open loop, {_DATA}"
            rows.append(_make_error_row(f"load_{100 * share:.0f}", num_errors, data))
        rows += _measure_soak(shop, requests, _SOAK_SHARE * saturation, durations.soak)
    return rows


def _count_errors(
    shop: ServedShop, requests: Iterator[Request], rate: float, seconds: float, aside: Sequence[object] = ()
) -> int:
    client = shop.open_client()
    answers = offer_load(client, requests, rate=rate, seconds=seconds, aside=aside, keep_bodies=False)
    return sum(answer.status != 200 for answer in answers)


def _make_error_row(name: str, num_errors: int, data: str) -> Row:
    return make_row(f"serving.{name}.errors", num_errors, unit="requests", better="lower", data=data)


def _measure_soak(
    shop: ServedShop, requests: Iterator[Request], rate: float, seconds: float
) -> Iterator[Row]:
    memory_samples: list[int] = []
    memory_watch = _watch_memory(shop, memory_samples, seconds)
    num_errors = _count_errors(shop, requests, rate, seconds, aside=[memory_watch])
    data = f"{seconds:g} s at {rate:.0f} requests/s, {_DATA}"
    yield _make_error_row("soak", num_errors, data)
    memory_growth = measure_growth(np.array(memory_samples))
    data = f"{data}; gateway and Triton"
    yield make_row("serving.soak.memory_growth", memory_growth, unit="share", better="lower", data=data)


def measure_growth(memory: IntArray) -> float:
    """Growth from the second tenth of the soak (the first one fills pools) to its last."""
    tenth_length = max(len(memory) // 10, 1)
    return float(memory[-tenth_length:].mean() / memory[tenth_length : 2 * tenth_length].mean() - 1)


async def _watch_memory(shop: ServedShop, samples: list[int], seconds: float) -> None:
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        # Looking for children takes a while: the load must not wait for it.
        samples.append(await asyncio.to_thread(lambda: sum(map(_read_resident_bytes, shop.server_pids))))
        await asyncio.sleep(_SAMPLE_S)


def _read_resident_bytes(pid: int) -> int:
    main_process = psutil.Process(pid)
    return sum(
        tree_process.memory_info().rss
        for tree_process in (main_process, *main_process.children(recursive=True))
    )
