import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.statistics import (
    UNKNOWN,
    Estimate,
    absolute_lift,
    ratio_estimate,
    relative_lift,
    sample_ratio_p_value,
    value_interval,
)


def clicks_of_users(rng: np.random.Generator, users: int, ctr: float) -> tuple[np.ndarray, np.ndarray]:
    """Users differ in taste and in visits, so that their impressions are correlated."""
    impressions = rng.geometric(0.1, users).astype(float) * 5
    taste = rng.beta(2, 2 / ctr - 2, users)
    return rng.binomial(impressions.astype(int), taste).astype(float), impressions


@pytest.mark.parametrize("lift", [1.0, 1.15])
def test_intervals_cover_the_truth_as_often_as_they_say(lift: float) -> None:
    rng = np.random.default_rng(5)
    inside = {"absolute": 0, "relative": 0, "value": 0}
    trials = 600
    for _ in range(trials):
        control = ratio_estimate(*clicks_of_users(rng, 300, 0.1))
        challenger = ratio_estimate(*clicks_of_users(rng, 300, 0.1 * lift))
        truths = {"absolute": 0.1 * (lift - 1), "relative": lift - 1, "value": 0.1}
        found = {
            "absolute": absolute_lift(challenger, control, confidence=0.9),
            "relative": relative_lift(challenger, control, confidence=0.9),
            "value": value_interval(control, confidence=0.9),
        }
        for name, interval in found.items():
            inside[name] += interval.low <= truths[name] <= interval.high
    assert all(0.86 < count / trials < 0.94 for count in inside.values()), inside


def test_treating_impressions_as_independent_would_be_far_too_sure() -> None:
    clicks, impressions = clicks_of_users(np.random.default_rng(0), 2000, 0.1)
    estimate = ratio_estimate(clicks, impressions)
    naive = estimate.value * (1 - estimate.value) / impressions.sum()
    assert estimate.variance > 3 * naive


def test_per_user_mean_is_the_ordinary_mean() -> None:
    orders = np.array([0.0, 2.0, 1.0, 5.0])
    estimate = ratio_estimate(orders, np.ones(4))
    assert estimate == pytest.approx((2.0, orders.var(ddof=1) / 4, 4))


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(0.5, 100), min_size=3, max_size=20),
    scale=st.floats(0.01, 1000),
    confidence=st.floats(0.5, 0.99),
)
def test_relative_lift_has_no_unit_and_holds_its_value(values: list[float], scale: float, confidence: float) -> None:
    first, second = np.array(values), np.array(values)[::-1] * 1.1
    plain, scaled = (
        relative_lift(
            ratio_estimate(first * unit, np.ones(len(first))),
            ratio_estimate(second * unit, np.ones(len(first))),
            confidence=confidence,
        )
        for unit in (1.0, scale)
    )
    assert plain.low <= plain.value <= plain.high
    assert scaled == pytest.approx(plain, rel=1e-6, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.1, 10), st.floats(0, 0.01), st.integers(20, 1000), st.floats(0.1, 10), st.floats(0, 0.01))
def test_swapping_the_arms_turns_the_lift_round(a: float, va: float, users: int, b: float, vb: float) -> None:
    first, second = Estimate(a, va, users), Estimate(b, vb, users)
    there = relative_lift(first, second, confidence=0.95)
    back = relative_lift(second, first, confidence=0.95)
    assert (1 + there.value) * (1 + back.value) == pytest.approx(1)
    if there.high is not None and back.low is not None:
        assert np.log1p(there.high) == pytest.approx(-np.log1p(back.low), rel=1e-3)


def test_what_cannot_be_known_is_not_made_up() -> None:
    nothing = np.zeros(0)
    one = ratio_estimate(np.array([1.0]), np.array([4.0]))
    zero = ratio_estimate(np.zeros(5), np.ones(5))
    some = ratio_estimate(np.array([1.0, 0.0, 2.0]), np.ones(3))
    assert ratio_estimate(nothing, nothing) is None
    assert value_interval(None, confidence=0.9) == UNKNOWN
    assert value_interval(one, confidence=0.9) == (0.25, None, None)
    assert absolute_lift(one, some, confidence=0.9) == (0.25 - 1.0, None, None)
    assert relative_lift(some, zero, confidence=0.9) == UNKNOWN
    assert relative_lift(zero, some, confidence=0.9) == (-1.0, None, None)


def test_sample_ratio_check_finds_a_skewed_split_and_not_a_fair_one() -> None:
    fair = {"a": 1.0, "b": 1.0}
    assert sample_ratio_p_value({"a": 5000, "b": 5060}, fair) > 0.1
    assert sample_ratio_p_value({"a": 5000, "b": 5600}, fair) < 1e-6
    assert sample_ratio_p_value({"a": 9000, "b": 1000}, {"a": 9.0, "b": 1.0}) == pytest.approx(1)
    assert sample_ratio_p_value({"a": 100}, {"a": 1.0, "b": 1.0}) < 1e-6
    assert sample_ratio_p_value({"a": 100}, {"a": 1.0}) == 1.0


def test_sample_ratio_p_value_is_uniform_without_mismatch() -> None:
    rng = np.random.default_rng(1)
    drawn = rng.multinomial(900, [1 / 3] * 3, size=2000)
    shares = {"a": 1.0, "b": 1.0, "c": 1.0}
    values = np.array([sample_ratio_p_value(dict(zip("abc", row.tolist(), strict=True)), shares) for row in drawn])
    assert (values < 0.05).mean() == pytest.approx(0.05, abs=0.015)
