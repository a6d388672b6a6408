"""Calibration of clicks on the embedded shop's held-out impressions."""

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.knowledge.quality import prepare_inputs
from benchmarks.ranker.trials import FULL_EPOCHS, QUICK_EPOCHS, RankerInputs, measure_trained_ranker
from benchmarks.shared.results import Row, make_row
from models.ranker.config import RankerConfig, RankerFeatures


def measure_shop_calibration(*, quick: bool) -> list[Row]:
    """The row of the shop; `quick`: raw text vectors, one seed, fewer epochs."""
    space, seeds, max_epochs = (
        ("raw", range(1), QUICK_EPOCHS) if quick else ("knowledge", range(3), FULL_EPOCHS)
    )
    folder = prepare_inputs("shop", (space,))
    inputs = RankerInputs(folder / "training_set", folder / "dataset", folder / f"space_{space}")
    calibration_errors = [_measure_calibration(inputs, seed, max_epochs) for seed in seeds]
    data = f"embedded shop, test impressions, {space} space, no inferred behaviors"
    return [
        make_row("ranker.shop.ece", calibration_errors, unit="ece", better="lower", data=data, seeds=seeds)
    ]


def _measure_calibration(inputs: RankerInputs, seed: int, max_epochs: int) -> float:
    config = RankerConfig(seed=seed, max_epochs=max_epochs, features=RankerFeatures(inferred=False))
    with TemporaryDirectory() as scratch:
        ((_, measured),) = measure_trained_ranker(config, inputs, Path(scratch), ["impressions"])
        return float(measured.summary["ece"])
