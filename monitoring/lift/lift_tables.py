"""Lift by day and by slice: does it fade, and whom does it come from? For reading, not for deciding."""

from typing import Any, Final, NamedTuple

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


class _MomentColumns(NamedTuple):
    """Where the moments of one metric stand."""

    numerator: str
    weight: str | None = None
    """What it is divided by; None for the users."""
    covariance: str = ""


_BUILT_IN: Final[dict[LiftMetric, _MomentColumns]] = {
    "ipv_per_user": _MomentColumns("clicks"),
    "ctr": _MomentColumns("weighted_clicks", "weight", "cov"),
    "orders_per_user": _MomentColumns("orders"),
    "conversion": _MomentColumns("converted"),
    "gmv_per_user": _MomentColumns("gmv"),
}


def tabulate_lift_by_day(
    tables: LiftTables, caps: dict[str, float], config: MonitoringConfig
) -> list[dict[str, Any]]:
    """A row per day, arm and metric: users of the arm and relative lift on that day alone."""
    return [
        {"day": row.pop("part"), **row}
        for row in _compare_parts(tables.sum_moments("day", caps, config.metrics), config)
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
        moments = tables.sum_moments(kind, caps, config.metrics)
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
            rows += [
                _compare_part(arm, arm_moments, control, metric, config)
                for metric in (*_BUILT_IN, *(metric.name for metric in config.metrics))
            ]
    return rows


def _compare_part(
    arm: str,
    arm_moments: dict[str, Any],
    control: dict[str, Any],
    metric: str,
    config: MonitoringConfig,
) -> dict[str, Any]:
    challenger_estimate, control_estimate = (
        _estimate_from_moments(moments, _find_columns(metric, config)) for moments in (arm_moments, control)
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


def _find_columns(metric: str, config: MonitoringConfig) -> _MomentColumns:
    own_metrics = {own.name: own for own in config.metrics}
    if metric not in own_metrics:
        return dict(_BUILT_IN.items())[metric]  # type: ignore[index]
    value = f"{metric}.value"
    if own_metrics[metric].per == "users":
        return _MomentColumns(value)
    return _MomentColumns(value, f"{metric}.weight", f"cov_{metric}")


def _estimate_from_moments(moments: dict[str, Any], columns: _MomentColumns) -> RatioEstimate | None:
    """The delta method from means, variances and covariance."""
    num_users = moments["num_users"]
    if num_users < 2:
        return None
    mean, variance = moments[f"mean_{columns.numerator}"], moments[f"var_{columns.numerator}"]
    if columns.weight is None:
        return RatioEstimate(mean, variance / num_users, num_users)
    weight = moments[f"mean_{columns.weight}"]
    if weight <= 0:
        return None
    ratio = mean / weight
    residual_variance = (
        variance - 2 * ratio * moments[columns.covariance] + ratio**2 * moments[f"var_{columns.weight}"]
    )
    return RatioEstimate(ratio, max(residual_variance, 0.0) / weight**2 / num_users, num_users)
