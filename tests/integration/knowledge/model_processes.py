"""Processes that run language models: how they are started, awaited and ended."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
# Without a GPU: no compilation, and whole prompts at once (seeded sampling of parts crashes vLLM on the CPU).
ENGINE = {"enforce_eager": True, "enable_chunked_prefill": False, "max_num_batched_tokens": 16_384}
_STARTUP_S = 900


def environment() -> dict[str, str]:
    """Variables of processes that load models: offline, and easy on the machine."""
    ours = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "PYTHONPATH": str(ROOT),
    }
    return {**os.environ, **ours, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def end(process: "subprocess.Popen[str]") -> None:
    """Kills a process that leads a session, with all that it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(url: str, process: "subprocess.Popen[str]", log: Path) -> None:
    """Waits until a server answers; fails when it ended or took too long."""
    deadline = time.monotonic() + _STARTUP_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"vLLM was not ready after {_STARTUP_S} s: {log.read_text()[-3000:]}")


def serve_model(python: Path, model: Path, name: str, log: Path) -> Iterator[str]:
    """Serves a model by vLLM under a name, yields the root of its API, and ends the server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    engine = ["--enforce-eager", "--no-enable-chunked-prefill", "--max-num-batched-tokens", "16384"]
    structured = ["--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}']
    command = [
        python,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        model,
        "--served-model-name",
        name,
    ]
    command += ["--host", "127.0.0.1", "--port", port, "--dtype", "float32", *engine, *structured]
    # Without it the server would reserve memory for all positions that the model has.
    command += ["--max-model-len", min(16_384, read_num_positions(model))]
    with log.open("w") as output:
        process = subprocess.Popen(
            list(map(str, command)),
            env=environment(),
            cwd=log.parent,
            stdout=output,
            stderr=output,
            text=True,
            start_new_session=True,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        end(process)


def read_num_positions(model: Path) -> int:
    """How many positions a model has."""
    return int(json.loads((model / "config.json").read_text())["max_position_embeddings"])


def distill(
    python: Path | str, teacher: dict[str, Any], folder: Path, out: str, *options: str
) -> Iterator[dict[str, Any]]:
    """Runs a distillation in its own process; yields what it tells, and kills it when nobody listens."""
    script = ROOT / "tests/integration/knowledge/distil_run.py"
    arguments = [json.dumps(teacher), folder / "dataset", folder / "cache", folder / out, *options]
    with (folder / f"{out}.log").open("w") as log:
        process = subprocess.Popen(
            list(map(str, [python, script, *arguments])),
            env=environment(),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    assert process.stdout
    try:
        yield from (json.loads(line) for line in process.stdout if line.startswith("{"))
        assert process.wait() == 0, (folder / f"{out}.log").read_text()[-3000:]
    finally:
        process.kill()  # no more than this one: what it started has to go by itself
        process.wait()
