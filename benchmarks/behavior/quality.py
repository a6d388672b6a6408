"""Recall of hidden behaviors: the behavior model alone, what ships, and their peers."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from benchmarks.behavior.compared_models import PUBLIC_PEERS, Job, run_model_job
from benchmarks.behavior.hidden_behaviors import mask_excluded_items, measure_lists
from benchmarks.behavior.task_inputs import BehaviorBench, prepare_bench
from benchmarks.shared.measured_process import run_on_all_cores
from benchmarks.shared.results import Row, make_row
from contracts.array_types import DoubleArray, IntArray

TASKS = ("scientific", "electronics")
_QUICK_MODELS = ("linear", "model")
_PUBLISHED_METRICS = (("all", "recall10"), ("nonhead", "recall20"), ("cold", "recall50"))
"""Slice and metric of the rows of each model."""
_RATIO_METRICS = (("all", "recall10"), ("all", "recall20"), ("all", "recall50"), ("nonhead", "recall20"))
"""Slice and metric of the rows of what ships over EASE with text."""
_TUNED_PEERS = {"all": "ease_text", "nonhead": "ease_text_nonhead"}
"""Slice -> the mixture of EASE and text that was tuned for it."""
_NUM_BOOTSTRAP = 2000


class Ratio(NamedTuple):
    """How many times better, with a paired bootstrap over users."""

    value: float
    sd: float


def measure_quality(*, quick: bool) -> list[Row]:
    """All rows of quality; `quick`: one data set, without the trained peers."""
    datasets = TASKS[:1] if quick else TASKS
    models = _QUICK_MODELS if quick else ("model", *PUBLIC_PEERS, "linear")
    benches = {dataset: prepare_bench(dataset) for dataset in datasets}
    jobs = [Job(dataset, model) for dataset in datasets for model in models]
    lists_by_dataset: dict[str, dict[str, IntArray]] = {dataset: {} for dataset in datasets}
    for job, lists_by_model in zip(jobs, run_on_all_cores(run_model_job, jobs), strict=True):
        lists_by_dataset[job.dataset] |= lists_by_model
    rows = [
        row
        for dataset, bench in benches.items()
        for row in _make_task_rows(dataset, bench, lists_by_dataset[dataset])
    ]
    valid_share = min(
        _measure_valid_share(benches[dataset], lists[model])
        for dataset, lists in lists_by_dataset.items()
        for model in ("model", "shipped")
    )
    valid_data = "all data sets, model alone and as it ships"
    return [*rows, make_row("behavior.validity", valid_share, unit="validity", data=valid_data)]


def bootstrap_ratio(ours: DoubleArray, theirs: DoubleArray, *, seed: int = 0) -> Ratio:
    """mean(ours) / mean(theirs) over the users who have both; users are drawn with replacement."""
    has_both = ~(np.isnan(ours) | np.isnan(theirs))
    value_pairs = np.stack([ours[has_both], theirs[has_both]])
    rng = np.random.default_rng(seed)
    resampled_ratios = np.empty(_NUM_BOOTSTRAP)
    for resample in range(_NUM_BOOTSTRAP):
        drawn_users = rng.integers(0, value_pairs.shape[1], value_pairs.shape[1])
        our_sum, their_sum = value_pairs[:, drawn_users].sum(axis=1)
        resampled_ratios[resample] = our_sum / their_sum if their_sum else np.nan
    our_sum, their_sum = value_pairs.sum(axis=1)
    return Ratio(our_sum / their_sum, float(np.nanstd(resampled_ratios)))


def _make_task_rows(dataset: str, bench: BehaviorBench, lists: dict[str, IntArray]) -> Iterator[Row]:
    scores = {model: measure_lists(bench.task, model_lists) for model, model_lists in lists.items()}
    is_test = ~bench.task.is_validation
    data = f"{dataset}, test users"
    for model, model_scores in scores.items():
        for slice_name, metric in _PUBLISHED_METRICS:
            if slice_name not in model_scores:
                continue
            user_values = model_scores[slice_name][metric][is_test]
            standard_error = float(np.nanstd(user_values) / np.sqrt(np.count_nonzero(~np.isnan(user_values))))
            metric_name = name_metric(slice_name, metric)
            row_id = f"behavior.{dataset}.{model}.{metric_name}"
            mean_value = float(np.nanmean(user_values))
            yield make_row(row_id, mean_value, unit=metric_name, data=data, sd=standard_error)
    for slice_name, metric in _RATIO_METRICS:
        peer_scores = scores[_TUNED_PEERS[slice_name]]
        if slice_name not in peer_scores:
            continue
        shipped_values = scores["shipped"][slice_name][metric][is_test]
        ratio = bootstrap_ratio(shipped_values, peer_scores[slice_name][metric][is_test])
        row_id = f"behavior.{dataset}.shipped_over_ease_text.{name_metric(slice_name, metric)}_ratio"
        yield make_row(row_id, ratio.value, unit="ratio", data=f"{data}, paired bootstrap", sd=ratio.sd)


def name_metric(slice_name: str, metric: str) -> str:
    """The metric in a row's id; of a slice with its name."""
    return metric if slice_name == "all" else f"{slice_name}_{metric}"


def _measure_valid_share(bench: BehaviorBench, lists: IntArray) -> float:
    """Share of named items that the catalogue holds and the user has not logged."""
    asked_users = bench.task.asked_users
    asked_lists = lists[asked_users]
    logged_items = mask_excluded_items(bench.task, asked_users)
    is_logged = logged_items[np.arange(len(asked_users))[:, None], asked_lists]
    return float((~is_logged)[asked_lists >= 0].mean())
