"""What a large model's knowledge of half of the items is worth to the ranker.

On `scientific`, as `recorded_worth.py`. The half is drawn at random; of the others nothing is known.
"""

from typing import Final

from benchmarks.knowledge.facet_worth import make_changed_space
from benchmarks.knowledge.quality import prepare_inputs
from benchmarks.knowledge.recorded_worth import run_trial_in_space
from benchmarks.ranker.trials import Trial, make_trial_rows
from benchmarks.shared.measured_process import run_on_all_cores
from benchmarks.shared.public_data import load_benchmark_config
from benchmarks.shared.results import Row

_DATASET: Final = "scientific"
_SEEDS: Final = range(1, 5)
_SHARE: Final = 0.5
_TEXT, _HALF = "text_space", "half_space"


def measure_half_worth() -> list[Row]:
    """All rows: the ranker with knowledge of half of the items, over that of raw text."""
    folder = prepare_inputs(_DATASET, ("text", "recorded"))
    config = load_benchmark_config(f"{_DATASET}-recorded")
    half_space = make_changed_space(
        folder, "half", config, lambda rows: rows.sample(fraction=_SHARE, seed=0, shuffle=False)
    )
    spaces = {_TEXT: folder / "space_text", _HALF: half_space}
    trials = [Trial(_DATASET, ranker, seed) for seed in _SEEDS for ranker in spaces]
    trial_metrics = run_on_all_cores(
        run_trial_in_space, trials, [folder] * len(trials), [spaces[trial.ranker] for trial in trials]
    )
    metrics_by_trial = dict(zip(trials, trial_metrics, strict=True))
    return list(make_trial_rows("knowledge", metrics_by_trial, {"half_over_learnt_text": (_HALF, _TEXT)}))
