"""A stand-in for a language-model server: valid answers after a fixed delay, and counts of what it was asked.

`python -m benchmarks.knowledge.stub_teacher --delay 0.4` prints its port and serves until its standard input
ends. It speaks chat completions; `GET /counts` tells what came in. It is written on bare asyncio streams, to
take little of the processor from what is measured.
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

from models.knowledge.agents.agent_roles import AGENT_NAMES

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class StubServer:
    """A stub that runs in a process of its own."""

    url: str
    """Root of its API."""

    def read_counts(self) -> dict[str, int]:
        """`requests` that came in, and the `distinct` ones among them."""
        with urllib.request.urlopen(f"{self.url}/counts", timeout=30) as response:
            request_counts: dict[str, int] = json.load(response)
            return request_counts


@contextmanager
def run_stub_server(delay_s: float) -> Iterator[StubServer]:
    """Starts a stub and ends it."""
    command = [sys.executable, "-m", "benchmarks.knowledge.stub_teacher", "--delay", str(delay_s)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT
    ) as stub_process:
        assert stub_process.stdout is not None
        try:
            yield StubServer(f"http://127.0.0.1:{int(stub_process.stdout.readline())}/v1")
        finally:
            stub_process.terminate()


@dataclass
class StubHandler:
    """Answers chat completions after a delay and counts them."""

    delay_s: float
    asked: Counter[bytes] = field(default_factory=Counter)

    async def serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers all requests of a connection, one after another."""
        try:
            while request_head := await reader.readuntil(b"\r\n\r\n"):
                answer_body = await self.answer_request(request_head, reader)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n" % len(answer_body) + answer_body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()

    async def answer_request(self, head: bytes, reader: asyncio.StreamReader) -> bytes:
        """The body of an answer: a chat completion, or the counts."""
        if head.startswith(b"GET"):
            return json.dumps({"requests": self.asked.total(), "distinct": len(self.asked)}).encode()
        after_name = head.lower().partition(b"content-length:")[2]
        request_content = await reader.readexactly(int(after_name.partition(b"\r\n")[0]))
        request_body = json.loads(request_content)
        answer_schema = request_body["response_format"]["json_schema"]
        agent = answer_schema["name"]
        if agent in AGENT_NAMES:
            self.asked[hashlib.sha256(request_content).digest()] += 1
            agent_input = json.loads(request_body["messages"][1]["content"].split("\n")[1])
            reply = write_reply(agent, agent_input)
        else:  # the trial request of a teacher is not counted
            properties = answer_schema["schema"]["properties"]
            reply = json.dumps({name: value["enum"][0] for name, value in properties.items()})
        await asyncio.sleep(self.delay_s)
        return _complete_chat(reply)


def write_reply(agent: str, agent_input: dict[str, Any]) -> str:
    """A valid answer of an agent; it depends on what the agent reads alone."""
    return json.dumps({"reasoning": _REASONING, **_WRITERS[agent](agent_input)})


def _make_analyst_writer(*facets: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def write_claims(agent_input: dict[str, Any]) -> dict[str, Any]:
        title = agent_input["product"]["title"][:80]
        claims = {facet: [_make_claim(f"{facet} {i} of {title}") for i in range(3)] for facet in facets}
        return {"recognized": True, **claims}

    return write_claims


def _make_claim(text: str) -> dict[str, Any]:
    evidence_text = "because things of this kind are used like that"
    return {"text": text, "evidence": evidence_text, "source": "reasoning", "confidence": 0.7}


_OBJECTION = {"facet": "demands", "number": 0, "problem": "too general", "remedy": "drop"}
_write_demands = _make_analyst_writer("demands", "audiences", "scenarios")
_WRITERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "planner": lambda read: {
        "product_kind": read["category"][-40:] or "thing",
        "focus": ["size"],
        "pitfalls": [],
    },
    "demand_analyst": lambda read: {"summary": "A useful thing.", **_write_demands(read)},
    "attribute_analyst": _make_analyst_writer("attributes", "complements", "substitutes", "lifecycle"),
    "critic": lambda _: {"objections": [_OBJECTION]},
    "editor": lambda read: {"record": read["record"]},
}
_REASONING = "First the kind of product, then who buys it and why, then what decides between two. " * 4


def _complete_chat(answer: str) -> bytes:
    chat_choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}
    token_usage = {"prompt_tokens": 1000, "completion_tokens": 250, "total_tokens": 1250}
    completion = {"id": "1", "object": "chat.completion", "created": 0, "model": "stub"}
    return json.dumps(completion | {"choices": [chat_choice], "usage": token_usage}).encode()


async def _serve_stub_answers(delay_s: float) -> None:
    stub_handler = StubHandler(delay_s)
    server = await asyncio.start_server(stub_handler.serve_connection, "127.0.0.1", 0, limit=2**20)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        # The stub lives no longer than whoever holds the other end of its standard input.
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, required=True, help="seconds until an answer comes")
    asyncio.run(_serve_stub_answers(parser.parse_args().delay))
