"""A plan from the log keeps its promise: the lift is seen as often as it says."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from contracts.errors import UserError
from monitoring.config import MetricConfig, MonitoringConfig
from monitoring.lift.experiment_plan import cap_lift, plan_experiment, plan_users
from monitoring.lift.lift_statistics import estimate_ratio, estimate_relative_lift
from monitoring.lift.outlier_users import UserValues

START = datetime(2025, 1, 1, tzinfo=UTC)


def shop_log(*, days: int = 28, users: int = 600, has_orders: bool = True) -> pl.DataFrame:
    """Events of users who keep their pace: what they did before tells what they will do."""
    rng = np.random.default_rng(2)
    pace = rng.gamma(1, 1, users)
    shown = rng.poisson(pace * 3 * days)
    user = np.repeat(np.arange(users), shown)
    minute = rng.integers(0, days * 1440, len(user))
    clicked = rng.random(len(user)) < 0.2
    ordered = clicked & (rng.random(len(user)) < 0.4) & has_orders
    kinds = [("impression", np.ones(len(user), bool)), ("click", clicked), ("order", ordered)]
    return pl.concat(
        pl.DataFrame(
            {
                "user_id": [f"u{number}" for number in user[chosen]],
                "event_type": [kind] * int(chosen.sum()),
                "timestamp": [START + timedelta(minutes=int(at)) for at in minute[chosen]],
                "price": np.where(kind == "order", rng.lognormal(3, 1, int(chosen.sum())), np.nan),
                "quantity": 1,
                "returned": 0,
            }
        ).with_columns(pl.col("price").fill_nan(None))
        for kind, chosen in kinds
    )


def test_every_metric_is_planned_for_every_length_that_the_log_holds() -> None:
    plans = plan_experiment(shop_log(days=20), MonitoringConfig(), lift=0.1)
    assert {plan.days for plan in plans} == {7, 14}
    by_metric = {plan.metric: plan for plan in plans if plan.days == 7}
    assert set(by_metric) == {"ipv_per_user", "ctr", "orders_per_user", "conversion", "gmv_per_user"}
    assert by_metric["gmv_per_user"].users_needed > by_metric["ipv_per_user"].users_needed
    assert by_metric["gmv_per_user"].capped_lift < 0.1
    for plan in plans:
        promised = 0.1 * (plan.users_needed / plan.users) ** 0.5
        assert plan.detectable == pytest.approx(promised)


def test_cuped_saves_users_where_users_keep_their_pace() -> None:
    plans = plan_experiment(shop_log(), MonitoringConfig(), lift=0.1, horizons_days=(14,))
    page_views = next(plan for plan in plans if plan.metric == "ipv_per_user")
    assert page_views.users_needed_with_cuped < 0.7 * page_views.users_needed


def test_a_metric_that_the_shop_does_not_have_is_left_out() -> None:
    plans = plan_experiment(shop_log(has_orders=False), MonitoringConfig(), lift=0.1)
    assert {plan.metric for plan in plans} == {"ipv_per_user", "ctr"}


def test_the_planned_number_of_users_sees_the_lift_in_80_of_100_tests() -> None:
    rng = np.random.default_rng(6)

    def draw_orders(users: int, lift: float) -> np.ndarray:
        return rng.poisson(rng.gamma(1, 0.5, users) * (1 + lift)).astype(float)

    pilot = draw_orders(50_000, 0.0)
    planned = plan_users(UserValues(pilot, np.ones(50_000)), lift=0.2, confidence=0.95) // 2
    users, seen, trials = np.ones(planned), 0, 400
    for _ in range(trials):
        arms = [estimate_ratio(draw_orders(planned, lift), users) for lift in (0.2, 0.0)]
        seen += estimate_relative_lift(*arms, confidence=0.95).low > 0
    assert seen / trials == pytest.approx(0.8, abs=0.06)


def test_a_cap_takes_a_part_of_a_lift_that_grows_every_amount() -> None:
    amounts = np.random.default_rng(1).lognormal(3, 2, 20_000)
    assert 0.01 < cap_lift(amounts, 0.025, 0.99) < 0.025
    assert cap_lift(np.ones(100), 0.025, 0.99) == pytest.approx(0.025)


def test_a_log_that_cannot_plan_is_refused() -> None:
    with pytest.raises(UserError, match="above zero"):
        plan_experiment(shop_log(), MonitoringConfig(), lift=0.0)
    with pytest.raises(UserError, match="a plan needs at least 7"):
        plan_experiment(shop_log(days=3), MonitoringConfig(), lift=0.1)
    with pytest.raises(UserError, match="needed 100"):
        plan_experiment(shop_log(users=20), MonitoringConfig(), lift=0.1)
    with pytest.raises(UserError, match="the log is empty"):
        plan_experiment(shop_log().head(0), MonitoringConfig(), lift=0.1)


def test_metrics_of_ones_own_are_planned_like_the_built_in_ones() -> None:
    own = [
        MetricConfig(name="own_orders", title="Orders", event="order"),
        MetricConfig(name="own_value", title="Value", event="order", measure="price"),
        MetricConfig(name="own_rate", title="Rate", event="click", per="exposures"),
        MetricConfig(name="dear_share", title="Dear", event="order", min_price=30, per="order"),
        MetricConfig(name="carts", title="Carts", event="cart"),
    ]
    plans = plan_experiment(shop_log(), MonitoringConfig(metrics=own), lift=0.1, horizons_days=(14,))
    by_metric = {plan.metric: plan for plan in plans}
    assert "carts" not in by_metric, "nobody put anything into a cart"
    for mine, built_in in {
        "own_orders": "orders_per_user",
        "own_value": "gmv_per_user",
        "own_rate": "ctr",
    }.items():
        same = by_metric[built_in]._replace(metric=mine)
        assert by_metric[mine][1:] == pytest.approx(same[1:])
    assert 0 < by_metric["dear_share"].users_needed_with_cuped <= by_metric["dear_share"].users_needed
