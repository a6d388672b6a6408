"""Does the plan keep its promise? Power of planned experiments, and what CUPED saves."""

from collections.abc import Iterable
from typing import Final

import numpy as np

from benchmarks.monitoring.simulated_users import World, draw_arm, draw_experiment
from benchmarks.shared.measured_process import run_on_all_cores
from benchmarks.shared.results import Row, make_row
from monitoring.config import LiftMetric, MonitoringConfig
from monitoring.lift.deciding_lift import estimate_lift
from monitoring.lift.experiment_plan import cap_lift, plan_users
from monitoring.lift.lift_statistics import (
    MISMATCH_ALPHA,
    POWER,
    compute_sample_ratio_p_value,
    plan_sample_ratio_users,
)
from monitoring.lift.outlier_users import UserValues, find_cap, find_caps, read_metric

RULE: Final = MonitoringConfig()
_PILOT_USERS: Final = 200_000
_GMV_LIFT: Final = 0.025
_ORDER_LIFT: Final = 0.03
_LOST: Final = 0.01
_THREE_ARMS: Final = {"control": 0.4, "treatment": 0.3, "other": 0.3}


def measure_power(*, quick: bool) -> Iterable[Row]:
    """Power of experiments of the planned size, for +2.5 % GMV and +3 % orders."""
    num_tests = 20 if quick else 1_000
    cells: list[tuple[World, LiftMetric]] = [
        (World("normal", amount_lift=_GMV_LIFT), "gmv_per_user"),
        (World("lognormal", amount_lift=_GMV_LIFT), "gmv_per_user"),
        (World("zero_inflated", click_lift=_ORDER_LIFT), "orders_per_user"),
    ]
    plans = [plan_world(world, metric) for world, metric in cells]
    num_parts = 8
    parts = [
        (world, metric, users, num_tests // num_parts, part)
        for (world, metric), users in zip(cells, plans, strict=True)
        for part in range(num_parts)
    ]
    seen = run_on_all_cores(count_seen, *zip(*parts, strict=True))
    powers = []
    for number, ((world, metric), users) in enumerate(zip(cells, plans, strict=True)):
        own = seen[number * num_parts : (number + 1) * num_parts]
        powers.append(sum(own) / (num_tests // num_parts * num_parts))
        print(f"power {metric}, {world}: {powers[-1]:.3f} with {users:,} users planned", flush=True)
    yield make_row(
        "monitoring.power.gmv_error",
        100 * max(abs(power - POWER) for power in powers),
        sd=100 * float(np.std(powers, ddof=1)),
        unit="points between planned and measured power, worst of 3 cells",
        better="lower",
        data="simulated users: +2.5 % GMV on normal and lognormal(3, 2) amounts, +3 % orders; planned for "
        f"80 % power on {_PILOT_USERS:,} other users, {num_tests} tests a cell",
    )


def measure_cuped(*, quick: bool) -> Iterable[Row]:
    """Users needed without over with CUPED, where users keep their taste and their pace."""
    num_users = 5_000 if quick else 100_000
    ratios = [compare_with_cuped(num_users, seed) for seed in range(3)]
    yield make_row(
        "monitoring.cuped.users_ratio",
        ratios,
        unit="times fewer users for +3 % page views per user with CUPED",
        data=f"simulated users whose visits and taste last; {num_users:,} users, two weeks each",
        seeds=[0, 1, 2],
    )


def measure_mismatch(*, quick: bool) -> Iterable[Row]:
    """Power by which a split is found out that loses 1 % of an arm's users, with the users planned for it."""
    num_tests = 2_000 if quick else 20_000
    rng = np.random.default_rng(17)
    powers = []
    for shares in ({"control": 0.5, "treatment": 0.5}, {"control": 0.9, "treatment": 0.1}, _THREE_ARMS):
        num_users = plan_sample_ratio_users(shares, arm="treatment", lost=_LOST)
        kept = np.array([share * (1 - _LOST * (arm == "treatment")) for arm, share in shares.items()])
        counts = rng.multinomial(num_users, kept / kept.sum(), size=num_tests)
        p_values = [
            compute_sample_ratio_p_value(dict(zip(shares, row, strict=True)), shares)
            for row in counts.tolist()
        ]
        powers.append(float(np.mean(np.array(p_values) < MISMATCH_ALPHA)))
        print(f"mismatch {shares}: found in {powers[-1]:.3f} with {num_users:,} users", flush=True)
    yield make_row(
        "monitoring.mismatch.power_error",
        100 * max(abs(power - POWER) for power in powers),
        sd=100 * float(np.std(powers, ddof=1)),
        unit="points between promised and measured power of the sample-ratio check, worst of 3 splits",
        better="lower",
        data="splits 50/50, 90/10 and 40/30/30 that lose 1 % of an arm's users; planned for 80 %, "
        f"{num_tests} tests each",
    )


def plan_world(world: World, metric: LiftMetric) -> int:
    """Users of both arms that a plan asks for, made on other users than the tests."""
    rng = np.random.default_rng(99)
    pilot = draw_arm(rng, _PILOT_USERS, world, is_challenger=False)
    values = read_metric(pilot, metric, find_caps(pilot, RULE))
    lift = world.click_lift
    if world.amount_lift:
        lift = cap_lift(pilot["gmv"].to_numpy(), world.amount_lift, RULE.winsorize_quantile)
    return plan_users(values, lift=lift, confidence=RULE.confidence)


def count_seen(world: World, metric: LiftMetric, num_users: int, num_tests: int, seed: int) -> int:
    """Tests of the planned size that call the planted lift."""
    rng = np.random.default_rng([seed, num_users])
    seen, users_per_arm = 0, num_users // 2
    for _ in range(num_tests):
        users = draw_experiment(rng, users_per_arm, world)
        values = read_metric(users, metric, find_caps(users, RULE))
        control = UserValues(values.numerator[:users_per_arm], values.denominator[:users_per_arm])
        challenger = UserValues(values.numerator[users_per_arm:], values.denominator[users_per_arm:])
        lift = estimate_lift(challenger, control, confidence=RULE.confidence, is_sequential=False)
        seen += lift.low is not None and lift.low > 0
    return seen


def compare_with_cuped(num_users: int, seed: int) -> float:
    """Users needed without CUPED over those with it."""
    rng = np.random.default_rng(seed)
    pace = rng.gamma(2, 1.5, num_users)
    taste = rng.beta(2, 18, num_users)
    before, during = (rng.binomial(rng.poisson(pace) * 10, taste).astype(float) for _ in range(2))
    cap = find_cap(during, RULE.winsorize_quantile)
    values = UserValues(np.minimum(during, cap), np.ones(num_users))
    plain, cuped = (
        plan_users(values, lift=0.03, confidence=RULE.confidence, covariate=covariate)
        for covariate in (None, before)
    )
    return plain / cuped
