"""Intervals for ratio metrics with the user as the unit, and the sample-ratio check.

Every metric is a ratio of sums over users: CTR = clicks / impressions; orders per user = orders / users. Its
variance comes from the delta method (Deng, Knoblich, Lu, "Applying the Delta Method in Metric Analytics", KDD
2018), so that a user's many correlated impressions count as one observation.
"""

from collections.abc import Mapping, Sequence
from math import ceil, inf, isfinite, log, sqrt
from typing import Final, NamedTuple

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from contracts.array_types import DoubleArray

# Spread of relative lifts that the always-valid interval expects. It only moves where the interval is
# narrowest: the level holds for any. Lifts that a ranking earns lie below it.
_LIFT_SCALE: Final = 0.15
POWER: Final = 0.8
"""Chance of being seen that the smallest detectable lift is told for."""

MISMATCH_ALPHA: Final = 0.001
"""Below this p-value the split of users is a sample-ratio mismatch. Far below 0.05, since every report is
tested, and a broken split is far off (Fabijan et al. 2019)."""


class RatioEstimate(NamedTuple):
    """A ratio and what is known of its error."""

    value: float
    variance: float
    users: int


class LiftInterval(NamedTuple):
    """A point with its confidence interval; bounds are None where they cannot be had."""

    value: float | None
    low: float | None
    high: float | None


UNKNOWN: Final = LiftInterval(None, None, None)


def estimate_ratio(numerator: DoubleArray, denominator: DoubleArray) -> RatioEstimate | None:
    """Sum of `numerator` over sum of `denominator` (one entry a user), by the delta method.

    None when nothing is there to divide by. The variance is infinite for a single user.
    """
    num_users, denominator_sum = len(numerator), float(denominator.sum())
    if denominator_sum <= 0:
        return None
    ratio = float(numerator.sum()) / denominator_sum
    if num_users < 2:
        return RatioEstimate(ratio, inf, num_users)
    # The linear part of the ratio around its value: the delta method.
    residuals = (numerator - ratio * denominator) / (denominator_sum / num_users)
    return RatioEstimate(ratio, float(residuals.var(ddof=1)) / num_users, num_users)


def estimate_value_interval(estimate: RatioEstimate | None, *, confidence: float) -> LiftInterval:
    """Interval of one arm's metric (Student's t)."""
    if estimate is None:
        return UNKNOWN
    if not isfinite(estimate.variance):
        return LiftInterval(estimate.value, None, None)
    margin = _student_quantile(confidence, estimate.users - 1) * sqrt(estimate.variance)
    return LiftInterval(estimate.value, estimate.value - margin, estimate.value + margin)


def estimate_absolute_lift(
    challenger: RatioEstimate | None, control: RatioEstimate | None, *, confidence: float
) -> LiftInterval:
    """Challenger minus control, with Welch's degrees of freedom."""
    if challenger is None or control is None:
        return UNKNOWN
    difference = challenger.value - control.value
    total_variance = challenger.variance + control.variance
    if not isfinite(total_variance):
        return LiftInterval(difference, None, None)
    degrees_of_freedom = _welch_degrees_of_freedom(challenger, control)
    margin = _student_quantile(confidence, degrees_of_freedom) * sqrt(total_variance)
    return LiftInterval(difference, difference - margin, difference + margin)


def compute_p_value(challenger: RatioEstimate | None, control: RatioEstimate | None) -> float | None:
    """Two-sided p-value of no difference (Welch); None where it cannot be had."""
    if challenger is None or control is None:
        return None
    total_variance = challenger.variance + control.variance
    if not isfinite(total_variance) or total_variance <= 0:
        return None
    distance = abs(challenger.value - control.value) / sqrt(total_variance)
    return float(2 * stats.t.sf(distance, _welch_degrees_of_freedom(challenger, control)))


def adjust_p_values(p_values: Sequence[float]) -> list[float]:
    """P-values that hold the family-wise error over all metrics and arms (Holm 1979)."""
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1.0)
    return [float(value) for value in adjusted]


