"""Paired bootstrap over users: how sure is a difference between two rankers on the same lists?"""

import math
from typing import NamedTuple

import numpy as np

from contracts.array_types import DoubleArray, IntArray

CONFIDENCE = 0.95
"""Level of all intervals: the custom of the field."""
_NORMAL_QUANTILE = 1.96
"""Standard deviations to either end of an interval of that level."""
_SEED = 0
"""The same users are drawn for every comparison."""


class MetricComparison(NamedTuple):
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


def widen_by_seed_noise(comparison: MetricComparison, seed_noise: float) -> MetricComparison:
    """The comparison with an interval that holds the luck of both trainings, too.

    Each metric would be another with another training seed, by `seed_noise` of itself (one standard
    deviation). Bootstrap and seeds are independent, so their half-widths are added in quadrature.
    """
    noise = _NORMAL_QUANTILE * seed_noise * math.hypot(comparison.ours, comparison.theirs)
    difference = comparison.difference
    return comparison._replace(
        low=difference - math.hypot(difference - comparison.low, noise),
        high=difference + math.hypot(comparison.high - difference, noise),
    )


def compare_rankers(
    ours: DoubleArray,
    theirs: DoubleArray,
    users: IntArray,
    *,
    num_bootstrap: int,
    confidence: float = CONFIDENCE,
    seed: int = _SEED,
) -> MetricComparison:
    """Compares a per-list metric; users are drawn with replacement, each with all of their lists.

    Args:
        ours: metric of each list, [N]; lists with NaN in either are left out.
        theirs: the same of the other ranker, [N].
        users: user of each list, [N], counted from 0.
        num_bootstrap: resamples.
        confidence: level of the percentile interval.
        seed: makes the draw reproducible.
    """
    is_measured = ~(np.isnan(ours) | np.isnan(theirs))
    ours, theirs, users = ours[is_measured], theirs[is_measured], users[is_measured]
    if not len(users):
        return MetricComparison(*([float("nan")] * 6))
    # A user's lists are alike. Drawing single lists would make the interval too narrow.
    _, user_codes = np.unique(users, return_inverse=True)
    user_gains, user_counts = np.bincount(user_codes, ours - theirs), np.bincount(user_codes)
    num_users = len(user_counts)
    rng = np.random.default_rng(seed)
    resampled_means = np.empty(num_bootstrap)
    for resample in range(num_bootstrap):
        drawn_users = rng.integers(0, num_users, num_users)
        resampled_means[resample] = user_gains[drawn_users].sum() / user_counts[drawn_users].sum()
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled_means, [tail, 1 - tail])
    our_mean, their_mean = float(ours.mean()), float(theirs.mean())
    ratio = our_mean / their_mean if their_mean > 0 else float("nan")
    return MetricComparison(our_mean, their_mean, our_mean - their_mean, float(low), float(high), ratio)
