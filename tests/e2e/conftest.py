"""A small run of the whole on the embedded shop, made once for all end-to-end tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PORTS = {"gateway": 13000, "http": 18000, "grpc": 18001, "metrics": 18002}

SMALL = {
    "name": "small",
    "shop": {"num_items": 300, "num_users": 500, "num_days": 30},
    "behavior": {"training": {"epochs": 2}},
    "ranker": {"max_epochs": 2},
    # So small a shop proves nothing: what is tested is that everything fits together.
    "evaluation": {"min_gain_over_baseline": -1.0, "max_ece": 1.0, "min_effective_lists": 0},
    "traffic": {"num_requests": 150},
    "serving": {
        # No answer may depend on how busy the machine is.
        "gateway": {"port": PORTS["gateway"], "deadline_ms": 10_000},
        "triton": {"http_port": PORTS["http"], "grpc_port": PORTS["grpc"], "metrics_port": PORTS["metrics"]},
    },
}


def run_reaseq(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the command as a user would, from the repository's root."""
    command = [sys.executable, "-m", "reaseq.cli", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | (env or {}), capture_output=True, text=True, check=False
    )


def write_config(folder: Path, **changes: object) -> Path:
    """Writes a small configuration whose workspace is `folder`."""
    config_path = folder / "small.yaml"
    config_path.write_text(yaml.safe_dump(SMALL | {"workspace": str(folder / "work")} | changes))
    return config_path


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """The demo on the small shop: (configuration, its completed process)."""
    if not (ROOT / ".venv-triton").is_dir() and "REASEQ_TRITON_PYTHON" not in os.environ:
        pytest.skip("no Triton environment; scripts/setup.sh triton makes it")
    config = write_config(tmp_path_factory.mktemp("e2e"))
    return config, run_reaseq("demo", "--config", str(config))
