"""The ladder: what each enhancement of the ranker adds to the others, and what it is worth on its own.

All rungs of a data set are trained on the same lists, with the same seeds, and measured once on the test part:
"contemporaneous" candidates over all items, and within-cold. What a rung adds is a ratio to another rung, seed by seed.
"""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np

from benchmarks.knowledge_quality import RAW_LENS, RankerInputs, measure_once
from benchmarks.ranker_inputs import read_inputs
from benchmarks.results import Row, make_row
from models.ranker.config import IDS_ONLY, WITHOUT_KNOWLEDGE, FeatureConfig, RankerConfig

COMMAND = "make bench-ranker"
DATASETS = ("electronics", "scientific")
NUM_SEEDS = 3
_LOGGED = FeatureConfig(inferred=False)
_ALONE = (
    "recency",
    "event_type",
    "evidence",
    "user_summary",
    "semantic_id",
    "price_relation",
    "context",
    "statistics",
)
"""Enhancements that are measured on the plain DIN, each on its own."""
_RAW = {"lens_dim": RAW_LENS}


class Rung(NamedTuple):
    """A ranker: the space of its item vectors, its switches, what else differs from the default."""

    space: str
    features: FeatureConfig
    options: Mapping[str, Any] = {}


RUNGS: dict[str, Rung] = {
    "id_alone": Rung("raw", IDS_ONLY.model_copy(update={"category": False, "brand": False, "price": False})),
    "ids": Rung("raw", IDS_ONLY),
    **{
        # Raw vectors have no semantic ids.
        f"ids_{name}": Rung("knowledge" if name == "semantic_id" else "raw", IDS_ONLY.model_copy(update={name: True}))
        for name in _ALONE
    },
    "no_knowledge": Rung("raw", WITHOUT_KNOWLEDGE),
    "text_item": Rung("raw", WITHOUT_KNOWLEDGE.model_copy(update={"knowledge": True}), _RAW),
    "text_similarity": Rung("raw", WITHOUT_KNOWLEDGE.model_copy(update={"similarity": True}), _RAW),
    "text": Rung("raw", _LOGGED, _RAW),
    "text_stats": Rung("raw", _LOGGED.model_copy(update={"statistics": True}), _RAW),
    "learnt_text": Rung("text_learnt", _LOGGED),
    "learnt": Rung("knowledge_learnt", _LOGGED),
    "knowledge": Rung("knowledge", _LOGGED),
    "knowledge_stats": Rung("knowledge", _LOGGED.model_copy(update={"statistics": True})),
    "inferred_attention": Rung("inferred", FeatureConfig(confidence=False)),
    "full": Rung("inferred", FeatureConfig()),
}
"""From ids to everything; spaces as in `ranker_inputs.read_inputs`."""
_OVER = {
    "full_over_ids": ("full", "ids"),
    "full_over_id_alone": ("full", "id_alone"),
    "full_over_text": ("full", "text"),
    "full_over_text_stats": ("full", "text_stats"),
    "knowledge_over_ids": ("knowledge", "ids"),
    "knowledge_over_text": ("knowledge", "text"),
    "knowledge_statistics": ("knowledge_stats", "knowledge"),
    "learnt_over_text": ("learnt", "text"),
    "learnt_text_over_text": ("learnt_text", "text"),
    "aspects": ("knowledge", "learnt"),
    "text_over_no_knowledge": ("text", "no_knowledge"),
    "no_knowledge_over_ids": ("no_knowledge", "ids"),
    "attributes": ("ids", "id_alone"),
    "inferred_attention": ("inferred_attention", "knowledge"),
    "inferred": ("full", "knowledge"),
    **{name: (f"ids_{name}", "ids") for name in _ALONE},
}
"""Row -> rung over rung."""
_QUICK = ("ids", "no_knowledge", "text")


class Trial(NamedTuple):
    """One rung of one data set with one seed."""

    dataset: str
    rung: str
    seed: int


Found = dict[Trial, dict[str, float]]
"""Trial -> metric -> value."""


def measure(*, quick: bool) -> list[Row]:
    """All rows of the ladder; `quick`: three rungs on the embedded shop."""
    datasets, rungs, seeds = (("shop",), _QUICK, 1) if quick else (DATASETS, tuple(RUNGS), NUM_SEEDS)
    made = {name: read_inputs(name, {RUNGS[rung].space for rung in rungs}) for name in datasets}
    trials = [Trial(name, rung, seed) for name in datasets for seed in range(seeds) for rung in rungs]
    inputs = [made[trial.dataset][RUNGS[trial.rung].space] for trial in trials]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=get_context("spawn")) as pool:
        found: Found = dict(zip(trials, pool.map(run_trial, trials, inputs), strict=True))
    rows = list(_rows(found))
    print(render(found))
    return rows


def run_trial(trial: Trial, inputs: RankerInputs) -> dict[str, float]:
    """Trains and measures one rung; what was measured is kept, so that a ladder that was stopped goes on."""
    rung = RUNGS[trial.rung]
    config = RankerConfig(seed=trial.seed, num_threads=1, features=rung.features, **rung.options)
    found = measure_once(trial.rung, config, inputs)
    print(*trial, *(f"{name} {value:.4f}" for name, value in found.items()), flush=True)
    return found


def render(found: Found) -> str:
    """The ladder as a table: means over the seeds."""
    metrics = list(next(iter(found.values())))
    lines = [f"{'':24}" + "".join(f"{metric:>14}" for metric in metrics)]
    for dataset, rung in dict.fromkeys((trial.dataset, trial.rung) for trial in found):
        mine = [values for trial, values in found.items() if (trial.dataset, trial.rung) == (dataset, rung)]
        means = [np.mean([values[metric] for values in mine]) for metric in metrics]
        lines.append(f"{dataset + ' ' + rung:24}" + "".join(f"{mean:14.4f}" for mean in means))
    return "\n".join(lines)


def _rows(found: Found) -> Iterator[Row]:
    seeds: dict[tuple[str, str], list[int]] = {}
    for trial in found:
        seeds.setdefault((trial.dataset, trial.rung), []).append(trial.seed)
    metrics = list(next(iter(found.values())))
    for (dataset, rung), numbers in seeds.items():
        for metric in metrics:
            values = [found[Trial(dataset, rung, seed)][metric] for seed in numbers]
            yield _row(f"ranker.{dataset}.{rung}.{metric}", values, metric, dataset, numbers)
    for dataset in {trial.dataset: None for trial in found}:
        for name, (ours, theirs) in _OVER.items():
            numbers = [seed for seed in seeds.get((dataset, ours), []) if (dataset, theirs, seed) in found]
            if not numbers:
                continue
            for metric in ("ndcg10", "cold_ndcg10"):
                pairs = [
                    tuple(found[Trial(dataset, rung, seed)][metric] for rung in (ours, theirs)) for seed in numbers
                ]
                ratios = [a / b for a, b in pairs]
                yield _row(f"ranker.{dataset}.{name}.{metric}_ratio", ratios, "ratio", dataset, numbers)


def _row(row_id: str, values: list[float], unit: str, dataset: str, seeds: list[int]) -> Row:
    part = " within cold items" if ".cold_" in row_id else ""
    data = f"{dataset}, test part, contemporaneous candidates{part}"
    return make_row(row_id, values, unit=unit, better="higher", data=data, command=COMMAND, seeds=seeds)
