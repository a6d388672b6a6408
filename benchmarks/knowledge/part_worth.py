"""What a large model's knowledge of a part of the items is worth to the ranker.

On `scientific`, as `recorded_worth.py`. The part is drawn at random; of the others nothing is known.
"""

from functools import partial
from typing import Final

import polars as pl

from benchmarks.knowledge.facet_worth import make_changed_space
from benchmarks.knowledge.quality import prepare_inputs
from benchmarks.knowledge.recorded_worth import run_trial_in_space
from benchmarks.ranker.trials import Trial, make_trial_rows
from benchmarks.shared.measured_process import run_on_all_cores
from benchmarks.shared.public_data import load_benchmark_config
from benchmarks.shared.results import Row

_DATASET: Final = "scientific"
_SEEDS: Final = range(1, 5)
_SHARES: Final = {"half": 0.5, "quarter": 0.25}
"""Name of a part -> its share of the items."""
_TEXT: Final = "text_space"


def measure_part_worth() -> list[Row]:
    """All rows: the ranker with knowledge of a part of the items, over that of raw text."""
    folder = prepare_inputs(_DATASET, ("text", "recorded"))
    config = load_benchmark_config(f"{_DATASET}-recorded")
    spaces = {_TEXT: folder / "space_text"}
    for part, share in _SHARES.items():
        spaces[f"{part}_space"] = make_changed_space(folder, part, config, partial(_draw_items, share=share))
    trials = [Trial(_DATASET, ranker, seed) for seed in _SEEDS for ranker in spaces]
    trial_metrics = run_on_all_cores(
        run_trial_in_space, trials, [folder] * len(trials), [spaces[trial.ranker] for trial in trials]
    )
    metrics_by_trial = dict(zip(trials, trial_metrics, strict=True))
    comparisons = {f"{part}_over_learnt_text": (f"{part}_space", _TEXT) for part in _SHARES}
    return list(make_trial_rows("knowledge", metrics_by_trial, comparisons))


def _draw_items(rows: pl.DataFrame, *, share: float) -> pl.DataFrame:
    return rows.sample(fraction=share, seed=0, shuffle=False)
