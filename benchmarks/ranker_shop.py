"""Probabilities on the embedded shop's held-out impressions: calibration, and what the order head knows of orders."""

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.knowledge_quality import RankerInputs, prepare, read_test_lists
from benchmarks.results import Row, make_row
from contracts.dataset import read_dataset
from models.ranker.config import FeatureConfig, RankerConfig
from models.ranker.measure import measure as measure_scores
from models.ranker.metrics import auc
from models.ranker.rows import read_vectors
from models.ranker.scoring import ExportedRanker
from models.ranker.train import TRAINING_SET_FILE, train_ranker

COMMAND = "make bench-ranker"
_BETTER = {"ece": "lower", "order_ece": "lower"}


def measure(*, quick: bool) -> list[Row]:
    """All rows of the shop; `quick`: raw text vectors, one seed."""
    space, seeds = ("raw", range(1)) if quick else ("knowledge", range(3))
    folder = prepare("shop", (space,))
    inputs = RankerInputs(folder / "training_set", folder / "dataset", folder / f"space_{space}")
    found = [_measure(inputs, seed) for seed in seeds]
    data = f"embedded shop, test impressions, {space} space, no inferred behaviours"
    return [
        make_row(
            f"ranker.shop.{name}",
            [values[name] for values in found],
            unit=name,
            better="lower" if name in _BETTER else "higher",
            data=data,
            command=COMMAND,
            seeds=seeds,
        )
        for name in found[0]
    ]


def _measure(inputs: RankerInputs, seed: int) -> dict[str, float]:
    config = RankerConfig(seed=seed, features=FeatureConfig(inferred=False))
    vectors, space, _ = read_vectors(inputs.space)
    with TemporaryDirectory() as scratch:
        out = Path(scratch) / "ranker"
        train_ranker(*inputs, config, checkpoints=Path(scratch) / "checkpoints", out=out)
        ranker = ExportedRanker(out, read_dataset(inputs.dataset).items, vectors, space=space, num_threads=0)
        table = inputs.training_set / TRAINING_SET_FILE
        rows, users = read_test_lists(table, ranker, "impressions", Path(scratch) / "test")
        scores = ranker.score(rows, batch_size=256)
        summary = measure_scores(rows, scores, users).summary
        click_auc_on_orders = auc(scores.click, rows.orders)
    chosen = {name: summary[name] for name in ("ece", "order_ece", "auc", "order_auc")}
    return chosen | {"order_head_over_click_head_auc_delta": summary["order_auc"] - click_auc_on_orders}
