"""Hostile requests, made by Schemathesis and by hand: nobody gets a 5xx, nothing crashes.

Schemathesis (an environment of its own, `scripts/setup.sh fuzz`) makes bodies that fit the description and
bodies that do not; its requests are counted by the gateway's own metrics. The hand-made ones break HTTP,
JSON, UTF-8, sizes and ids, and flip bytes of good requests.
"""

import asyncio
import json
import re
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import psutil

from benchmarks.serving.generated_inputs import QUICK
from benchmarks.serving.load_generator import Address, Request, iter_rank_requests, make_request_head
from benchmarks.serving.served_shop import ServedShop, serve_generated_shop
from benchmarks.shared.results import REPOSITORY, Row, make_row
from contracts.errors import UserError

_SCHEMATHESIS: Final = REPOSITORY / ".venv-fuzz" / "bin" / "schemathesis"
_WAIT_S: Final = 5.0
_CONNECTIONS: Final = 8
_NO_ANSWER: Final = 0
"""The gateway closed the connection or waits for more: its right, where a request is broken."""
_SERVED: Final = re.compile(
    r'^bentoml_service_request_total\{.*http_response_code="(\d+)".*\} (\S+)$', re.MULTILINE
)


def measure_fuzzing(*, quick: bool) -> list[Row]:
    """All rows of fuzzing."""
    if not _SCHEMATHESIS.is_file():
        raise UserError(f"no {_SCHEMATHESIS}; run `scripts/setup.sh fuzz`")
    num_requests = 500 if quick else 10_000
    with TemporaryDirectory() as folder, serve_generated_shop(Path(folder), QUICK) as shop:
        (address,) = shop.gateway_addresses
        worker_pids = _find_workers(shop)
        served_before = _count_served(address)
        _run_schemathesis(address, num_examples=num_requests // 10)
        status_counts = _count_served(address) - served_before
        num_handmade = max(num_requests - status_counts.total(), num_requests // 2)
        handmade_counts = asyncio.run(_send_hostile_requests(address, num_handmade))
        status_counts += handmade_counts
        has_crashed = _find_workers(shop) != worker_pids or not _is_alive(address)
    data = f"{status_counts.total():,} requests, {handmade_counts.total():,} of them hand-made"
    num_errors = sum(count for status, count in status_counts.items() if status >= 500)
    print("statuses:", dict(sorted(status_counts.items())))
    return [
        make_row("serving.fuzz.server_errors", num_errors, unit="answers", better="lower", data=data),
        make_row("serving.fuzz.crashes", has_crashed, unit="crashes", better="lower", data=data),
    ]


def _run_schemathesis(address: Address, *, num_examples: int) -> None:
    openapi_url = f"http://{address[0]}:{address[1]}/openapi.json"
    command = [str(_SCHEMATHESIS), "run", openapi_url, "--max-examples", str(num_examples)]
    command += ["--checks", "not_a_server_error", "--continue-on-failure", "--seed", "0", "--no-color"]
    command += ["--suppress-health-check", "all"]
    report = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=_SCHEMATHESIS.parents[1]
    )
    if report.returncode not in (0, 1):  # 1: it found failures; the metrics count them
        last_output = report.stdout[-2000:] + report.stderr[-2000:]
        raise RuntimeError(f"schemathesis ended with {report.returncode}:\n{last_output}")


def _count_served(address: Address) -> Counter[int]:
    """Answers of the gateway so far, by status."""
    with urllib.request.urlopen(f"http://{address[0]}:{address[1]}/metrics") as response:
        metrics_text = response.read().decode()
    return Counter({int(status): int(float(count)) for status, count in _SERVED.findall(metrics_text)})


def _find_workers(shop: ServedShop) -> set[int]:
    """Process ids of the servers and their workers: a worker that crashed would be another one."""
    return {child.pid for pid in shop.server_pids for child in psutil.Process(pid).children(recursive=True)}


def _is_alive(address: Address) -> bool:
    with urllib.request.urlopen(f"http://{address[0]}:{address[1]}/livez") as response:
        return bool(response.status == 200)


async def _send_hostile_requests(address: Address, count: int) -> Counter[int]:
    hostile_requests = islice(iter_hostile_requests(address), count)
    status_counts: Counter[int] = Counter()

    async def send_from_queue() -> None:
        for request in hostile_requests:
            status = await _send_bytes(address, request)
            status_counts[status] += 1
            if status >= 500:
                print(f"{status} to {request[:500]!r}")

    await asyncio.gather(*(send_from_queue() for _ in range(_CONNECTIONS)))
    return status_counts


async def _send_bytes(address: Address, request: bytes) -> int:
    """Status of the first answer to some bytes on a connection of their own."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(request)
        async with asyncio.timeout(_WAIT_S):
            status_line = await reader.readline()
        return int(status_line.split()[1]) if status_line.startswith(b"HTTP/") else _NO_ANSWER
    except (OSError, TimeoutError):
        return _NO_ANSWER
    finally:
        writer.close()


def iter_hostile_requests(address: Address) -> Iterator[bytes]:
    """Bytes that nobody should send: a fixed list, then good requests with bytes changed, without end."""
    yield from _make_broken_http(address)
    for path in ("/rank", "/events"):
        for bad_body in _make_bad_bodies():
            yield make_request_head(address, Request(path, bad_body)) + bad_body
    rng = np.random.default_rng(0)
    for request in iter_rank_requests(QUICK, candidates=20, seed=4):
        mutated_body = _mutate_bytes(request.body, rng)
        path = "/rank" if rng.random() < 0.7 else "/events"
        yield make_request_head(address, Request(path, mutated_body)) + mutated_body


def _make_broken_http(address: Address) -> Iterator[bytes]:
    rank_head = b"POST /rank HTTP/1.1\r\nhost: " + address[0].encode() + b"\r\n"
    yield b"\r\n\r\n"
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64)  # TLS
    yield rank_head.replace(b"1.1", b"9.9") + b"\r\n"
    for length in (b"-1", b"99999999999999999999", b"2\r\ncontent-length: 3"):
        yield rank_head + b"content-length: " + length + b"\r\n\r\n{}"
    yield rank_head + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"
    yield rank_head + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    yield rank_head + b"x: " + b"a" * 100_000 + b"\r\n\r\n"
    yield rank_head + b"authorization: Bearer \xff\xfe\r\ncontent-length: 2\r\n\r\n{}"
    for method in (b"GET", b"PUT", b"DELETE", b"TRACE", b"BREW"):
        yield rank_head.replace(b"POST", method) + b"content-length: 0\r\n\r\n"
    for path in (b"/../../etc/passwd", b"/%00", b"/rank%0d%0ax:y", b"/rank?" + b"a=1&" * 1000, b"*"):
        yield rank_head.replace(b"/rank", path, 1) + b"content-length: 0\r\n\r\n"


def _make_bad_bodies() -> Iterator[bytes]:
    yield from (b"", b"null", b"[]", b"0", b"{", b"\x00", b"\xff\xfe{}", b"NaN", b"{}" * 1000, b"[" * 100_000)
    yield b'{"user_id":' * 50_000
    event = {"user_id": "user_1", "item_id": "item_1", "event_type": "click"}
    for text in (
        "\x00",
        "\ud800",
        "\u202e",
        "\U0001f525" * 64,
        "' OR 1=1 --",
        "${jndi:ldap://x}",
        " ",
        "a" * (3 << 20),
    ):
        yield json.dumps({"user_id": text, "candidates": [text], "request_id": text}).encode()
        yield json.dumps({"events": [event | {"user_id": text, "item_id": text}]}).encode()
    for number in ("1e400", "-1", "0", "1e-400", "9" * 400, "NaN", "Infinity", "true", "null", '"1"'):
        yield f'{{"user_id":"u","candidates":["a"],"limit":{number}}}'.encode()
        event_text = f'"user_id":"u","item_id":"a","event_type":"order","price":{number},"quantity":{number}'
        yield f'{{"events":[{{{event_text}}}]}}'.encode()
    for timestamp in (
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "2026-02-30T00:00:00Z",
        "1e18",
    ):
        rank_context = {"timestamp": timestamp}
        yield json.dumps({"user_id": "u", "candidates": ["item_1"], "context": rank_context}).encode()
        yield json.dumps({"events": [event | rank_context]}).encode()
    for count in (999, 1000, 1001, 100_000):
        yield json.dumps({"user_id": "u", "candidates": [str(number) for number in range(count)]}).encode()
        yield json.dumps({"events": [event] * count}).encode()


def _mutate_bytes(body: bytes, rng: np.random.Generator) -> bytes:
    changed_bytes = np.frombuffer(body, np.uint8).copy()
    changed_places = rng.integers(0, len(changed_bytes), rng.integers(1, 6))
    changed_bytes[changed_places] = rng.integers(0, 256, len(changed_places))
    first, last = sorted(rng.integers(0, len(changed_bytes), 2).tolist())
    mutated = bytes(changed_bytes)
    doubled = mutated[:first] + mutated[first:last] * 2 + mutated[last:]
    return (mutated, mutated[:last], doubled, mutated)[rng.integers(4)]
