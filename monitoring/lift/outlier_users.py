"""What one user may count for: bots are left out, and whales are capped.

Three readings of the same users are kept beside each other. The config says which one decides.
"""

from math import ceil
from typing import Final, Literal, NamedTuple, get_args

import numpy as np
import polars as pl

from contracts.array_types import BoolArray, DoubleArray
from monitoring.config import LiftMetric, MetricConfig, MonitoringConfig, UserReading

METRICS: Final[dict[LiftMetric, tuple[str, str]]] = {
    "ipv_per_user": ("clicks", "users"),
    "ctr": ("clicks", "impressions"),
    "orders_per_user": ("orders", "users"),
    "conversion": ("converted", "users"),
    "gmv_per_user": ("gmv", "users"),
}
"""Metric -> (numerator, denominator), columns of the user totals."""
assert set(METRICS) == set(get_args(LiftMetric))
PRICE_SUMS: Final = frozenset({"gmv"})
"""Columns that are sums of prices: one user's can be any amount, also where a rate caps their weight."""
READINGS: Final[tuple[UserReading, ...]] = get_args(UserReading)
# Never fewer users than these are cut to the largest of the rest, so that no user sets the cap alone.
_LEAST_CAPPED: Final = 3
_LEAST_CAPPED_SHARE: Final = 0.002
_LEAST_USERS_WITH_STRAYS: Final = 100
Counted = Literal["impressions", "clicks", "orders", "gmv"]
_CAPPED: Final[tuple[Counted, ...]] = get_args(Counted)


def list_metrics(config: MonitoringConfig) -> dict[str, tuple[str, str]]:
    """Metric -> (numerator, denominator), columns of the user totals; the user's own metrics come last."""
    every_metric: dict[str, tuple[str, str]] = dict(METRICS.items())
    own_metrics = {
        metric.name: (
            name_numerator(metric),
            {"users": "users", "exposures": "impressions"}.get(metric.per, name_denominator(metric)),
        )
        for metric in config.metrics
    }
    return every_metric | own_metrics


def name_numerator(metric: MetricConfig) -> str:
    """Column of the user totals that holds it."""
    return f"{metric.name}.{metric.measure}"


def name_denominator(metric: MetricConfig) -> str:
    """Column of the user totals that it is divided by, where that is an event."""
    return f"{metric.name}.per"


class UserValues(NamedTuple):
    """A metric's numerator and denominator, one entry a user; shape (users,) each."""

    numerator: DoubleArray
    denominator: DoubleArray

    def select(self, kept: BoolArray) -> "UserValues":
        """The entries of some users."""
        return UserValues(self.numerator[kept], self.denominator[kept])


def find_caps(users: pl.DataFrame, config: MonitoringConfig) -> dict[str, float]:
    """The most that one user counts for, by column.

    The cap is a quantile of those who did something, over all arms: an arm of its own would hide its lift.
    """
    own_columns = [column for metric in config.metrics for column in list_metrics(config)[metric.name]]
    columns = dict.fromkeys([*_CAPPED, *(column for column in own_columns if column != "users")])
    return {column: find_cap(users[column].to_numpy(), config.winsorize_quantile) for column in columns}


def find_cap(values: DoubleArray, quantile: float) -> float:
    """The value that larger ones are cut to; infinite where nobody did anything."""
    positive_values = values[values > 0]
    if not len(positive_values):
        return float("inf")
    num_capped = max(
        _LEAST_CAPPED, ceil((1 - quantile) * len(positive_values)), ceil(_LEAST_CAPPED_SHARE * len(values))
    )
    rank = max(len(positive_values) - num_capped, 0)
    return float(np.partition(positive_values, rank)[rank])


def read_metric(
    users: pl.DataFrame, metric: LiftMetric | tuple[str, str], caps: dict[str, float] | None
) -> UserValues:
    """Each user's share in a metric; capped by `caps` unless they are None.

    A mean per user caps the value. A rate per impression caps the user's weight and leaves the rate: a
    crawler counts as one heavy user who never clicks. Of a sum of prices per something, both are capped.

    Args:
        users: user totals.
        metric: one of `METRICS`, or its two columns.
        caps: what `find_caps` tells.
    """
    numerator_column, denominator_column = METRICS[metric] if isinstance(metric, str) else metric
    numerator = users[numerator_column].to_numpy()
    denominator = users[denominator_column].to_numpy()
    if caps is None:
        return UserValues(numerator, denominator)
    if denominator_column == "users":
        return UserValues(np.minimum(numerator, caps.get(numerator_column, np.inf)), denominator)
    # Who has nothing to divide by, counts with what they have: their weight is cut by nothing.
    weights = np.minimum(1.0, caps[denominator_column] / np.maximum(denominator, 1e-300))
    numerator = numerator * weights
    if numerator_column in PRICE_SUMS or numerator_column.endswith(".price"):
        numerator = np.minimum(numerator, caps.get(numerator_column, np.inf))
    return UserValues(numerator, denominator * weights)


def count_strays(num_users: int) -> int:
    """So many users do not say when an experiment began or ended: clocks are wrong, requests are replayed."""
    if num_users < _LEAST_USERS_WITH_STRAYS:
        return 0
    return max(_LEAST_CAPPED, ceil(_LEAST_CAPPED_SHARE * num_users))


def leave_out_top_user(values: UserValues) -> UserValues:
    """The arm without the user who moves its metric most."""
    return values.select(keep_but_top_user(values))


def keep_but_top_user(values: UserValues) -> BoolArray:
    """All users of an arm but the one who moves its metric most; shape (users,)."""
    ratio = values.numerator.sum() / max(values.denominator.sum(), 1e-300)
    kept = np.ones(len(values.numerator), dtype=bool)
    if len(kept):
        kept[np.argmax(np.abs(values.numerator - ratio * values.denominator))] = False
    return kept
