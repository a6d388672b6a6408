"""A stand-in for a language-model server: valid answers after a fixed delay, and counts of what it was asked.

`python -m benchmarks.stub_teacher --delay 0.4` prints its port and serves until its standard input ends. It speaks
chat completions; `GET /counts` tells what came in. It is written on bare asyncio streams, to take little of the
processor from what is measured.
"""

import argparse
import asyncio
import hashlib
import json
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.knowledge.agents.roles import AGENT_NAMES

_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class StubServer:
    """A stub that runs in a process of its own."""

    url: str
    """Root of its API."""

    def counts(self) -> dict[str, int]:
        """`requests` that came in, `distinct` ones among them, `in_flight` now."""
        with urllib.request.urlopen(f"{self.url}/counts", timeout=30) as response:
            counts: dict[str, int] = json.load(response)
            return counts


@contextmanager
def run_stub(delay_s: float) -> Iterator[StubServer]:
    """Starts a stub and ends it."""
    command = [sys.executable, "-m", "benchmarks.stub_teacher", "--delay", str(delay_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT) as process:
        assert process.stdout is not None
        try:
            yield StubServer(f"http://127.0.0.1:{int(process.stdout.readline())}/v1")
        finally:
            process.terminate()


@dataclass
class _Stub:
    delay_s: float
    asked: Counter[bytes] = field(default_factory=Counter)
    in_flight: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                answer = await self._answer(head, reader)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n" % len(answer) + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader) -> bytes:
        if head.startswith(b"GET"):
            counts = {"requests": self.asked.total(), "distinct": len(self.asked), "in_flight": self.in_flight}
            return json.dumps(counts).encode()
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        content = await reader.readexactly(int(length.partition(b":")[2]))
        body = json.loads(content)
        schema = body["response_format"]["json_schema"]
        if schema["name"] in AGENT_NAMES:  # the trial request of a teacher is not counted
            self.asked[hashlib.sha256(content).digest()] += 1
        self.in_flight += 1
        await asyncio.sleep(self.delay_s)
        self.in_flight -= 1
        if schema["name"] not in AGENT_NAMES:
            return _complete(
                json.dumps({key: value["enum"][0] for key, value in schema["schema"]["properties"].items()})
            )
        return _complete(reply(schema["name"], json.loads(body["messages"][1]["content"].split("\n")[1])))


def reply(agent: str, given: dict[str, Any]) -> str:
    """A valid answer of an agent; it depends on what the agent reads alone."""
    return json.dumps({"reasoning": _REASONING, **_FINDINGS[agent](given)})


def _find(*facets: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def find(given: dict[str, Any]) -> dict[str, Any]:
        title = given["product"]["title"][:80]
        return {"recognised": True, **{facet: [_claim(facet, n, title) for n in range(3)] for facet in facets}}

    return find


def _claim(facet: str, number: int, title: str) -> dict[str, Any]:
    evidence = "because things of this kind are used like that"
    return {"text": f"{facet} {number} of {title}", "evidence": evidence, "source": "reasoning", "confidence": 0.7}


_OBJECTION = {"facet": "demands", "number": 0, "problem": "too general", "remedy": "drop"}
_DEMAND_SIDE = _find("demands", "audiences", "scenarios")
_FINDINGS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "planner": lambda given: {"product_kind": given["category"][-40:] or "thing", "focus": ["size"], "pitfalls": []},
    "demand_analyst": lambda given: {"summary": "A useful thing.", **_DEMAND_SIDE(given)},
    "attribute_analyst": _find("attributes", "complements", "substitutes", "lifecycle"),
    "critic": lambda _: {"objections": [_OBJECTION]},
    "editor": lambda given: {"record": given["record"]},
}
_REASONING = "First the kind of product, then who buys it and why, then what decides between two of them. " * 4


def _complete(answer: str) -> bytes:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}
    usage = {"prompt_tokens": 1000, "completion_tokens": 250, "total_tokens": 1250}
    return json.dumps(
        {"id": "1", "object": "chat.completion", "created": 0, "model": "stub", "choices": [choice], "usage": usage}
    ).encode()


async def _main(delay_s: float) -> None:
    stub = _Stub(delay_s)
    server = await asyncio.start_server(stub.serve, "127.0.0.1", 0, limit=2**20)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        # The stub lives no longer than whoever holds the other end of its standard input.
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, required=True, help="seconds until an answer comes")
    asyncio.run(_main(parser.parse_args().delay))
