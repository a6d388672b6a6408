"""Processes that run language models: how they are started, awaited and ended."""

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# Without a GPU: no compilation, and whole prompts at once (seeded sampling of parts crashes vLLM on the CPU).
ENGINE = {"enforce_eager": True, "enable_chunked_prefill": False, "max_num_batched_tokens": 16_384}
_STARTUP_S = 300


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
