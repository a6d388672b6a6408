"""Before an experiment: how many users and days it takes to see a lift, per metric, told from the log.

The power analysis and CUPED are tea-tasting's (Deng et al., "Improving the Sensitivity of Online Controlled
Experiments by Utilizing Pre-Experiment Data", WSDM 2013). Ours are the caps, which the report has as well.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import numpy as np
import polars as pl

from contracts.array_types import DoubleArray
from contracts.errors import UserError
from contracts.tables import KEPT_UNITS
from monitoring.config import MonitoringConfig
from monitoring.lift.lift_statistics import POWER
from monitoring.lift.outlier_users import (
    PRICE_SUMS,
    UserValues,
    find_cap,
    find_caps,
    list_metrics,
    read_metric,
)
from monitoring.lift.user_metrics import sum_log_metrics

HORIZONS_DAYS: Final = (7, 14, 28)
_MIN_USERS: Final = 100


class MetricPlan(NamedTuple):
    """What a test of two equal arms on all users of the shop needs, for one metric and length."""

    metric: str
    days: int
    users: int
    """Users that the shop sees in so many days, both arms together."""
    detectable: float
    """The smallest relative lift that they show in 80 of 100 cases, at a fixed horizon."""
    detectable_with_cuped: float
    """The same where each user's days before are taken into account."""
    users_needed: int
    """For the lift that was asked for, both arms together."""
    users_needed_with_cuped: int
    capped_lift: float
    """What is left of the asked lift where one user's value is capped."""


def plan_experiment(
    events: pl.DataFrame,
    config: MonitoringConfig,
    *,
    lift: float,
    horizons_days: Sequence[int] = HORIZONS_DAYS,
) -> list[MetricPlan]:
    """Plans for every metric and length that the log is long enough for.

    A length of d days looks at the last d days of the log, and for CUPED at the d days before.

    Args:
        events: table EVENTS, with impressions where CTR is to be planned.
        config: monitoring's configuration: level, caps.
        lift: the relative lift to be seen, 0.03 for 3 %.
        horizons_days: lengths to plan for.

    Raises:
        UserError: the lift is not above zero, or the log is too short or holds too few users.
    """
    if lift <= 0:
        raise UserError(f"a plan is for a lift above zero, not {lift:g}; 0.03 means 3 %")
    end = events["timestamp"].max()
    start = events["timestamp"].min()
    if not isinstance(end, datetime) or not isinstance(start, datetime):
        raise UserError("the log is empty: there is nothing to plan from")
    planned_days = [days for days in horizons_days if start + timedelta(days=days) <= end]
    if not planned_days:
        raise UserError(
            f"the log holds {(end - start).days} days; a plan needs at least {min(horizons_days)}"
        )
    plans: list[MetricPlan] = []
    for days in planned_days:
        users = sum_log_users(events, config, since=end - timedelta(days=days), until=end)
        if len(users) < _MIN_USERS:
            raise UserError(f"{len(users)} users in the last {days} days of the log; needed {_MIN_USERS}")
        before = sum_log_users(
            events, config, since=end - timedelta(days=2 * days), until=end - timedelta(days=days)
        )
        plans += [
            plan
            for metric in list_metrics(config)
            if (plan := _plan_metric(metric, days, users, before, config, lift=lift)) is not None
        ]
    return plans


def sum_log_users(
    events: pl.DataFrame, config: MonitoringConfig, *, since: datetime, until: datetime
) -> pl.DataFrame:
    """User totals of a part of the log, after `since` and up to `until`, with metrics of the user's own."""
    kind = pl.col("event_type")
    kept_orders = (kind == "order") & (KEPT_UNITS > 0)
    window = events.filter((pl.col("timestamp") > since) & (pl.col("timestamp") <= until))
    totals = window.group_by("user_id").agg(
        impressions=(kind == "impression").sum().cast(pl.Float64),
        clicks=(kind == "click").sum().cast(pl.Float64),
        orders=kept_orders.sum().cast(pl.Float64),
        gmv=(pl.col("price").fill_null(0) * KEPT_UNITS).filter(kept_orders).sum().cast(pl.Float64),
    )
    if config.metrics:
        own_sums = sum_log_metrics(window, config.metrics)
        totals = totals.join(own_sums, on="user_id", how="left", maintain_order="left").fill_null(0.0)
    return totals.with_columns(converted=(pl.col("orders") > 0).cast(pl.Float64), users=pl.lit(1.0)).sort(
        "user_id"
    )


