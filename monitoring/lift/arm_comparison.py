"""Compares every arm with the control, metric by metric."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from contracts.errors import UserError
from monitoring.config import LiftMetric, MonitoringConfig, UserReading
from monitoring.lift.lift_statistics import (
    UNKNOWN,
    LiftInterval,
    adjust_p_values,
    compute_p_value,
    estimate_absolute_lift,
    estimate_ratio,
    estimate_relative_lift,
    estimate_sequential_lift,
    estimate_silent_lift,
    estimate_value_interval,
    find_detectable_lift,
)
from monitoring.lift.outlier_users import (
    METRICS,
    READINGS,
    UserValues,
    find_caps,
    leave_out_top_user,
    read_metric,
)


class Reading(NamedTuple):
    """One metric of one arm by one reading of the users; the lifts are unknown for the control itself."""

    users: int
    value: LiftInterval
    absolute: LiftInterval
    relative: LiftInterval
    """At a horizon that was fixed beforehand."""
    sequential: LiftInterval
    """Relative, and holds however often one looks."""

    def as_json(self) -> dict[str, Any]:
        """The reading as plain values."""
        intervals = {name: getattr(self, name)._asdict() for name in self._fields if name != "users"}
        return {"users": self.users, **intervals}


class LiftRow(NamedTuple):
    """One metric of one arm; the lifts are against the control arm, unknown for the control itself."""

    arm: str
    metric: LiftMetric
    users: int
    value: LiftInterval
    absolute: LiftInterval
    relative: LiftInterval
    sequential: LiftInterval
    deciding: LiftInterval
    """What the decision reads: relative, by the config's `decide_by`, at the level that several arms need."""
    without_top_user: LiftInterval
    """The same without the user of each arm who moves the metric most."""
    p_value: float | None
    """Two-sided, at a fixed horizon."""
    adjusted_p_value: float | None
    """The same, over all arms and metrics (Holm)."""
    detectable: float | None
    """The smallest relative lift that the deciding interval would have seen in 80 of 100 cases."""
    is_measured: bool
    """False where nobody in any arm did anything: the shop does not have the metric."""
    cap: float | None
    """The most that one user counts for; None where nothing is capped."""
    readings: dict[UserReading, Reading]
    """The users as they are logged, without bots, and without bots and capped."""

    def interval_fields(self) -> dict[str, dict[str, float | None]]:
        """Interval -> bound -> number."""
        names = ("value", "absolute", "relative", "sequential", "deciding", "without_top_user")
        return {name: getattr(self, name)._asdict() for name in names}

    def as_json(self) -> dict[str, Any]:
        """The row as plain values."""
        readings = {name: reading.as_json() for name, reading in self.readings.items()}
        return self._asdict() | self.interval_fields() | {"readings": readings}


def compare_arms(users: pl.DataFrame, arms: Sequence[str], config: MonitoringConfig) -> list[LiftRow]:
    """Every metric of every arm, against the control.

    Args:
        users: user totals; one row per user, of users who saw one arm only.
        arms: the arms that were shown, control first; an arm may have no such user.
        config: monitoring's configuration.
    """
    shoppers = users.filter(~pl.col("is_bot"))
    caps = find_caps(shoppers, config)
    read_users: dict[UserReading, tuple[pl.DataFrame, dict[str, float] | None]] = {
        "raw": (users, None),
        "without_bots": (shoppers, None),
        "robust": (shoppers, caps),
    }
    # More arms are more chances for a lucky one: Bonferroni over the challengers.
    deciding_confidence = 1 - (1 - config.confidence) / max(len(arms) - 1, 1)
    rows: list[LiftRow] = []
    for metric in METRICS:
        values = {reading: _split_by_arm(*read_users[reading], metric, arms) for reading in READINGS}
        deciding_values = values[config.deciding_users]
        is_measured = any(arm_values.numerator.sum() > 0 for arm_values in deciding_values.values())
        cap = caps.get(METRICS[metric][1 if METRICS[metric][1] != "users" else 0])
        for arm in arms:
            readings = {
                reading: _read_lift(values[reading], arm, config, confidence=config.confidence)
                for reading in READINGS
            }
            rows.append(
                _make_row(
                    arm,
                    metric,
                    deciding_values,
                    readings,
                    config,
                    deciding_confidence=deciding_confidence,
                    is_measured=is_measured,
                    cap=cap if config.deciding_users == "robust" and is_measured else None,
                )
            )
    return _adjust_for_many(rows)


