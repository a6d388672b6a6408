"""A webhook is told how a run ended; whatever it does, no run fails by it."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from kfp.dsl import PipelineTaskFinalStatus

from components.post_outcome.component import post_outcome
from components.run_outcome import WEBHOOK_VARIABLE


class Webhook:
    """A server that keeps what is posted."""

    def __init__(self) -> None:
        self.status = 200
        self.status_line: str | None = None
        self.posts: list[Any] = []
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                webhook.posts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                if webhook.status_line is not None:
                    self.wfile.write(f"{webhook.status_line}\r\n".encode())
                    return
                self.send_response(webhook.status)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                """Keeps the test output quiet."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook/secret-part"


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    hook = Webhook()
    thread = threading.Thread(target=hook.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    monkeypatch.setenv(WEBHOOK_VARIABLE, f"{hook.url}\n")
    yield hook
    hook.server.shutdown()
    hook.server.server_close()
    thread.join()


def end(state: str, error: str | None = None) -> None:
    """Runs the step as kfp does."""
    status = PipelineTaskFinalStatus(
        state=state,
        pipeline_job_resource_name="runs/42",
        pipeline_task_name="exit-handler-1",
        error_code=None if error is None else 9,
        error_message=error,
    )
    post_outcome.python_func(pipeline="train-and-deploy", status=status)


def test_how_a_run_ended_is_posted(webhook: Webhook) -> None:
    end("SUCCEEDED")
    end("COMPLETE")
    end("FAILED", "step train-ranker: out of memory" + "." * 5000)
    well, well_on_an_older_backend, badly = webhook.posts
    assert well_on_an_older_backend == well
    assert well == {
        "text": "train-and-deploy SUCCEEDED",
        "pipeline": "train-and-deploy",
        "run": "runs/42",
        "state": "SUCCEEDED",
        "error": "",
    }
    assert badly["text"].startswith("train-and-deploy FAILED: step train-ranker: out of memory")
    assert len(badly["error"]) == 2000


@pytest.mark.parametrize(
    "kind", ["refuses", "is not there", "is no address", "speaks no HTTP", "has no address"]
)
def test_a_webhook_that_fails_fails_no_run(
    webhook: Webhook, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "refuses":
        webhook.status = 500
    elif kind == "is not there":
        monkeypatch.setenv(WEBHOOK_VARIABLE, "http://127.0.0.1:1/secret-part")
    elif kind == "is no address":
        monkeypatch.setenv(WEBHOOK_VARIABLE, "http://127.0.0.1:secret-part/hook")
    elif kind == "speaks no HTTP":
        webhook.status_line = "no protocol"
    else:
        monkeypatch.delenv(WEBHOOK_VARIABLE)
    end("SUCCEEDED")
    printed = capsys.readouterr()
    assert "secret-part" not in printed.out + printed.err
    assert "webhook" in printed.err
