"""Hostile requests: Schemathesis after the gateway's OpenAPI, and hand-made ones. Nobody gets a 5xx, nothing crashes.

Schemathesis (an environment of its own, `scripts/setup.sh fuzz`) makes bodies that fit the description and bodies that
do not; its requests are counted by the gateway's own metrics. The hand-made ones break HTTP, JSON, UTF-8, sizes and
ids, and flip bytes of good requests.
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

from benchmarks.results import ROOT, Row
from benchmarks.serving_inputs import QUICK
from benchmarks.serving_latency import row
from benchmarks.serving_load import Address, Request, head_of, rank_requests
from benchmarks.serving_shop import ServedShop, serve_shop
from contracts.errors import UserError

_SCHEMATHESIS: Final = ROOT.parent / ".venv-fuzz" / "bin" / "schemathesis"
_WAIT_S: Final = 5.0
_CONNECTIONS: Final = 8
_NO_ANSWER: Final = 0
"""The gateway closed the connection, or waits for the rest of a request: its right, where a request is broken."""
_SERVED: Final = re.compile(r'^bentoml_service_request_total\{.*http_response_code="(\d+)".*\} (\S+)$', re.MULTILINE)


def measure(*, quick: bool) -> list[Row]:
    """All rows of fuzzing."""
    if not _SCHEMATHESIS.is_file():
        raise UserError(f"no {_SCHEMATHESIS}; run `scripts/setup.sh fuzz`")
    wanted = 500 if quick else 10_000
    with TemporaryDirectory() as folder, serve_shop(Path(folder), QUICK) as shop:
        (address,) = shop.addresses
        workers = _workers(shop)
        before = _served(address)
        _run_schemathesis(address, examples=wanted // 10)
        statuses = _served(address) - before
        made = asyncio.run(_send_all(address, max(wanted - statuses.total(), wanted // 2)))
        statuses += made
        crashes = int(_workers(shop) != workers or not _is_alive(address))
    data = f"{statuses.total():,} requests, {made.total():,} of them hand-made"
    errors = sum(count for status, count in statuses.items() if status >= 500)
    print("statuses:", dict(sorted(statuses.items())))
    return [
        row("fuzz.server_errors", errors, "answers", "lower", data),
        row("fuzz.crashes", crashes, "crashes", "lower", data),
        row("fuzz.requests", statuses.total(), "requests", "higher", data),
    ]


def _run_schemathesis(address: Address, *, examples: int) -> None:
    url = f"http://{address[0]}:{address[1]}/openapi.json"
    options = [
        "--max-examples",
        str(examples),
        "--checks",
        "not_a_server_error",
        "--continue-on-failure",
        "--seed",
        "0",
    ]
    command = [str(_SCHEMATHESIS), "run", url, *options, "--suppress-health-check", "all", "--no-color"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=_SCHEMATHESIS.parents[1])
    if found.returncode not in (0, 1):  # 1: it found failures; the metrics count them
        raise RuntimeError(f"schemathesis ended with {found.returncode}:\n{found.stdout[-2000:]}{found.stderr[-2000:]}")


def _served(address: Address) -> Counter[int]:
    """Answers of the gateway so far, by status."""
    with urllib.request.urlopen(f"http://{address[0]}:{address[1]}/metrics") as response:
        text = response.read().decode()
    return Counter({int(status): int(float(count)) for status, count in _SERVED.findall(text)})


def _workers(shop: ServedShop) -> set[int]:
    """Process ids of the servers and their workers: a worker that crashed would be another one."""
    return {child.pid for pid in shop.pids for child in psutil.Process(pid).children(recursive=True)}


def _is_alive(address: Address) -> bool:
    with urllib.request.urlopen(f"http://{address[0]}:{address[1]}/livez") as response:
        return bool(response.status == 200)


async def _send_all(address: Address, count: int) -> Counter[int]:
    requests = islice(hostile_requests(address), count)
    statuses: Counter[int] = Counter()

    async def work() -> None:
        for request in requests:
            status = await _send(address, request)
            statuses[status] += 1
            if status >= 500:
                print(f"{status} to {request[:500]!r}")

    await asyncio.gather(*(work() for _ in range(_CONNECTIONS)))
    return statuses


async def _send(address: Address, request: bytes) -> int:
    """Status of the first answer to some bytes on a connection of their own."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(request)
        async with asyncio.timeout(_WAIT_S):
            line = await reader.readline()
        return int(line.split()[1]) if line.startswith(b"HTTP/") else _NO_ANSWER
    except (OSError, TimeoutError):
        return _NO_ANSWER
    finally:
        writer.close()


