"""What a large language model's knowledge is worth to the ranker, over what raw text teaches it.

On `scientific`, whose items a large model has described (`configs/scientific-recorded.yaml`). Rankers of one
network are trained per seed in three spaces that are learned from the same log: of the raw text alone, with
the handbook's knowledge, with the large model's. All meet the same lists, and are measured on the test part.

Seed 0 is left out: which aspects stand apart in a space was chosen by looking at its figures.
"""

from pathlib import Path
from typing import Final

from benchmarks.knowledge.quality import prepare_inputs
from benchmarks.ranker.trials import (
    METRICS,
    NEW_ITEM_METRICS,
    RankerInputs,
    Trial,
    make_trial_rows,
    run_trial_once,
)
from benchmarks.shared.measured_process import run_on_all_cores
from benchmarks.shared.results import Row
from models.ranker.config import RankerFeatures

_DATASET: Final = "scientific"
SEEDS: Final = range(1, 9)
SPACES: Final = {"text_space": "text", "handbook_space": "knowledge", "llm_space": "recorded"}
"""Ranker -> its space, as in `prepare_inputs`."""
OVER: Final = {
    "llm_over_learnt_text": ("llm_space", "text_space"),
    "llm_over_handbook": ("llm_space", "handbook_space"),
    "handbook_over_learnt_text": ("handbook_space", "text_space"),
}
"""Row -> ranker over ranker."""
_NEW_ITEMS: Final = {
    "knowledge.scientific.llm_over_learnt_text.new_ndcg10_ratio": "knowledge.new_items.ndcg10_ratio"
}
"""Row -> the name under which it is published: a figure of its own."""


def measure_recorded_worth() -> list[Row]:
    """All rows: every ranker, and its gain over the others: all items, cold ones, by training events."""
    folder = prepare_inputs(_DATASET, tuple(SPACES.values()))
    trials = [Trial(_DATASET, ranker, seed) for seed in SEEDS for ranker in SPACES]
    trial_metrics = run_on_all_cores(run_space_trial, trials, [folder] * len(trials))
    metrics_by_trial = dict(zip(trials, trial_metrics, strict=True))
    rows = make_trial_rows("knowledge", metrics_by_trial, OVER, metrics=(*METRICS, *NEW_ITEM_METRICS))
    return [row.model_copy(update={"id": _NEW_ITEMS.get(row.id, row.id)}) for row in rows]


def run_space_trial(trial: Trial, folder: Path) -> dict[str, float]:
    """Trains and measures one ranker in one of the spaces of `SPACES`."""
    return run_trial_in_space(trial, folder, folder / f"space_{SPACES[trial.ranker]}")


def run_trial_in_space(trial: Trial, folder: Path, space: Path) -> dict[str, float]:
    """Trains and measures one ranker on what `prepare_inputs` made, in a space."""
    inputs = RankerInputs(folder / "training_set", folder / "dataset", space)
    return run_trial_once(trial, RankerFeatures(inferred=False), inputs)
