"""A hundred deployments to one Triton and one gateway: does their memory grow?

Each deployment brings a new model; the routed and the previous one stay, older ones are collected.
"""

import contextlib
import json
import statistics
import time
import urllib.error
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import psutil

from benchmarks.serving.generated_inputs import QUICK, write_ranker
from benchmarks.serving.served_shop import ServedShop, serve_generated_shop
from benchmarks.shared.results import Row, make_row
from serving.deployment.deploy_rankers import deploy_rankers

_SETTLED: Final = 5
"""Deployments after which two models are loaded and every buffer was used once."""
_WINDOW: Final = 5
_TIMEOUT_S: Final = 60.0


def measure_deployments(*, quick: bool) -> list[Row]:
    """Memory of the last deployments over that of the first ones."""
    num_deployments = 15 if quick else 100
    with TemporaryDirectory() as folder, serve_generated_shop(Path(folder), QUICK) as shop:
        sizes_mb = [_deploy_another(shop, Path(folder), number) for number in range(num_deployments)]
    early = statistics.median(sizes_mb[_SETTLED : _SETTLED + _WINDOW])
    late = statistics.median(sizes_mb[-_WINDOW:])
    return [
        make_row(
            "kubeflow.deployments_100.memory_growth",
            late / early,
            unit="times",
            better="lower",
            data=f"{num_deployments} deployments of new rankers; Triton (python backend) and gateway: "
            f"{early:.0f} MB after {_SETTLED + _WINDOW}, {late:.0f} MB at the end",
        )
    ]


def _deploy_another(shop: ServedShop, folder: Path, number: int) -> float:
    """Deploys a ranker of its own, has it rank, and returns the servers' memory in MB."""
    ranker = folder / "another" / str(number)
    spec = write_ranker(folder / "dataset", ranker, seed=100 + number)
    deploy_rankers({"control": ranker}, shop.config, state=shop.config.state)
    deadline = time.monotonic() + _TIMEOUT_S
    while _ask_version(shop) != spec.version:
        assert time.monotonic() < deadline, f"the gateway does not follow deployment {number}"
        time.sleep(0.1)
    return sum(map(_measure_mb, shop.server_pids))


def _ask_version(shop: ServedShop) -> str:
    """Who ranks; nobody where a busy gateway refuses the request."""
    host, port = shop.gateway_addresses[0]
    body = {"user_id": shop.size.user_ids[0], "candidates": shop.size.item_ids[:200]}
    request = urllib.request.Request(
        f"http://{host}:{port}/rank", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            return str(json.loads(answer.read())["model_version"])
    except urllib.error.HTTPError:
        return ""


def _measure_mb(pid: int) -> float:
    """Memory that a process and its children have for themselves."""
    process = psutil.Process(pid)
    num_bytes = 0
    for member in [process, *process.children(recursive=True)]:
        # The stub of a model that was just unloaded may end between the look and the question.
        with contextlib.suppress(psutil.NoSuchProcess):
            num_bytes += member.memory_full_info().uss
    return num_bytes / 1e6
