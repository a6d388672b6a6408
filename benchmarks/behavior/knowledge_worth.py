"""What knowledge and a pretrained language model are worth to the behavior model.

On `scientific`, where a large language model has described the items. One behavior model is trained in each
space: of raw text, with the handbook's knowledge, with the large model's. One more leaves out what the large
model tells of complements, which the score reads beside the space. And one starts from the lowest blocks of a
small causal language model (`scripts/make_smollm.sh`), made bidirectional. All learn from the same visible
behaviors and are asked for the same hidden ones.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from benchmarks.behavior.compared_models import name_lists_once
from benchmarks.behavior.hidden_behaviors import measure_lists
from benchmarks.behavior.quality import bootstrap_ratio, name_metric
from benchmarks.behavior.task_inputs import make_bench
from benchmarks.shared.measured_process import run_on_all_cores
from benchmarks.shared.public_data import PublicDataMissingError, load_benchmark_config
from benchmarks.shared.results import REPOSITORY, Row, make_row
from contracts.array_types import IntArray
from pipelines.config import RunConfig

_DATASET: Final = "scientific"
SEEDS: Final = range(3)
_PRETRAINED: Final = REPOSITORY / "build/smollm2-135m"
NUM_BLOCKS: Final = 4
"""Of the pretrained model's 30: all of them take hours on two cores."""
_PRETRAINED_MODEL: Final = "llm_space_pretrained"
_METRICS: Final = (("all", "recall10"), ("nonhead", "recall20"), ("cold", "recall50"))
"""Slice and metric of the rows."""
OVER: Final = {
    "handbook_over_text": ("handbook_space", "text_space"),
    "llm_over_text": ("llm_space", "text_space"),
    "llm_complements_over_none": ("llm_space", "llm_space_without_complements"),
    "pretrained_over_new": (_PRETRAINED_MODEL, "llm_space"),
}
"""Row -> model over model."""


class Trial(NamedTuple):
    """One behavior model with one seed."""

    model: str
    seed: int


def measure_knowledge_worth(*, quick: bool) -> Iterator[Row]:
    """Rows of each model, and of the pairs in `OVER`; `quick`: one seed, and no pretrained model."""
    models = list(
        dict.fromkeys(model for pair in OVER.values() for model in pair if model != _PRETRAINED_MODEL)
    )
    trials = [Trial(model, seed) for model in models for seed in (SEEDS[:1] if quick else SEEDS)]
    # Task and checkpoint are written once, before processes share them.
    task = make_bench(configure_trial(trials[0])).task
    if not quick:
        trials.append(Trial(_PRETRAINED_MODEL, 0))
        shorten_checkpoint(_PRETRAINED, _locate_checkpoint(configure_trial(trials[-1])))
    lists = dict(zip(trials, run_on_all_cores(_run_trial, trials), strict=True))
    scores = {trial: measure_lists(task, trial_lists) for trial, trial_lists in lists.items()}
    is_test = ~task.is_validation
    for model in dict.fromkeys(trial.model for trial in trials):
        seeds = [trial.seed for trial in trials if trial.model == model]
        for slice_name, metric in _METRICS:
            values = [scores[Trial(model, seed)][slice_name][metric][is_test] for seed in seeds]
            yield make_row(
                f"behavior.{_DATASET}.{model}.{name_metric(slice_name, metric)}",
                [float(np.nanmean(seed_values)) for seed_values in values],
                unit=name_metric(slice_name, metric),
                data=f"{_DATASET}, test users, as it ships",
                seeds=seeds,
            )
    for name, (model, other) in OVER.items():
        shared = [seed for seed in SEEDS if {Trial(model, seed), Trial(other, seed)} <= lists.keys()]
        for slice_name, metric in _METRICS if shared else ():
            ours, theirs = (
                np.mean([scores[Trial(side, seed)][slice_name][metric] for seed in shared], axis=0)[is_test]
                for side in (model, other)
            )
            ratio = bootstrap_ratio(ours, theirs)
            row_id = f"behavior.{_DATASET}.{name}.{name_metric(slice_name, metric)}_ratio"
            data = f"{_DATASET}, test users, as it ships, paired bootstrap of users"
            yield make_row(row_id, ratio.value, unit="ratio", data=data, sd=ratio.sd)


def configure_trial(trial: Trial) -> RunConfig:
    """The data set's configuration with the trial's knowledge, start and seed."""
    config = load_benchmark_config(_DATASET)
    source = load_benchmark_config(f"{_DATASET}-recorded") if "llm" in trial.model else config
    embedding = source.embedding.model_copy(update={"knowledge": trial.model != "text_space"})
    behavior = source.behavior.model_copy(update={"seed": trial.seed})
    if "without_complements" in trial.model:
        complements = behavior.complements.model_copy(update={"weight": 0.0})
        behavior = behavior.model_copy(update={"complements": complements})
    if trial.model == _PRETRAINED_MODEL:
        network = behavior.network.model_copy(update={"pretrained": str(_locate_checkpoint(config))})
        behavior = behavior.model_copy(update={"network": network})
    return config.model_copy(
        update={"knowledge": source.knowledge, "embedding": embedding, "behavior": behavior}
    )


def shorten_checkpoint(model: Path, out: Path) -> None:
    """Writes the lowest blocks of a causal language model as a checkpoint of their own; once.

    Raises:
        PublicDataMissingError: the model was not made.
    """
    if (out / "model.safetensors").is_file():
        return
    if not (model / "model.safetensors").is_file():
        raise PublicDataMissingError("there is no pretrained model: run scripts/make_smollm.sh")
    from transformers import AutoModelForCausalLM

    causal_model = AutoModelForCausalLM.from_pretrained(model, use_safetensors=True)
    del causal_model.model.layers[NUM_BLOCKS:]
    causal_model.config.num_hidden_layers = NUM_BLOCKS
    causal_model.save_pretrained(out)


def _locate_checkpoint(config: RunConfig) -> Path:
    return config.home / "bench_behavior" / "lowest_blocks"


def _run_trial(trial: Trial) -> IntArray:
    return name_lists_once(make_bench(configure_trial(trial)))["shipped"]
