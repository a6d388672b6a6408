import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from tea_tasting.aggr import Aggregates
from tea_tasting.metrics import RatioOfMeans

from monitoring.lift.lift_statistics import (
    MISMATCH_ALPHA,
    UNKNOWN,
    RatioEstimate,
    adjust_p_values,
    compute_p_value,
    compute_sample_ratio_p_value,
    estimate_absolute_lift,
    estimate_ratio,
    estimate_relative_lift,
    estimate_sequential_lift,
    estimate_silent_lift,
    estimate_value_interval,
    find_detectable_lift,
    plan_sample_ratio_users,
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
        control = estimate_ratio(*clicks_of_users(rng, 300, 0.1))
        challenger = estimate_ratio(*clicks_of_users(rng, 300, 0.1 * lift))
        truths = {"absolute": 0.1 * (lift - 1), "relative": lift - 1, "value": 0.1}
        intervals = {
            "absolute": estimate_absolute_lift(challenger, control, confidence=0.9),
            "relative": estimate_relative_lift(challenger, control, confidence=0.9),
            "value": estimate_value_interval(control, confidence=0.9),
        }
        for name, interval in intervals.items():
            inside[name] += interval.low <= truths[name] <= interval.high
    assert all(0.86 < count / trials < 0.94 for count in inside.values()), inside


def test_treating_impressions_as_independent_would_be_far_too_sure() -> None:
    clicks, impressions = clicks_of_users(np.random.default_rng(0), 2000, 0.1)
    estimate = estimate_ratio(clicks, impressions)
    naive = estimate.value * (1 - estimate.value) / impressions.sum()
    assert estimate.variance > 3 * naive


def test_per_user_mean_is_the_ordinary_mean() -> None:
    orders = np.array([0.0, 2.0, 1.0, 5.0])
    estimate = estimate_ratio(orders, np.ones(4))
    assert estimate == pytest.approx((2.0, orders.var(ddof=1) / 4, 4))


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(0.5, 100), min_size=3, max_size=20),
    scale=st.floats(0.01, 1000),
    confidence=st.floats(0.5, 0.99),
)
def test_relative_lift_has_no_unit_and_holds_its_value(
    values: list[float], scale: float, confidence: float
) -> None:
    first, second = np.array(values), np.array(values)[::-1] * 1.1
    plain, scaled = (
        estimate_relative_lift(
            estimate_ratio(first * unit, np.ones(len(first))),
            estimate_ratio(second * unit, np.ones(len(first))),
            confidence=confidence,
        )
        for unit in (1.0, scale)
    )
    assert plain.low <= plain.value
    # Few users may not tell how large the lift can be.
    assert plain.high is None or plain.value <= plain.high
    for one_bound, same_bound in zip(scaled, plain, strict=True):
        if same_bound is None:
            assert one_bound is None
        else:
            assert one_bound == pytest.approx(same_bound, rel=1e-6, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.1, 10), st.floats(0, 0.01), st.integers(20, 1000), st.floats(0.1, 10), st.floats(0, 0.01))
def test_swapping_the_arms_turns_the_lift_round(a: float, va: float, users: int, b: float, vb: float) -> None:
    first, second = RatioEstimate(a, va, users), RatioEstimate(b, vb, users)
    there = estimate_relative_lift(first, second, confidence=0.95)
    back = estimate_relative_lift(second, first, confidence=0.95)
    assert (1 + there.value) * (1 + back.value) == pytest.approx(1)
    if there.high is not None and back.low is not None:
        assert np.log1p(there.high) == pytest.approx(-np.log1p(back.low), rel=1e-3)