def estimate_relative_lift(
    challenger: RatioEstimate | None, control: RatioEstimate | None, *, confidence: float
) -> LiftInterval:
    """Challenger over control, minus 1, at a horizon that was fixed beforehand (Fieller 1954).

    Fieller's interval holds every lift d for which challenger - (1 + d) control is not far from zero. It
    never divides by a control that is itself uncertain, as log and delta intervals do; those missed the
    truth in up to 17 % of tests on heavy-tailed revenue (docs/log.md). A bound that the data do not give is
    None.
    """
    if challenger is None or control is None or control.value <= 0:
        return UNKNOWN
    if challenger.value <= 0 or not isfinite(challenger.variance + control.variance):
        return LiftInterval(challenger.value / control.value - 1, None, None)
    quantile = _student_quantile(confidence, _welch_degrees_of_freedom(challenger, control))
    return _bound_ratio(challenger, control, quantile)


def estimate_sequential_lift(
    challenger: RatioEstimate | None, control: RatioEstimate | None, *, confidence: float
) -> LiftInterval:
    """The relative lift with an interval that holds however often one looks.

    The mixture sequential test (Robbins 1970; Johari, Pekelis, Walsh 2015) gives the critical value, and
    Fieller's form the bounds. About 1.6 times as wide as the interval of a fixed horizon.
    """
    if challenger is None or control is None or control.value <= 0:
        return UNKNOWN
    if challenger.value <= 0 or not isfinite(challenger.variance + control.variance):
        return LiftInterval(challenger.value / control.value - 1, None, None)
    return _bound_ratio(challenger, control, _sequential_quantile(challenger, control, confidence))


def estimate_silent_lift(
    *,
    challenger_users: int,
    challenger_events: int,
    control_users: int,
    control_events: int,
    confidence: float,
) -> LiftInterval:
    """The relative lift where one of two arms did nothing at all. Zero is information.

    Given that k users of both arms did something, chance gives all k to one arm with probability share ** k.
    So k alone bounds the ratio of the arms' rates: the exact interval of Clopper and Pearson (1934). The
    bound holds however often one looks (Ville's inequality for the likelihood ratio of "never").

    Args:
        challenger_users: users of the challenger.
        challenger_events: those of them who did something.
        control_users: users of the control.
        control_events: those of them who did something.
        confidence: level of the interval.
    """
    num_events = challenger_events + control_events
    if (
        not num_events
        or min(challenger_events, control_events) > 0
        or not min(challenger_users, control_users)
    ):
        return UNKNOWN
    # The largest share of events that the silent arm may have.
    largest_share = 1 - ((1 - confidence) / 2) ** (1 / num_events)
    largest_odds = largest_share / (1 - largest_share)
    if challenger_events == 0:
        return LiftInterval(-1.0, -1.0, largest_odds * control_users / challenger_users - 1)
    return LiftInterval(None, control_users / challenger_users / largest_odds - 1, None)


def find_detectable_lift(
    challenger: RatioEstimate | None, control: RatioEstimate | None, *, confidence: float, is_sequential: bool
) -> float | None:
    """The smallest relative lift that this test would have seen in 80 of 100 cases.

    None where the control's own metric is not known well enough to tell. The same as tea-tasting's
    `RatioOfMeans.solve_power` without Student's correction, which searches where this is a product.
    """
    if challenger is None or control is None or control.value <= 0:
        return None
    if not isfinite(control.variance) or control.variance <= 0:
        return None
    # What counts is the error that the control's users would show in both arms.
    as_control = control._replace(
        variance=control.variance * control.users / challenger.users, users=challenger.users
    )
    quantile = (
        _sequential_quantile(as_control, control, confidence)
        if is_sequential
        else float(stats.norm.ppf((1 + confidence) / 2))
    )
    error = sqrt(control.variance + as_control.variance) / control.value
    return (quantile + float(stats.norm.ppf(POWER))) * error


