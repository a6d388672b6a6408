"""Are probabilities what they say? Predicted against observed, in bins of equal size: numbers, and a plot (SVG)."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.ranker.metrics import Bools

_SIZE, _MARGIN = 320, 40


class Bin(NamedTuple):
    """Candidates whose predicted probabilities lie side by side."""

    predicted: float
    """Mean predicted probability."""
    observed: float
    """Share of positives."""
    candidates: int


def reliability(probabilities: npt.NDArray[np.float32], labels: Bools, *, num_bins: int = 10) -> list[Bin]:
    """Bins of equal size, ascending; the same that the expected calibration error is taken over, but wider."""
    order = np.argsort(probabilities, kind="stable")
    parts = [part for part in np.array_split(order, num_bins) if len(part)]
    return [Bin(float(probabilities[part].mean()), float(labels[part].mean()), len(part)) for part in parts]


def reliability_svg(bins: list[Bin], *, title: str) -> str:
    """The plot: a point per bin, on the diagonal where the ranker is right. Both axes end at the largest value."""
    top = max([1e-6, *(value for found in bins for value in found[:2])])
    total = _SIZE + 2 * _MARGIN

    def at(predicted: float, observed: float) -> str:
        return f"{_MARGIN + _SIZE * predicted / top:.1f},{_MARGIN + _SIZE * (1 - observed / top):.1f}"

    points = [at(found.predicted, found.observed) for found in bins]
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="4"/>' for x, y in (point.split(",") for point in points))
    corner = at(0, 0).split(",")[1]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {total}" '
        'font-family="sans-serif" font-size="12">'
        f'<text x="{_MARGIN}" y="{_MARGIN / 2}">{title}</text>'
        f'<rect x="{_MARGIN}" y="{_MARGIN}" width="{_SIZE}" height="{_SIZE}" fill="none" stroke="#999"/>'
        f'<polyline points="{at(0, 0)} {at(top, top)}" stroke="#999" stroke-dasharray="4"/>'
        f'<polyline points="{" ".join(points)}" fill="none" stroke="#1f77b4"/><g fill="#1f77b4">{dots}</g>'
        f'<text x="{_MARGIN}" y="{float(corner) + 16:.1f}">0</text>'
        f'<text x="{_MARGIN + _SIZE}" y="{float(corner) + 16:.1f}" text-anchor="middle">{top:.3g}</text>'
        f'<text x="{total / 2}" y="{total - 8}" text-anchor="middle">predicted</text>'
        f'<text x="14" y="{total / 2}" text-anchor="middle" transform="rotate(-90 14 {total / 2})">observed</text>'
        "</svg>\n"
    )