def test_what_cannot_be_known_is_not_made_up() -> None:
    nothing = np.zeros(0)
    one = estimate_ratio(np.array([1.0]), np.array([4.0]))
    zero = estimate_ratio(np.zeros(5), np.ones(5))
    some = estimate_ratio(np.array([1.0, 0.0, 2.0]), np.ones(3))
    assert estimate_ratio(nothing, nothing) is None
    assert estimate_value_interval(None, confidence=0.9) == UNKNOWN
    assert estimate_value_interval(one, confidence=0.9) == (0.25, None, None)
    assert estimate_absolute_lift(one, some, confidence=0.9) == (0.25 - 1.0, None, None)
    assert estimate_relative_lift(some, zero, confidence=0.9) == UNKNOWN
    assert estimate_relative_lift(zero, some, confidence=0.9) == (-1.0, None, None)


def test_sample_ratio_check_finds_a_skewed_split_and_not_a_fair_one() -> None:
    fair = {"a": 1.0, "b": 1.0}
    assert compute_sample_ratio_p_value({"a": 5000, "b": 5060}, fair) > 0.1
    assert compute_sample_ratio_p_value({"a": 5000, "b": 5600}, fair) < 1e-6
    assert compute_sample_ratio_p_value({"a": 9000, "b": 1000}, {"a": 9.0, "b": 1.0}) == pytest.approx(1)
    assert compute_sample_ratio_p_value({"a": 100}, {"a": 1.0, "b": 1.0}) < 1e-6
    assert compute_sample_ratio_p_value({"a": 100}, {"a": 1.0}) == 1.0


def test_sample_ratio_p_value_is_uniform_without_mismatch() -> None:
    rng = np.random.default_rng(1)
    drawn = rng.multinomial(900, [1 / 3] * 3, size=2000)
    shares = {"a": 1.0, "b": 1.0, "c": 1.0}
    values = np.array(
        [compute_sample_ratio_p_value(dict(zip("abc", row.tolist(), strict=True)), shares) for row in drawn]
    )
    assert (values < 0.05).mean() == pytest.approx(0.05, abs=0.015)


def test_estimates_are_those_of_tea_tasting() -> None:
    rng = np.random.default_rng(3)
    arms = {name: clicks_of_users(rng, 500, rate) for name, rate in (("control", 0.1), ("challenger", 0.12))}
    aggregates = {
        name: Aggregates(
            count_=len(clicks),
            mean_={"clicks": clicks.mean(), "shown": shown.mean()},
            var_={"clicks": clicks.var(ddof=1), "shown": shown.var(ddof=1)},
            cov_={("clicks", "shown"): np.cov(clicks, shown)[0, 1]},
        )
        for name, (clicks, shown) in arms.items()
    }
    theirs = RatioOfMeans("clicks", "shown").analyze_aggregates(
        control=aggregates["control"], treatment=aggregates["challenger"]
    )
    control, challenger = estimate_ratio(*arms["control"]), estimate_ratio(*arms["challenger"])
    absolute = estimate_absolute_lift(challenger, control, confidence=0.95)
    assert (control.value, challenger.value) == pytest.approx((theirs.control, theirs.treatment), rel=1e-9)
    assert absolute == pytest.approx(
        (theirs.effect_size, theirs.effect_size_ci_lower, theirs.effect_size_ci_upper), rel=1e-9
    )
    assert compute_p_value(challenger, control) == pytest.approx(theirs.pvalue, rel=1e-9)


def heavy_tailed(rng: np.random.Generator, users: int, buyers: float) -> np.ndarray:
    return (rng.random(users) < buyers) * rng.lognormal(3, 2, users)


def test_the_relative_interval_holds_its_level_on_heavy_tails() -> None:
    rng = np.random.default_rng(8)
    wrong, trials, users = 0, 500, np.ones(1500)
    for _ in range(trials):
        control, challenger = (estimate_ratio(heavy_tailed(rng, 1500, 0.05), users) for _ in range(2))
        lift = estimate_relative_lift(challenger, control, confidence=0.95)
        wrong += lift.low > 0 or (lift.high is not None and lift.high < 0)
    assert wrong / trials < 0.065


