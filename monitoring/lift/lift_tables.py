"""Lift by day and by slice: does it fade, and whom does it come from? For reading, not for deciding."""

from typing import Any, Final

import polars as pl

from monitoring.config import LiftMetric, MonitoringConfig
from monitoring.lift.lift_statistics import (
    LiftInterval,
    RatioEstimate,
    adjust_p_values,
    compute_p_value,
    estimate_relative_lift,
)
from monitoring.lift.totals_queries import SLICE_KINDS
from monitoring.lift.user_totals import LiftTables

_NUMERATORS: Final[dict[LiftMetric, str]] = {
    "ipv_per_user": "clicks",
    "ctr": "weighted_clicks",
    "orders_per_user": "orders",
    "conversion": "converted",
    "gmv_per_user": "gmv",
}
"""Metric -> its column in the moments."""


def tabulate_lift_by_day(
    tables: LiftTables, caps: dict[str, float], config: MonitoringConfig
) -> list[dict[str, Any]]:
    """A row per day, arm and metric: users of the arm and relative lift on that day alone."""
    return [
        {"day": row.pop("part"), **row} for row in _compare_parts(tables.sum_moments("day", caps), config)
    ]


def tabulate_lift_by_slice(
    tables: LiftTables, caps: dict[str, float], config: MonitoringConfig
) -> list[dict[str, Any]]:
    """A row per slice, arm and metric, of slices that hold users of both arms.

    Who looks at many slices finds one by chance: `adjusted_p_value` counts all of them (Holm).
    """
    rows: list[dict[str, Any]] = []
    item_kinds = ("item",) if tables.split_cold_items(config) else ()
    for kind in (*SLICE_KINDS, *item_kinds):
        moments = tables.sum_moments(kind, caps)
        # One part alone is the whole again.
        if moments["part"].n_unique() > 1:
            compared_rows = _compare_parts(moments, config)
            rows += [{"kind": kind, "slice": row.pop("part"), **row} for row in compared_rows]
    tested_rows = [row for row in rows if row["p_value"] is not None]
    adjusted = adjust_p_values([row["p_value"] for row in tested_rows])
    for row, p_value in zip(tested_rows, adjusted, strict=True):
        row["adjusted_p_value"] = p_value
    return rows


def _compare_parts(moments: pl.DataFrame, config: MonitoringConfig) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for part_moments in moments.partition_by("part", maintain_order=True):
        by_arm = {row["arm"]: row for row in part_moments.iter_rows(named=True)}
        control = by_arm.pop(config.control_arm, None)
        if control is None:
            continue
        for arm, arm_moments in by_arm.items():
            rows += [_compare_part(arm, arm_moments, control, metric, config) for metric in _NUMERATORS]
    return rows


def _compare_part(
    arm: str,
    arm_moments: dict[str, Any],
    control: dict[str, Any],
    metric: LiftMetric,
    config: MonitoringConfig,
) -> dict[str, Any]:
    challenger_estimate, control_estimate = (
        _estimate_from_moments(moments, metric) for moments in (arm_moments, control)
    )
    lift = estimate_relative_lift(challenger_estimate, control_estimate, confidence=config.confidence)
    return {
        "part": arm_moments["part"],
        "arm": arm,
        "metric": metric,
        "users": arm_moments["num_users"],
        "control_users": control["num_users"],
        "relative": LiftInterval(*lift)._asdict(),
        "p_value": compute_p_value(challenger_estimate, control_estimate),
        "adjusted_p_value": None,
    }


def _estimate_from_moments(moments: dict[str, Any], metric: LiftMetric) -> RatioEstimate | None:
    """The delta method from means, variances and covariance."""
    num_users, column = moments["num_users"], _NUMERATORS[metric]
    if num_users < 2:
        return None
    mean, variance = moments[f"mean_{column}"], moments[f"var_{column}"]
    if metric != "ctr":
        return RatioEstimate(mean, variance / num_users, num_users)
    weight = moments["mean_weight"]
    if weight <= 0:
        return None
    ratio = mean / weight
    residual_variance = variance - 2 * ratio * moments["cov"] + ratio**2 * moments["var_weight"]
    return RatioEstimate(ratio, max(residual_variance, 0.0) / weight**2 / num_users, num_users)
