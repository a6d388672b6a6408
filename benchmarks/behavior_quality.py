"""Recall of hidden behaviours: the behaviour model, what ships, and their peers, on the same hidden behaviours."""

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from benchmarks.behavior_models import DECODINGS, PEERS, VARIANTS, Job, Lists, run_all
from benchmarks.behavior_protocol import Ints, Kind, Reals, Scores, excluded, measure_lists
from benchmarks.behavior_tasks import Bench, prepare
from benchmarks.results import ROOT, Row, make_row

COMMAND = "make bench-behavior"
TASKS: dict[str, tuple[str, Kind]] = {
    "scientific": ("scientific", "random"),
    "electronics": ("electronics", "random"),
}
"""Name in the result ids -> data set and what is hidden."""
SECONDARY: dict[str, tuple[str, Kind]] = {
    "scientific_last_two": ("scientific", "last_two"),
    "electronics_future": ("electronics", "time"),
}
FEW = ["linear", "model"]
TIMED = {"model", "shipped", *DECODINGS}
"""Models whose inference is timed: ways of decoding of one network."""
ONLY_ON: dict[str, tuple[str, ...]] = {
    "pretrained": ("scientific",),  # too slow on a processor for every data set
    "elsewhere": (),
    "elsewhere_without_pseudo": (),
}
"""Trainings that are not made on every data set."""
_KEPT = {
    "all": ("recall10", "recall20", "recall50", "ndcg10"),
    "nonhead": ("recall10", "recall20", "recall50"),
    "short": ("recall20",),
    "cold": ("recall50",),
    "noburst": ("recall20",),
}
"""Slice -> the metrics that become rows."""
_RATIOS = (("all", "recall10"), ("all", "recall20"), ("all", "recall50"), ("nonhead", "recall20"), ("cold", "recall50"))
_OVER = {"shipped": ("ease_text",), "model": ("ease", "ease_text")}
_TUNED_FOR = {("ease_text", "nonhead"): "ease_text_nonhead"}
"""A slice that a peer was tuned for on its own."""
_NUM_BOOTSTRAP = 2000
_TOP = 10


class Ratio(NamedTuple):
    """How many times better, with a paired bootstrap over users."""

    value: float
    sd: float
    low: float
    """Lower end of the 95 % interval."""


def measure(*, quick: bool) -> list[Row]:
    """All rows of quality; `quick`: one data set, without the trained peers and ablations."""
    if quick:
        return measure_tasks({"scientific": (TASKS["scientific"], FEW)})
    everything = [*VARIANTS, *PEERS, "linear"]
    models = {name: [model for model in everything if name in ONLY_ON.get(model, TASKS)] for name in TASKS}
    rows = measure_tasks({name: (TASKS[name], models[name]) for name in TASKS})
    shares = [row.value for row in rows if row.id.endswith((".model.validity", ".shipped.validity"))]
    return [*rows, _row("behavior.validity", min(shares), data="both data sets, model alone and shipped")]


def measure_tasks(tasks: dict[str, tuple[tuple[str, Kind], list[str]]]) -> list[Row]:
    """The rows of some tasks: name -> (data set and what is hidden, the jobs' models)."""
    os.chdir(ROOT.parent)
    benches = {name: prepare(*task) for name, (task, _) in tasks.items()}
    jobs = [(name, Job(*task, model)) for name, (task, models) in tasks.items() for model in models]
    found = run_all([job for _, job in jobs])
    rows: list[Row] = []
    for name, bench in benches.items():
        lists = {
            model: made
            for (task, _), part in zip(jobs, found, strict=True)
            if task == name
            for model, made in part.items()
        }
        rows += _task_rows(name, bench, lists)
    return rows


def ratio(ours: Reals, theirs: Reals, *, seed: int = 0) -> Ratio:
    """mean(ours) / mean(theirs) over the users who have both; users are drawn with replacement."""
    known = ~(np.isnan(ours) | np.isnan(theirs))
    pairs = np.stack([ours[known], theirs[known]])
    rng = np.random.default_rng(seed)
    drawn = np.empty(_NUM_BOOTSTRAP)
    for resample in range(_NUM_BOOTSTRAP):
        first, second = pairs[:, rng.integers(0, pairs.shape[1], pairs.shape[1])].sum(axis=1)
        drawn[resample] = first / second if second else np.nan
    first, second = pairs.sum(axis=1)
    return Ratio(first / second, float(np.nanstd(drawn)), float(np.nanquantile(drawn, 0.025)))


