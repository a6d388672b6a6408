"""Are probabilities what they say? Predicted against observed, in bins of equal size: numbers, and a plot
(SVG)."""

import io
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from contracts.array_types import BoolArray, FloatArray


class ReliabilityBin(NamedTuple):
    """Candidates whose predicted probabilities lie side by side."""

    predicted: float
    """Mean predicted probability."""
    observed: float
    """Share of positives."""
    candidates: int


def measure_reliability(
    probabilities: FloatArray, labels: BoolArray, *, num_bins: int = 10
) -> list[ReliabilityBin]:
    """Bins of equal size, ascending; the expected calibration error is taken over the same, but narrower."""
    order = np.argsort(probabilities, kind="stable")
    return [
        ReliabilityBin(float(probabilities[rows].mean()), float(labels[rows].mean()), len(rows))
        for rows in np.array_split(order, num_bins)
        if len(rows)
    ]


def draw_reliability(bins: list[ReliabilityBin], *, title: str) -> str:
    """Draws a point per bin, on the diagonal where the ranker is right."""
    predicted, observed = (
        [reliability_bin.predicted for reliability_bin in bins],
        [reliability_bin.observed for reliability_bin in bins],
    )
    largest = max([1e-6, *predicted, *observed])
    # Without a salt and a date the same numbers give the same file.
    with mpl.rc_context({"svg.hashsalt": title, "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(4, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, largest], [0, largest], color="0.6", linestyle="--")
        axes.plot(predicted, observed, marker="o")
        axes.set(title=title, xlabel="predicted", ylabel="observed", aspect="equal")
        svg = io.StringIO()
        figure.savefig(svg, format="svg", metadata={"Date": None})
    return svg.getvalue()