def hostile_requests(address: Address) -> Iterator[bytes]:
    """Bytes that nobody should send: a fixed list, then good requests with bytes changed, cut or doubled, for ever."""
    yield from _broken_http(address)
    for path in ("/rank", "/events"):
        for body in _bad_bodies():
            yield head_of(address, Request(path, body)) + body
    rng = np.random.default_rng(0)
    for request in rank_requests(QUICK, candidates=20, seed=4):
        body = _mutated(request.body, rng)
        path = "/rank" if rng.random() < 0.7 else "/events"
        yield head_of(address, Request(path, body)) + body


def _broken_http(address: Address) -> Iterator[bytes]:
    host = f"host: {address[0]}\r\n".encode()
    yield b"\r\n\r\n"
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64)  # TLS
    yield b"POST /rank HTTP/9.9\r\n" + host + b"\r\n"
    yield b"POST /rank HTTP/1.1\r\n" + host + b"content-length: -1\r\n\r\n{}"
    yield b"POST /rank HTTP/1.1\r\n" + host + b"content-length: 99999999999999999999\r\n\r\n{}"
    yield b"POST /rank HTTP/1.1\r\n" + host + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}"
    yield b"POST /rank HTTP/1.1\r\n" + host + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"
    yield (
        b"POST /rank HTTP/1.1\r\n"
        + host
        + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    )
    yield b"POST /rank HTTP/1.1\r\n" + host + b"x: " + b"a" * 100_000 + b"\r\n\r\n"
    yield b"POST /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + host + b"\r\n"
    for method in (b"GET", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"BREW"):
        yield method + b" /rank HTTP/1.1\r\n" + host + b"content-length: 0\r\n\r\n"
    for path in (b"/../../etc/passwd", b"/%00", b"/rank%0d%0ax:y", b"/rank?" + b"a=1&" * 1000, b"*", b"http://x/rank"):
        yield b"GET " + path + b" HTTP/1.1\r\n" + host + b"content-length: 0\r\n\r\n"
    yield b"POST /events HTTP/1.1\r\n" + host + b"authorization: Bearer \xff\xfe\r\ncontent-length: 2\r\n\r\n{}"


def _bad_bodies() -> Iterator[bytes]:
    yield from (b"", b"null", b"[]", b'""', b"0", b"{", b'{"user_id":', b"\x00", b"\xff\xfe{}", b"NaN", b"{}" * 1000)
    yield b"[" * 100_000
    yield b'{"user_id":' * 50_000
    yield b'{"user_id":"u","candidates":["' + b"a" * (3 << 20) + b'"]}'
    texts = [
        "\x00",
        "\ud800",
        "\u202e",
        "\U0001f525" * 64,
        "' OR 1=1 --",
        "${jndi:ldap://x}",
        "<script>",
        "{{7*7}}",
        "a" * 257,
        " ",
    ]
    for text in texts:
        yield json.dumps({"user_id": text, "candidates": [text], "request_id": text}).encode()
        yield json.dumps({"events": [{"user_id": text, "item_id": text, "event_type": "click"}]}).encode()
    numbers = ["1e400", "-1", "0", "1e-400", "9" * 400, "NaN", "Infinity", "true", "null", '"1"']
    for number in numbers:
        yield f'{{"user_id":"u","candidates":["a"],"limit":{number}}}'.encode()
        event = f'"user_id":"u","item_id":"a","event_type":"order","price":{number},"quantity":{number}'
        yield f'{{"events":[{{{event}}}]}}'.encode()
    times = [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59+14:00",
        "9999-12-31T23:59:59-01:00",
        "2026-02-30T00:00:00Z",
        "now",
        "-1",
        "1e18",
    ]
    for time in times:
        yield json.dumps({"user_id": "user_1", "candidates": ["item_1"], "context": {"timestamp": time}}).encode()
        done = {"user_id": "user_1", "item_id": "item_1", "event_type": "click", "timestamp": time}
        yield json.dumps({"events": [done]}).encode()
    for count in (999, 1000, 1001, 100_000):
        yield json.dumps({"user_id": "u", "candidates": [str(number) for number in range(count)]}).encode()
        yield json.dumps({"events": [{"user_id": "u", "item_id": "a", "event_type": "click"}] * count}).encode()


def _mutated(body: bytes, rng: np.random.Generator) -> bytes:
    changed = np.frombuffer(body, np.uint8).copy()
    places = rng.integers(0, len(changed), rng.integers(1, 6))
    changed[places] = rng.integers(0, 256, len(places))
    first, last = sorted(rng.integers(0, len(changed), 2).tolist())
    how = rng.integers(4)
    if how == 1:
        return bytes(changed[:last])
    if how == 2:
        return bytes(changed[:first]) + bytes(changed[first:last]) * 2 + bytes(changed[last:])
    return bytes(changed)
