"""Purchases in other shops: the embedded shop knows them, no model does. Recall of them, against log-only peers.

The visible log is the shop's own, to its end; hidden is what each user bought elsewhere and did not meet here. All else
is as in `behavior_quality`: the validation users' truth may choose (it does so for the peers), the others are reported.
"""

import os
from collections.abc import Iterator

import numpy as np

from benchmarks.behavior_models import Job, Lists, run_all
from benchmarks.behavior_protocol import measure_lists
from benchmarks.behavior_quality import COMMAND, ratio
from benchmarks.behavior_tasks import prepare
from benchmarks.results import ROOT, Row, make_row

LOG_ONLY = ("popularity", "item_knn", "ease", "sasrec", "bert4rec")
"""Peers that read nothing but the log."""
_DATA = "embedded shop, purchases elsewhere, test users"
_METRIC = "recall20"
_OVER_BEST = {
    "model": "model_offplatform_recall",
    "shipped": "default_offplatform_recall",
    "elsewhere_shipped": "true_offplatform_recall",
}
"""Model -> name of its ratio to the best log-only peer; `elsewhere` is configured for behaviours elsewhere."""
_WITHOUT = "elsewhere_without_pseudo_shipped"


def measure(*, quick: bool) -> list[Row]:
    """All rows of the shop; `quick`: without the trained peers and ablations."""
    os.chdir(ROOT.parent)
    models = ["linear", "model", "elsewhere"]
    if not quick:
        models += ["sasrec", "bert4rec", "bert4rec_text", "without_knowledge", "elsewhere_without_pseudo"]
    prepare("shop", "elsewhere")
    found = run_all([Job("shop", "elsewhere", model) for model in models])
    return list(_rows({name: lists for part in found for name, lists in part.items()}))


def _rows(lists: dict[str, Lists]) -> Iterator[Row]:
    task = prepare("shop", "elsewhere").task
    is_test = ~task.is_validation
    values = {}
    for model, made in lists.items():
        scores = measure_lists(task, made.items)["all"]
        values[model] = scores[_METRIC][is_test]
        for metric in ("recall10", "recall20", "recall50"):
            yield _row(f"behavior.shop.{model}.{metric}", float(np.nanmean(scores[metric][is_test])), metric)
    best = max((name for name in LOG_ONLY if name in values), key=lambda name: float(np.nanmean(values[name])))
    for model, name in _OVER_BEST.items():
        found = ratio(values[model], values[best])
        row = _row(f"behavior.shop.{name}_ratio", found.value, "ratio", over=best)
        yield row.model_copy(update={"sd": found.sd})
        yield _row(
            f"behavior.shop.{name}_ratio_low", found.low, "ratio", over=f"{best}, lower end of the 95 % interval"
        )
    if _WITHOUT in values:
        found = ratio(values["elsewhere_shipped"], values[_WITHOUT])
        what = "the same without pseudo-users of the knowledge's claims"
        row = _row("behavior.shop.elsewhere_over_without_pseudo.recall20_ratio", found.value, "ratio", over=what)
        yield row.model_copy(update={"sd": found.sd})


def _row(row_id: str, value: float, unit: str, *, over: str | None = None) -> Row:
    data = f"{_DATA}, {_METRIC} over {over}" if over else _DATA
    return make_row(row_id, [value], unit=unit, better="higher", data=data, command=COMMAND)