def test_the_sequential_interval_holds_though_one_looks_every_day() -> None:
    rng = np.random.default_rng(9)
    wrong, trials, days, a_day = 0, 300, 30, 200
    for _ in range(trials):
        clicks = rng.random((2, days * a_day)) < 0.2
        looks = (
            [estimate_ratio(arm[: day * a_day].astype(float), np.ones(day * a_day)) for arm in clicks]
            for day in range(1, days + 1)
        )
        lifts = [estimate_sequential_lift(*arms, confidence=0.95) for arms in looks]
        wrong += any(lift.low > 0 or (lift.high is not None and lift.high < 0) for lift in lifts)
    assert wrong / trials <= 0.05


def test_the_sequential_interval_is_wider_and_shares_the_value() -> None:
    control, challenger = RatioEstimate(0.1, 1e-5, 9000), RatioEstimate(0.12, 1.2e-5, 9000)
    fixed = estimate_relative_lift(challenger, control, confidence=0.95)
    sequential = estimate_sequential_lift(challenger, control, confidence=0.95)
    assert sequential.value == fixed.value
    assert sequential.low < fixed.low < fixed.high < sequential.high


def test_zero_is_information() -> None:
    few = estimate_silent_lift(
        challenger_users=100, challenger_events=0, control_users=100, control_events=3, confidence=0.95
    )
    many = estimate_silent_lift(
        challenger_users=100, challenger_events=0, control_users=100, control_events=40, confidence=0.95
    )
    assert few.high > 0
    assert many.high < -0.8
    awakened = estimate_silent_lift(
        challenger_users=100, challenger_events=40, control_users=100, control_events=0, confidence=0.95
    )
    assert awakened.value is None
    assert (1 + awakened.low) * (1 + many.high) == pytest.approx(1)


def test_a_silent_arm_is_bounded_as_the_exact_binomial_test_says() -> None:
    lift = estimate_silent_lift(
        challenger_users=300, challenger_events=0, control_users=100, control_events=7, confidence=0.9
    )
    share = stats.binomtest(0, 7).proportion_ci(0.9, method="exact").high
    assert 1 + lift.high == pytest.approx(share / (1 - share) * 100 / 300)


def test_the_detectable_lift_is_seen_in_80_of_100_tests() -> None:
    rng = np.random.default_rng(4)
    users = np.ones(4000)
    control = estimate_ratio((rng.random(4000) < 0.2).astype(float), users)
    detectable = find_detectable_lift(control, control, confidence=0.95, is_sequential=False)
    seen, trials = 0, 400
    for _ in range(trials):
        arms = [
            estimate_ratio((rng.random(4000) < rate).astype(float), users)
            for rate in (0.2 * (1 + detectable), 0.2)
        ]
        seen += estimate_relative_lift(*arms, confidence=0.95).low > 0
    assert seen / trials == pytest.approx(0.8, abs=0.06)
    patient = find_detectable_lift(control, control, confidence=0.95, is_sequential=True)
    assert patient > detectable
    sample = Aggregates(
        count_=8000, mean_={"clicks": control.value}, var_={"clicks": control.variance * control.users}
    )
    theirs = RatioOfMeans("clicks", n_obs=(8000,), power=0.8, use_t=False).solve_power_from_aggregates(
        sample, "rel_effect_size"
    )
    assert detectable == pytest.approx(theirs[0].rel_effect_size, rel=1e-5)
    assert find_detectable_lift(control, None, confidence=0.95, is_sequential=False) is None


def test_many_tests_are_corrected_by_holm() -> None:
    assert adjust_p_values([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjust_p_values([0.9, 0.8]) == [1.0, 1.0]
    assert adjust_p_values([]) == []


def test_a_lost_percent_of_an_arm_is_found_with_the_power_that_was_planned() -> None:
    rng = np.random.default_rng(4)
    shares = {"control": 0.8, "treatment": 0.2}
    num_users = plan_sample_ratio_users(shares, arm="treatment", lost=0.01)
    kept = np.array([0.8, 0.2 * 0.99])
    draws = rng.multinomial(num_users, kept / kept.sum(), size=2000).tolist()
    found = [
        compute_sample_ratio_p_value(dict(zip(shares, draw, strict=True)), shares) < MISMATCH_ALPHA
        for draw in draws
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)
