"""Intervals for ratio metrics with the user as the unit, and the sample-ratio check.

Every metric is a ratio of sums over users: CTR = clicks / impressions; orders per user = orders / users. Its variance
comes from the delta method (Deng, Knoblich, Lu, "Applying the Delta Method in Metric Analytics", KDD 2018), so that a
user's many correlated impressions count as one observation.
"""

from collections.abc import Mapping
from math import exp, isfinite, log, sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

Values = npt.NDArray[np.float64]


class Estimate(NamedTuple):
    """A ratio and what is known of its error."""

    value: float
    variance: float
    users: int


class Interval(NamedTuple):
    """A point with its confidence interval; bounds are None where they cannot be had."""

    value: float | None
    low: float | None
    high: float | None


UNKNOWN = Interval(None, None, None)


def ratio_estimate(numerator: Values, denominator: Values) -> Estimate | None:
    """Sum of `numerator` over sum of `denominator` (one entry a user), by the delta method.

    None when nothing is there to divide by. The variance is infinite for a single user.
    """
    users, total = len(numerator), float(denominator.sum())
    if total <= 0:
        return None
    value = float(numerator.sum()) / total
    if users < 2:
        return Estimate(value, float("inf"), users)
    residual = (numerator - value * denominator) / (total / users)
    return Estimate(value, float(residual.var(ddof=1)) / users, users)


def value_interval(estimate: Estimate | None, *, confidence: float) -> Interval:
    """Interval of one arm's metric (Student's t)."""
    if estimate is None:
        return UNKNOWN
    if not isfinite(estimate.variance):
        return Interval(estimate.value, None, None)
    margin = _quantile(confidence, estimate.users - 1) * sqrt(estimate.variance)
    return Interval(estimate.value, estimate.value - margin, estimate.value + margin)


def absolute_lift(challenger: Estimate | None, control: Estimate | None, *, confidence: float) -> Interval:
    """Challenger minus control, with Welch's degrees of freedom."""
    if challenger is None or control is None:
        return UNKNOWN
    value = challenger.value - control.value
    variance = challenger.variance + control.variance
    if not isfinite(variance):
        return Interval(value, None, None)
    margin = _quantile(confidence, _welch_freedom(challenger, control)) * sqrt(variance)
    return Interval(value, value - margin, value + margin)


def relative_lift(challenger: Estimate | None, control: Estimate | None, *, confidence: float) -> Interval:
    """Challenger over control, minus 1; the interval is symmetric on the log scale (Katz et al. 1978)."""
    if challenger is None or control is None or control.value <= 0:
        return UNKNOWN
    value = challenger.value / control.value - 1
    variance = challenger.variance + control.variance
    if challenger.value <= 0 or not isfinite(variance):
        return Interval(value, None, None)
    error = sqrt(challenger.variance / challenger.value**2 + control.variance / control.value**2)
    margin = _quantile(confidence, _welch_freedom(challenger, control)) * error
    center = log(challenger.value / control.value)
    return Interval(value, _expm1(center - margin), _expm1(center + margin))


def sample_ratio_p_value(users: Mapping[str, int], shares: Mapping[str, float]) -> float:
    """P-value of the split of `users` by arm if arms had been drawn by `shares` (chi-square; Fabijan et al. 2019)."""
    observed = np.array([users.get(arm, 0) for arm in shares], dtype=np.float64)
    if len(shares) < 2 or observed.sum() == 0:
        return 1.0
    intended = np.array(list(shares.values()), dtype=np.float64)
    return float(stats.chisquare(observed, intended / intended.sum() * observed.sum()).pvalue)


def _quantile(confidence: float, freedom: float) -> float:
    return float(stats.t.ppf((1 + confidence) / 2, freedom))


def _welch_freedom(first: Estimate, second: Estimate) -> float:
    total = (first.variance + second.variance) ** 2
    parts = first.variance**2 / (first.users - 1) + second.variance**2 / (second.users - 1)
    return total / parts if parts > 0 else float(first.users + second.users - 2)


def _expm1(exponent: float) -> float | None:
    return exp(exponent) - 1 if exponent < 700 else None