def plan_users(
    values: UserValues,
    *,
    lift: float,
    confidence: float,
    covariate: DoubleArray | None = None,
) -> int:
    """Users of two equal arms together that show a relative lift in 80 of 100 tests.

    Args:
        values: the metric of the users of a sample; shape (users,) each.
        lift: relative lift of what is in `values`.
        confidence: level of the test.
        covariate: what each of them did before, shape (users,); CUPED takes it into account.
    """
    # The import takes seconds, and few commands plan.
    from tea_tasting.aggr import Aggregates
    from tea_tasting.metrics import RatioOfMeans

    columns = {"numerator": values.numerator, "denominator": values.denominator}
    if covariate is not None:
        columns["covariate"] = covariate
    names = list(columns)
    covariances = np.cov(np.stack(list(columns.values())))
    sample = Aggregates(
        count_=len(values.numerator),
        mean_={name: float(column.mean()) for name, column in columns.items()},
        var_={name: float(covariances[row, row]) for row, name in enumerate(names)},
        cov_={
            (names[row], names[column]): float(covariances[row, column])
            for row in range(len(names))
            for column in range(row)
        },
    )
    metric = RatioOfMeans(
        "numerator",
        "denominator",
        "covariate" if covariate is not None else None,
        alpha=1 - confidence,
        power=POWER,
        rel_effect_size=lift,
        use_t=False,
    )
    return int(metric.solve_power_from_aggregates(sample, "n_obs")[0].n_obs)


def cap_lift(values: DoubleArray, lift: float, quantile: float) -> float:
    """What a cap leaves of a lift that grows every user's value alike."""
    grown_values = values * (1 + lift)
    cap = find_cap(np.concatenate([values, grown_values]), quantile)
    return float(np.minimum(grown_values, cap).sum() / np.minimum(values, cap).sum() - 1)


def _plan_metric(
    metric: str,
    days: int,
    users: pl.DataFrame,
    before: pl.DataFrame,
    config: MonitoringConfig,
    *,
    lift: float,
) -> MetricPlan | None:
    columns = list_metrics(config)[metric]
    numerator_column, denominator_column = columns
    # Who saw nothing is in no test. Who ordered nothing is, also where something is counted per order.
    is_in_test = pl.col("impressions") > 0 if denominator_column == "impressions" else pl.lit(True)
    known_users = users.filter(is_in_test)
    if any(known_users[column].sum() <= 0 for column in columns):
        return None
    values = read_metric(known_users, columns, find_caps(known_users, config))
    earlier = (
        known_users.select("user_id")
        .join(before.select("user_id", numerator_column), on="user_id", how="left", maintain_order="left")[
            numerator_column
        ]
        .fill_null(0.0)
        .to_numpy()
    )
    covariate = np.minimum(earlier, find_cap(earlier, config.winsorize_quantile))
    # A rate's lift passes the cap, which is one of weights; a sum's is cut by it.
    capped_lift = (
        cap_lift(known_users[numerator_column].to_numpy(), lift, config.winsorize_quantile)
        if numerator_column in PRICE_SUMS or numerator_column.endswith(".price")
        else lift
    )
    users_needed = plan_users(values, lift=capped_lift, confidence=config.confidence)
    needed_with_cuped = (
        plan_users(values, lift=capped_lift, confidence=config.confidence, covariate=covariate)
        if covariate.var() > 0
        else users_needed
    )
    # The error falls with the root of the number of users.
    return MetricPlan(
        metric=metric,
        days=days,
        users=len(known_users),
        detectable=lift * float(np.sqrt(users_needed / len(known_users))),
        detectable_with_cuped=lift * float(np.sqrt(needed_with_cuped / len(known_users))),
        users_needed=users_needed,
        users_needed_with_cuped=needed_with_cuped,
        capped_lift=capped_lift,
    )
