"""Paired bootstrap over users: how sure is a difference between two rankers on the same lists?"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Reals = npt.NDArray[np.float64]


class Comparison(NamedTuple):
    """A metric of two rankers on the same lists."""

    ours: float
    theirs: float
    difference: float
    low: float
    """Lower end of the difference's interval."""
    high: float
    """Upper end of the difference's interval."""
    ratio: float
    """ours / theirs; NaN where theirs is 0."""


def compare(
    ours: Reals, theirs: Reals, users: npt.NDArray[np.int64], *, num_bootstrap: int, confidence: float, seed: int
) -> Comparison:
    """Compares a per-list metric; users are drawn with replacement, each with all of his lists.

    Args:
        ours: metric of each list, [N]; lists with NaN in either are left out.
        theirs: the same of the other ranker, [N].
        users: user of each list, [N], counted from 0.
        num_bootstrap: resamples.
        confidence: level of the percentile interval.
        seed: makes the draw reproducible.
    """
    known = ~(np.isnan(ours) | np.isnan(theirs))
    ours, theirs, users = ours[known], theirs[known], users[known]
    if not len(users):
        return Comparison(*([float("nan")] * 6))
    _, codes = np.unique(users, return_inverse=True)
    gains, counts = np.bincount(codes, ours - theirs), np.bincount(codes)
    rng = np.random.default_rng(seed)
    means = np.empty(num_bootstrap)
    for resample in range(num_bootstrap):
        drawn = rng.integers(0, len(counts), len(counts))
        means[resample] = gains[drawn].sum() / counts[drawn].sum()
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    mean, other = float(ours.mean()), float(theirs.mean())
    ratio = mean / other if other > 0 else float("nan")
    return Comparison(mean, other, mean - other, float(low), float(high), ratio)
