"""Recall of purchases in other shops, against log-only peers: the embedded shop knows them.

The visible log is the shop's own, to its end. Hidden is what each user bought elsewhere and did not meet
here. All else is as in quality.py: the validation users' truth may choose (it does so for the peers), the
others are reported.
"""

import numpy as np

from benchmarks.behavior.compared_models import Job, run_model_job
from benchmarks.behavior.hidden_behaviors import measure_lists
from benchmarks.behavior.quality import bootstrap_ratio
from benchmarks.behavior.task_inputs import prepare_bench
from benchmarks.shared.measured_process import run_on_all_cores
from benchmarks.shared.results import Row, make_row

LOG_ONLY_PEERS = ("popularity", "item_knn", "ease", "sasrec", "bert4rec")
"""Peers that read nothing but the log."""


def measure_shop_recall(*, quick: bool) -> list[Row]:
    """The row of the shop; `quick`: without the trained peers."""
    models = ["linear", "model"] if quick else ["linear", "model", "sasrec", "bert4rec"]
    task = prepare_bench("shop").task
    recall_by_model = {
        model: measure_lists(task, lists)["all"]["recall20"][~task.is_validation]
        for lists_by_model in run_on_all_cores(run_model_job, [Job("shop", model) for model in models])
        for model, lists in lists_by_model.items()
    }
    measured_peers = [peer for peer in LOG_ONLY_PEERS if peer in recall_by_model]
    best_peer = max(measured_peers, key=lambda peer: float(np.nanmean(recall_by_model[peer])))
    ratio = bootstrap_ratio(recall_by_model["shipped"], recall_by_model[best_peer])
    data = f"embedded shop, purchases elsewhere, test users, recall20 over {best_peer}"
    row_id = "behavior.shop.default_offplatform_recall_ratio"
    return [make_row(row_id, ratio.value, unit="ratio", data=data, sd=ratio.sd)]