def list_arms_control_first(users: pl.DataFrame, config: MonitoringConfig) -> list[str]:
    """The arms that were shown.

    Raises:
        UserError: the control arm was never shown, or an arm has no share in the config.
    """
    shown_arms = sorted(users["arm"].unique())
    if config.control_arm not in shown_arms:
        raise UserError(f"control_arm '{config.control_arm}' was shown to no user; shown were {shown_arms}")
    without_share = [arm for arm in shown_arms if config.arm_shares and arm not in config.arm_shares]
    if without_share:
        raise UserError(f"arm_shares has no share for {without_share}; name every arm or none.")
    return [config.control_arm, *(arm for arm in shown_arms if arm != config.control_arm)]


def estimate_deciding_lift(
    challenger: UserValues, control: UserValues, config: MonitoringConfig, *, confidence: float
) -> LiftInterval:
    """The relative lift that decides: always valid, or at a fixed horizon, as the config says."""
    return estimate_lift(
        challenger, control, confidence=confidence, is_sequential=config.decide_by == "sequential"
    )


def estimate_lift(
    challenger: UserValues, control: UserValues, *, confidence: float, is_sequential: bool
) -> LiftInterval:
    """The relative lift of one arm over the other, also where one of them did nothing at all."""
    silent_lift = estimate_silent_lift(
        challenger_users=len(challenger.numerator),
        challenger_events=int(np.count_nonzero(challenger.numerator)),
        control_users=len(control.numerator),
        control_events=int(np.count_nonzero(control.numerator)),
        confidence=confidence,
    )
    if silent_lift != UNKNOWN:
        return silent_lift
    estimate_lift = estimate_sequential_lift if is_sequential else estimate_relative_lift
    return estimate_lift(estimate_ratio(*challenger), estimate_ratio(*control), confidence=confidence)


def _split_by_arm(
    users: pl.DataFrame, caps: dict[str, float] | None, metric: LiftMetric, arms: Sequence[str]
) -> dict[str, UserValues]:
    values, arm_of_user = read_metric(users, metric, caps), users["arm"]
    return {arm: values.select((arm_of_user == arm).to_numpy()) for arm in arms}


def _read_lift(
    values: Mapping[str, UserValues], arm: str, config: MonitoringConfig, *, confidence: float
) -> Reading:
    estimate = estimate_ratio(*values[arm])
    num_users = len(values[arm].numerator)
    value = estimate_value_interval(estimate, confidence=confidence)
    if arm == config.control_arm:
        return Reading(num_users, value, UNKNOWN, UNKNOWN, UNKNOWN)
    control_values = values[config.control_arm]
    relative, sequential = (
        estimate_lift(values[arm], control_values, confidence=confidence, is_sequential=is_sequential)
        for is_sequential in (False, True)
    )
    absolute = estimate_absolute_lift(estimate, estimate_ratio(*control_values), confidence=confidence)
    return Reading(num_users, value, absolute, relative, sequential)


def _make_row(
    arm: str,
    metric: LiftMetric,
    values: Mapping[str, UserValues],
    readings: dict[UserReading, Reading],
    config: MonitoringConfig,
    *,
    deciding_confidence: float,
    is_measured: bool,
    cap: float | None,
) -> LiftRow:
    reading = readings[config.deciding_users]
    deciding = without_top_user = UNKNOWN
    p_value: float | None = None
    detectable: float | None = None
    if arm != config.control_arm:
        control_values, arm_values = values[config.control_arm], values[arm]
        control, challenger = estimate_ratio(*control_values), estimate_ratio(*arm_values)
        deciding = estimate_deciding_lift(arm_values, control_values, config, confidence=deciding_confidence)
        without_top_user = estimate_deciding_lift(
            leave_out_top_user(arm_values),
            leave_out_top_user(control_values),
            config,
            confidence=deciding_confidence,
        )
        p_value = compute_p_value(challenger, control)
        detectable = find_detectable_lift(
            challenger,
            control,
            confidence=deciding_confidence,
            is_sequential=config.decide_by == "sequential",
        )
    return LiftRow(
        arm,
        metric,
        *reading,
        deciding,
        without_top_user,
        p_value,
        None,
        detectable,
        is_measured,
        cap,
        readings,
    )


def _adjust_for_many(rows: list[LiftRow]) -> list[LiftRow]:
    tested = [(number, row.p_value) for number, row in enumerate(rows) if row.p_value is not None]
    adjusted = adjust_p_values([p_value for _, p_value in tested])
    adjusted_rows = list(rows)
    for (number, _), p_value in zip(tested, adjusted, strict=True):
        adjusted_rows[number] = rows[number]._replace(adjusted_p_value=p_value)
    return adjusted_rows
