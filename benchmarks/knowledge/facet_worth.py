"""What each facet of a large model's knowledge is worth to the ranker, alone.

On `scientific`, as `recorded_worth.py`. A space per facet is learned of the raw text and of that facet of the
recorded knowledge; all else is blanked.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import polars as pl

from benchmarks.knowledge.quality import embed_catalogue, prepare_inputs
from benchmarks.knowledge.recorded_worth import run_trial_in_space
from benchmarks.ranker.trials import Trial, make_trial_rows
from benchmarks.shared.measured_process import run_on_all_cores
from benchmarks.shared.public_data import load_benchmark_config
from benchmarks.shared.results import Row
from contracts.artifacts import create_artifact, read_table, write_table
from contracts.tables import FACETS, KNOWLEDGE
from models.knowledge.distillation.finished_records import KNOWLEDGE_FILE
from pipelines.config import RunConfig

_DATASET: Final = "scientific"
_SEEDS: Final = range(1, 4)
_RAW_TEXT: Final = "text_space"
PARTS: Final = ("summary", *FACETS)
"""What the product is, then its facets."""


def measure_facet_worth() -> list[Row]:
    """All rows: the ranker of each part of the knowledge over that of raw text."""
    folder = prepare_inputs(_DATASET, ("text", "recorded"))
    run_on_all_cores(_make_space, PARTS, [folder] * len(PARTS))
    trials = [Trial(_DATASET, ranker, seed) for seed in _SEEDS for ranker in (_RAW_TEXT, *map(_name, PARTS))]
    trial_metrics = run_on_all_cores(_run_trial, trials, [folder] * len(trials))
    compared = {f"{_name(part)}_over_text": (_name(part), _RAW_TEXT) for part in PARTS}
    return list(make_trial_rows("knowledge", dict(zip(trials, trial_metrics, strict=True)), compared))


def _name(part: str) -> str:
    return f"only_{part}"


def _make_space(part: str, folder: Path) -> None:
    others = [pl.lit(None, KNOWLEDGE.schema[name]).alias(name) for name in PARTS if name != part]
    config = load_benchmark_config(_DATASET)
    make_changed_space(folder, _name(part), config, lambda rows: rows.with_columns(others))


def make_changed_space(
    folder: Path, name: str, config: RunConfig, change: Callable[[pl.DataFrame], pl.DataFrame]
) -> Path:
    """The space that is learned with a change of the recorded knowledge (table KNOWLEDGE); made once."""
    knowledge, space = (folder / f"{kind}_{name}" for kind in ("knowledge", "space"))
    if not knowledge.exists():
        rows = read_table(folder / "knowledge_recorded" / KNOWLEDGE_FILE, KNOWLEDGE)
        inputs = {"knowledge": folder / "knowledge_recorded"}
        with create_artifact(knowledge, kind="knowledge", inputs=inputs) as artifact:
            write_table(artifact.path / KNOWLEDGE_FILE, KNOWLEDGE, change(rows))
    if not space.exists():
        embed_catalogue(folder, config, knowledge.name, space)
    return space


def _run_trial(trial: Trial, folder: Path) -> dict[str, float]:
    space = "text" if trial.ranker == _RAW_TEXT else trial.ranker
    return run_trial_in_space(trial, folder, folder / f"space_{space}")