def compute_sample_ratio_p_value(users: Mapping[str, int], shares: Mapping[str, float]) -> float:
    """P-value of the users' split if arms had been drawn by `shares` (chi-square; Fabijan et al. 2019)."""
    observed_users = np.array([users.get(arm, 0) for arm in shares], dtype=np.float64)
    if len(shares) < 2 or observed_users.sum() == 0:
        return 1.0
    intended_shares = np.array(list(shares.values()), dtype=np.float64)
    expected_users = intended_shares / intended_shares.sum() * observed_users.sum()
    return float(stats.chisquare(observed_users, expected_users).pvalue)


def plan_sample_ratio_users(shares: Mapping[str, float], *, arm: str, lost: float) -> int:
    """Users, all arms together, with whom a mismatch is found in 80 of 100 tests.

    Args:
        shares: arm -> intended share.
        arm: whose users get lost on the way to the log.
        lost: share of them, 0.01 for 1 %.
    """
    total = sum(shares.values())
    intended = np.array(list(shares.values())) / total
    kept = np.array([share * (1 - lost * (name == arm)) for name, share in shares.items()]) / total
    kept /= kept.sum()
    # The chi-square statistic grows with the number of users by this much each (Cohen's w squared).
    distance = float(((kept - intended) ** 2 / intended).sum())
    degrees_of_freedom = len(shares) - 1
    critical_value = stats.chi2.isf(MISMATCH_ALPHA, degrees_of_freedom)
    noncentrality = brentq(
        lambda value: stats.ncx2.sf(critical_value, degrees_of_freedom, value) - POWER, 1e-6, 1e3
    )
    return ceil(float(noncentrality) / distance)


def _bound_ratio(challenger: RatioEstimate, control: RatioEstimate, quantile: float) -> LiftInterval:
    """Solves (challenger - ratio control)^2 <= quantile^2 (variance + ratio^2 control's variance)."""
    squared_quantile = quantile**2
    quadratic = control.value**2 - squared_quantile * control.variance
    linear = challenger.value * control.value
    constant = challenger.value**2 - squared_quantile * challenger.variance
    value = challenger.value / control.value - 1
    root = sqrt(max(linear**2 - quadratic * constant, 0.0))
    # A metric is never negative, so its ratio lies above 0 where the data say nothing of a lower bound.
    low = constant / (linear + root) - 1 if constant > 0 else -1.0
    high = (linear + root) / quadratic - 1 if quadratic > 0 else None
    # Where the arms do not vary, rounding alone could put a bound on the wrong side of the value.
    return LiftInterval(value, min(low, value), None if high is None else max(high, value))


def _sequential_quantile(challenger: RatioEstimate, control: RatioEstimate, confidence: float) -> float:
    """Critical value of a test that is looked at all the time, in standard errors."""
    relative_variance = challenger.variance / challenger.value**2 + control.variance / control.value**2
    if relative_variance <= 0:
        return 0.0
    mixed_variance = relative_variance + _LIFT_SCALE**2
    evidence = 2 * log(1 / (1 - confidence)) + log(mixed_variance / relative_variance)
    normal_quantile = sqrt(mixed_variance / _LIFT_SCALE**2 * evidence)
    degrees_of_freedom = _welch_degrees_of_freedom(challenger, control)
    # Few users have heavier tails than the normal distribution. Far out the two cannot be told apart in
    # double precision, and nothing would be seen in any case.
    student_quantile = float(stats.t.isf(stats.norm.sf(normal_quantile), degrees_of_freedom))
    return student_quantile if isfinite(student_quantile) else normal_quantile * 10


def _student_quantile(confidence: float, degrees_of_freedom: float) -> float:
    return float(stats.t.ppf((1 + confidence) / 2, degrees_of_freedom))


def _welch_degrees_of_freedom(first: RatioEstimate, second: RatioEstimate) -> float:
    squared_variance = (first.variance + second.variance) ** 2
    weighted_squares = first.variance**2 / (first.users - 1) + second.variance**2 / (second.users - 1)
    return squared_variance / weighted_squares if weighted_squares > 0 else first.users + second.users - 2.0
