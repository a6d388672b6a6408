"""Calibration of clicks on the embedded shop's held-out impressions."""

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.knowledge.quality import prepare_inputs
from benchmarks.ranker.trials import RankerInputs, measure_trained_ranker
from benchmarks.shared.results import Row, make_row
from models.ranker.config import RankerConfig, RankerFeatures


def measure_shop_calibration(*, quick: bool) -> list[Row]:
    """The row of the shop; `quick`: raw text vectors, one seed."""
    space, seeds = ("raw", range(1)) if quick else ("knowledge", range(3))
    folder = prepare_inputs("shop", (space,))
    inputs = RankerInputs(folder / "training_set", folder / "dataset", folder / f"space_{space}")
    calibration_errors = [_measure_calibration(inputs, seed) for seed in seeds]
    data = f"embedded shop, test impressions, {space} space, no inferred behaviors"
    return [
        make_row("ranker.shop.ece", calibration_errors, unit="ece", better="lower", data=data, seeds=seeds)
    ]


def _measure_calibration(inputs: RankerInputs, seed: int) -> float:
    config = RankerConfig(seed=seed, features=RankerFeatures(inferred=False))
    with TemporaryDirectory() as scratch:
        ((_, measured),) = measure_trained_ranker(config, inputs, Path(scratch), ["impressions"])
        return float(measured.summary["ece"])
