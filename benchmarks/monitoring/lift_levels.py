"""Do intervals hold their level? A/A tests, planted lifts, and looking all the time."""

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import polars as pl

from benchmarks.monitoring.simulated_users import (
    REVENUES,
    Revenue,
    World,
    draw_experiment,
    draw_lasting_users,
)
from benchmarks.shared.measured_process import run_on_all_cores
from benchmarks.shared.results import Row, make_row
from monitoring.config import LiftMetric, MonitoringConfig
from monitoring.lift.deciding_lift import ArmUsers, estimate_cuped_lift, estimate_lift
from monitoring.lift.history_adjustment import build_covariates
from monitoring.lift.lift_statistics import LiftInterval
from monitoring.lift.outlier_users import UserValues, find_caps, read_metric

METRICS: Final[dict[str, LiftMetric]] = {"ctr": "ctr", "orders": "orders_per_user", "gmv": "gmv_per_user"}
RULE: Final = MonitoringConfig()
# The worst of 18 shares is told. With 1,000 tests each, luck alone puts the worst of 18 true levels of .05
# about .015 off, since a share's own error is .007. With 4,000 it is .007 off.
_NUM_TESTS: Final = 4_000
_CLICK_LIFT: Final = 0.2
_USERS_PER_ARM: Final = 2_000
_LOOKS: Final = np.unique(np.geomspace(RULE.min_users_per_arm, 6_000, 50).astype(int))
_DATA: Final = (
    "simulated users: normal, zero-inflated and lognormal(3, 2) revenue, with and without 0.1 % bots"
)


def measure_levels(*, quick: bool) -> Iterable[Row]:
    """False positives of A/A tests and coverage of a planted lift, each the worst of six worlds."""
    num_tests = 100 if quick else _NUM_TESTS
    worlds = [World(revenue, has_bots) for revenue in REVENUES for has_bots in (False, True)]
    lifted = [world._replace(click_lift=_CLICK_LIFT) for world in worlds]
    cells = [*worlds, *lifted]
    shares = run_on_all_cores(count_covered, cells, [num_tests] * len(cells), range(len(cells)))
    for name in METRICS:
        wrong = [1 - share[name] for share in shares[: len(worlds)]]
        for world, share in zip(worlds, wrong, strict=True):
            print(f"A/A {name}, {world}: {share:.3f}", flush=True)
        yield make_row(
            f"monitoring.aa.{name}.false_positives",
            max(wrong, key=lambda share: abs(share - 0.05)),
            sd=float(np.std(wrong, ddof=1)),
            unit="share of A/A tests, the world furthest from .05",
            better="lower",
            data=f"{_DATA}; {num_tests} tests of {2 * _USERS_PER_ARM} users a world",
        )
    covered = [
        (share[name], f"{name}, {world}, lift {world.click_lift}")
        for world, share in zip(cells, shares, strict=True)
        for name in METRICS
    ]
    print("\n".join(f"coverage {name}: {share:.3f}" for share, name in covered), flush=True)
    yield make_row(
        "monitoring.coverage.worst",
        min(share for share, _ in covered),
        sd=float(np.std([share for share, _ in covered], ddof=1)),
        unit="share of 95 % intervals that hold the truth, worst of 36 cells",
        data=f"{_DATA}, lifts of 0 and 20 % in three metrics; {num_tests} tests a cell",
    )