def _task_rows(name: str, bench: Bench, lists: dict[str, Lists]) -> Iterator[Row]:
    scores = {model: measure_lists(bench.task, made.items) for model, made in lists.items()}
    is_test = ~bench.task.is_validation
    data = f"{name}, test users"
    for model, made in lists.items():
        for part, metrics in _KEPT.items():
            for metric in metrics if part in scores[model] else ():
                prefix = "" if part == "all" else f"{part}_"
                values = scores[model][part][metric][is_test]
                error = float(np.nanstd(values) / np.sqrt(np.count_nonzero(~np.isnan(values))))
                row = _row(f"behavior.{name}.{model}.{prefix}{metric}", float(np.nanmean(values)), data=data)
                yield row.model_copy(update={"sd": error})
        yield from _list_rows(f"behavior.{name}.{model}", bench, made.items, data)
        if model in TIMED:
            what = f"{name}, lists of 50, processor time of one thread"
            yield _row(f"behavior.{name}.{model}.users_per_s", made.users_per_s, data=what, unit="users/s")
    for ours, others in _OVER.items():
        for theirs in others:
            best = {part: scores[_TUNED_FOR.get((theirs, part), theirs)][part] for part in scores[theirs]}
            yield from _ratio_rows(f"behavior.{name}.{ours}_over_{theirs}", scores[ours], best, is_test, data)


def _ratio_rows(prefix: str, ours: Scores, theirs: Scores, is_test: np.ndarray, data: str) -> Iterator[Row]:
    for part, metric in _RATIOS:
        if part not in ours:
            continue
        found = ratio(ours[part][metric][is_test], theirs[part][metric][is_test])
        name = metric if part == "all" else f"{part}_{metric}"
        row = _row(f"{prefix}.{name}_ratio", found.value, data=f"{data}, paired bootstrap", unit="ratio")
        yield row.model_copy(update={"sd": found.sd})
        yield _row(
            f"{prefix}.{name}_ratio_low", found.low, data=f"{data}, lower end of the 95 % interval", unit="ratio"
        )


def _list_rows(prefix: str, bench: Bench, items: Ints, data: str) -> Iterator[Row]:
    """What lists are like, whether they hit or not: of the first ten items of all asked users."""
    task = bench.task
    vectors = np.load(bench.folder / "raw.npy")
    top = items[task.asked, :_TOP]
    counts = task.visible_counts
    information = -np.log2((counts + 1) / (counts.sum() + len(counts)))
    yield _row(f"{prefix}.novelty", float(information[top][top >= 0].mean()), data=data, unit="bits")
    yield _row(f"{prefix}.diversity", _diversity(vectors, top), data=data, unit="1 - cosine")
    valid = ~excluded(task, task.asked)[np.arange(len(top))[:, None], items[task.asked]]
    yield _row(f"{prefix}.validity", float(valid[items[task.asked] >= 0].mean()), data=data, unit="share")


def _diversity(vectors: np.ndarray, top: Ints) -> float:
    """Mean over users of 1 - cosine between the items of a list: 1 - (|sum|^2 - n) / (n (n - 1)) for unit vectors."""
    filled = top >= 0
    sums = np.stack([vectors[row[kept]].sum(axis=0) for row, kept in zip(top, filled, strict=True)])
    count = filled.sum(axis=1)
    pairs = np.maximum(count * (count - 1), 1)
    return float((1 - ((sums**2).sum(axis=1) - count) / pairs)[count > 1].mean())


def _row(row_id: str, value: float, *, data: str, unit: str | None = None, better: Any = "higher") -> Row:
    return make_row(row_id, [value], unit=unit or row_id.rsplit(".", 1)[-1], better=better, data=data, command=COMMAND)
