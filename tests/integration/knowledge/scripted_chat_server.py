"""A real HTTP server that speaks chat completions by a script, in whatever way a server may."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from models.knowledge.config import OpenAITeacherConfig

Script = Callable[[dict[str, Any], int], "tuple[int, Any]"]


@dataclass
class Body:
    """A whole response body as it is to come, instead of the content of a completion."""

    content: Any
    """Bytes, or a value that is sent as JSON."""
    headers: dict[str, str] = field(default_factory=dict)
    num_bytes_sent: int | None = None
    """Then the connection is cut off."""


def complete(content: Any = None, finish_reason: str | None = "stop", **message: Any) -> dict[str, Any]:
    """A completion as the standard has it."""
    message = {"role": "assistant", "content": content, **message}
    choice = {"index": 0, "finish_reason": finish_reason, "message": message}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }


class Chat(ThreadingHTTPServer):
    """Answers by a script of (request body, how often its agent was asked) -> (HTTP status, content)."""

    daemon_threads = True

    def __init__(self, script: Script, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.script = script
        self.trial: Script = keep_to_schema
        self.retry_after_ms = "1"
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.counts: Counter[str] = Counter()
        self.in_flight = self.peak = 0
        self.lock = threading.Lock()
        self.release = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Chat

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        agent = asked(body)
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
            count = self.server.counts[agent]
            self.server.counts[agent] += 1
            self.server.in_flight += 1
            self.server.peak = max(self.server.peak, self.server.in_flight)
        status, content = (self.server.trial if agent == "schema_trial" else self.server.script)(body, count)
        with self.server.lock:
            self.server.in_flight -= 1
        if not isinstance(content, Body):
            reason = "length" if content == CUT_OFF else "stop"
            is_raw = isinstance(content, bytes)
            error = {"error": {"message": "scripted"}}
            content = Body(content if is_raw else complete(content, reason) if status == 200 else error)
        raw = content.content if isinstance(content.content, bytes) else json.dumps(content.content).encode()
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(raw)),
            "Retry-After-Ms": self.server.retry_after_ms,
        }
        self.send_response(status)
        for name, value in (headers | content.headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw[: content.num_bytes_sent])
        if content.num_bytes_sent is not None:
            self.close_connection = True

    def log_message(self, *arguments: Any) -> None:
        pass


def asked(body: dict[str, Any]) -> str:
    """The agent that asks; `schema_trial` for the trial request."""
    if "response_format" in body:
        return str(body["response_format"]["json_schema"]["name"])
    return "schema_trial" if len(body["messages"]) == 1 else "planner"


def keep_to_schema(body: dict[str, Any], count: int) -> tuple[int, str]:
    """The trial's answer by a server that knows schemas."""
    sent = (
        body.get("response_format", {}).get("json_schema", {}).get("schema")
        or body["structured_outputs"]["json"]
    )
    return 200, json.dumps({"code": sent["properties"]["code"]["enum"][0]})


CUT_OFF = '{"reasoning": "cut o'


@contextmanager
def serve(script: Script, port: int = 0) -> Iterator[Chat]:
    server = Chat(script, port)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        server.server_close()
        thread.join()


def given(body: dict[str, Any]) -> dict[str, Any]:
    """The agent's input, read back from the prompt."""
    data: dict[str, Any] = json.loads(body["messages"][1]["content"].split("\n")[1])
    return data


def obedient(body: dict[str, Any], count: int) -> tuple[int, str]:
    """A model that answers each agent validly."""
    agent = asked(body)
    if agent == "planner":
        return 200, json.dumps({"reasoning": "r", "product_kind": "mug", "focus": ["size"], "pitfalls": []})
    if agent == "critic":
        objection = {"facet": "demands", "number": 1, "problem": "too general", "remedy": "drop"}
        return 200, json.dumps({"reasoning": "r", "objections": [objection]})
    if agent == "editor":
        return 200, json.dumps({"reasoning": "r", "record": given(body)["record"]})
    title = given(body)["product"]["title"]
    claims = [
        {"text": f"drink from {title}", "evidence": title, "source": "catalogue", "confidence": 0.9},
        {"text": "be happy", "evidence": "why not", "source": "reasoning", "confidence": 0.2},
        {"text": "hold gold", "evidence": "made of gold", "source": "catalogue", "confidence": 0.9},
    ]
    properties = body["response_format"]["json_schema"]["schema"]["properties"]
    findings = {name: claims if name in ("demands", "attributes") else [] for name in properties}
    return 200, json.dumps(
        {
            **findings,
            "reasoning": "r",
            "recognized": True,
            **({"summary": "A mug."} if "summary" in properties else {}),
        }
    )


def config(server: Chat, **options: Any) -> OpenAITeacherConfig:
    return OpenAITeacherConfig(kind="openai", base_url=server.url, model="m", **options)