def measure_peeking(*, quick: bool) -> Iterable[Row]:
    """False positives of the always-valid interval when one looks 50 times."""
    num_tests = 40 if quick else 1_000
    worlds = [World("zero_inflated"), World("lognormal"), World("lognormal", has_bots=True)]
    num_parts = 4
    parts = [(world, num_tests // num_parts, part) for world in worlds for part in range(num_parts)]
    counts = run_on_all_cores(count_false_alarms, *zip(*parts, strict=True))
    shares: list[float] = []
    for number, world in enumerate(worlds):
        own_counts = counts[number * num_parts : (number + 1) * num_parts]
        for name in METRICS:
            shares.append(sum(count[name] for count in own_counts) / (num_tests // num_parts * num_parts))
            print(f"peeking {name}, {world}: {shares[-1]:.3f}", flush=True)
    yield make_row(
        "monitoring.peeking.false_positives",
        max(shares),
        sd=float(np.std(shares, ddof=1)),
        unit="share of A/A tests that are ever called, worst of nine cells",
        better="lower",
        data=f"{_DATA}; {num_tests} tests, {len(_LOOKS)} looks from 100 to 6,000 users an arm",
    )


def measure_cuped_levels(*, quick: bool) -> Iterable[Row]:
    """False positives of CUPED in A/A tests of users whose taste lasts; some have no history."""
    num_tests = 100 if quick else _NUM_TESTS
    cells = [(revenue, share) for revenue in REVENUES for share in (1.0, 0.5)]
    counts = run_on_all_cores(
        count_cuped_alarms, *zip(*cells, strict=True), [num_tests] * len(cells), range(len(cells))
    )
    shares = {
        (cell, name): count / num_tests
        for cell, row in zip(cells, counts, strict=True)
        for name, count in row.items()
    }
    for (cell, name), share in shares.items():
        print(f"A/A with CUPED {name}, {cell}: {share:.3f}", flush=True)
    yield make_row(
        "monitoring.aa.cuped.false_positives",
        max(shares.values(), key=lambda share: abs(share - 0.05)),
        sd=float(np.std(list(shares.values()), ddof=1)),
        unit="share of A/A tests, the cell furthest from .05",
        better="lower",
        data="simulated users whose taste lasts, three kinds of revenue, all or half of them with a history; "
        f"{num_tests} tests of {2 * _USERS_PER_ARM} users a cell, three metrics",
    )


def count_cuped_alarms(
    revenue: Revenue, share_with_history: float, num_tests: int, seed: int
) -> dict[str, int]:
    """Metric -> A/A tests that the fixed-horizon CUPED interval calls."""
    rng = np.random.default_rng([seed, num_tests, 3])
    alarms = dict.fromkeys(METRICS, 0)
    rule = RULE.model_copy(update={"decide_by": "fixed_horizon"})
    for _ in range(num_tests):
        history, users = draw_lasting_users(rng, 2 * _USERS_PER_ARM, revenue, share_with_history)
        caps = find_caps(users, rule)
        for name, metric in METRICS.items():
            values = read_metric(users, metric, caps)
            covariates = build_covariates(users, history, metric, rule)
            arms = [
                ArmUsers(UserValues(values.numerator[part], values.denominator[part]), covariates[part])
                for part in (slice(None, _USERS_PER_ARM), slice(_USERS_PER_ARM, None))
            ]
            lift, _ = estimate_cuped_lift(*arms, rule, confidence=rule.confidence)
            alarms[name] += excludes(lift, 0.0)
    return alarms


def count_covered(world: World, num_tests: int, seed: int) -> dict[str, float]:
    """Metric -> share of the intervals that hold the true lift."""
    rng = np.random.default_rng([seed, num_tests])
    covered = dict.fromkeys(METRICS, 0)
    for _ in range(num_tests):
        users = draw_experiment(rng, _USERS_PER_ARM, world)
        for name, lift in read_lifts(users, _USERS_PER_ARM, is_sequential=False):
            covered[name] += not excludes(lift, world.click_lift)
    return {name: count / num_tests for name, count in covered.items()}


def count_false_alarms(world: World, num_tests: int, seed: int) -> dict[str, int]:
    """Metric -> tests in which any look called a lift."""
    rng = np.random.default_rng([seed, num_tests, 7])
    alarms = dict.fromkeys(METRICS, 0)
    for _ in range(num_tests):
        num_users = int(_LOOKS[-1])
        users = draw_experiment(rng, num_users, world)
        control, challenger = users[:num_users], users[num_users:]
        called: set[str] = set()
        for look in _LOOKS:
            seen = pl.concat([control[: int(look)], challenger[: int(look)]])
            lifts = read_lifts(seen, int(look), is_sequential=True)
            called |= {name for name, lift in lifts if excludes(lift, 0.0)}
        for name in called:
            alarms[name] += 1
    return alarms


def read_lifts(
    users: pl.DataFrame, users_per_arm: int, *, is_sequential: bool
) -> Iterator[tuple[str, LiftInterval]]:
    """Each metric's lift by the robust reading, as the report has it."""
    caps = find_caps(users, RULE)
    for name, metric in METRICS.items():
        values = read_metric(users, metric, caps)
        control = UserValues(values.numerator[:users_per_arm], values.denominator[:users_per_arm])
        challenger = UserValues(values.numerator[users_per_arm:], values.denominator[users_per_arm:])
        yield (
            name,
            estimate_lift(challenger, control, confidence=RULE.confidence, is_sequential=is_sequential),
        )


def excludes(lift: LiftInterval, truth: float) -> bool:
    """Whether the interval says that the lift is not this."""
    return (lift.low is not None and lift.low > truth) or (lift.high is not None and lift.high < truth)
