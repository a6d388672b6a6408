"""The ladder: what each enhancement of the ranker adds to the others, and what it is worth on its own.

All rungs of a data set are trained on the same lists, with the same seeds, and measured once on the test
part: "contemporaneous" candidates over all items, and within-cold. What a rung adds is a ratio to another
rung, seed by seed.
"""

from typing import NamedTuple

from benchmarks.ranker.ladder_inputs import read_ladder_inputs
from benchmarks.ranker.trials import (
    FULL_EPOCHS,
    QUICK_EPOCHS,
    RankerInputs,
    Trial,
    make_trial_rows,
    run_trial_once,
)
from benchmarks.shared.measured_process import run_on_all_cores
from benchmarks.shared.results import Row
from models.ranker.config import IDS_ONLY, WITHOUT_KNOWLEDGE, RankerFeatures

NUM_SEEDS = 3
_LOGGED = RankerFeatures(inferred=False)


class Rung(NamedTuple):
    """A ranker: the space of its item vectors and its switches."""

    space: str
    features: RankerFeatures


RUNGS: dict[str, Rung] = {
    "id_alone": Rung("raw", IDS_ONLY.model_copy(update={"category": False, "brand": False, "price": False})),
    "ids": Rung("raw", IDS_ONLY),
    "no_knowledge": Rung("raw", WITHOUT_KNOWLEDGE),
    "text": Rung("raw", _LOGGED),
    "text_stats": Rung("raw", _LOGGED.model_copy(update={"statistics": True})),
    "knowledge": Rung("knowledge", _LOGGED),
    "full": Rung("inferred", RankerFeatures()),
}
"""From ids to everything; spaces as in `read_ladder_inputs`."""
OVER = {
    "full_over_ids": ("full", "ids"),
    "full_over_text": ("full", "text"),
    "full_over_text_stats": ("full", "text_stats"),
    "knowledge_over_text": ("knowledge", "text"),
    "inferred": ("full", "knowledge"),
}
"""Row -> rung over rung."""
_QUICK = ("no_knowledge", "text")


def measure_ladder(dataset: str, *, quick: bool) -> list[Row]:
    """All rows of the ladder on a data set; `quick`: two rungs on the embedded shop, fewer epochs."""
    dataset, rungs, num_seeds = ("shop", _QUICK, 1) if quick else (dataset, tuple(RUNGS), NUM_SEEDS)
    inputs_by_space = read_ladder_inputs(dataset, {RUNGS[rung].space for rung in rungs})
    trials = [Trial(dataset, rung, seed) for seed in range(num_seeds) for rung in rungs]
    trial_inputs = [inputs_by_space[RUNGS[trial.ranker].space] for trial in trials]
    max_epochs = [QUICK_EPOCHS if quick else FULL_EPOCHS] * len(trials)
    trial_metrics = run_on_all_cores(run_rung_trial, trials, trial_inputs, max_epochs)
    return list(make_trial_rows("ranker", dict(zip(trials, trial_metrics, strict=True)), OVER))


def run_rung_trial(trial: Trial, inputs: RankerInputs, max_epochs: int) -> dict[str, float]:
    """Trains and measures one rung."""
    return run_trial_once(trial, RUNGS[trial.ranker].features, inputs, max_epochs)
