"""Compares every arm with the control, metric by metric."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl

from contracts.array_types import DoubleArray
from contracts.errors import UserError
from monitoring.config import MonitoringConfig, UserReading
from monitoring.lift.deciding_lift import ArmUsers, estimate_cuped_lift, estimate_deciding_lift, estimate_lift
from monitoring.lift.history_adjustment import build_covariates
from monitoring.lift.lift_statistics import (
    UNKNOWN,
    LiftInterval,
    adjust_p_values,
    compute_p_value,
    estimate_absolute_lift,
    estimate_ratio,
    estimate_value_interval,
    find_detectable_lift,
)
from monitoring.lift.outlier_users import (
    READINGS,
    UserValues,
    find_caps,
    keep_but_top_user,
    list_metrics,
    read_metric,
)

# Fewer active users than either of these are strays, and no metric of the shop.
_LEAST_ACTIVE_USERS: Final = 10
_LEAST_ACTIVE_SHARE: Final = 0.001


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
    metric: str
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
    """False where hardly anybody in any arm did anything: the shop does not have the metric."""
    cap: float | None
    """The most that one user counts for; None where nothing is capped."""
    cuped: LiftInterval
    """The deciding interval with the users' histories taken into account; unknown without any."""
    cuped_detectable: float | None
    """The smallest relative lift that it would have seen."""
    is_decided_by_cuped: bool
    """Whether `deciding`, `without_top_user` and `detectable` are those of CUPED."""
    readings: dict[UserReading, Reading]
    """The users as they are logged, without bots, and without bots and capped."""

    def interval_fields(self) -> dict[str, dict[str, float | None]]:
        """Interval -> bound -> number."""
        names = ("value", "absolute", "relative", "sequential", "deciding", "without_top_user", "cuped")
        return {name: getattr(self, name)._asdict() for name in names}

    def as_json(self) -> dict[str, Any]:
        """The row as plain values."""
        readings = {name: reading.as_json() for name, reading in self.readings.items()}
        return self._asdict() | self.interval_fields() | {"readings": readings}


def compare_arms(
    users: pl.DataFrame,
    arms: Sequence[str],
    config: MonitoringConfig,
    history: pl.DataFrame | None = None,
) -> list[LiftRow]:
    """Every metric of every arm, against the control.

    Args:
        users: user totals; one row per user, of users who saw one arm only.
        arms: the arms that were shown, control first; an arm may have no such user.
        config: monitoring's configuration.
        history: user totals from before the experiment; users without any are not in it.
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
    deciding_users = read_users[config.deciding_users][0]
    for metric, columns in list_metrics(config).items():
        values = {reading: _split_by_arm(*read_users[reading], columns, arms) for reading in READINGS}
        covariates = _split_covariates(deciding_users, history, metric, arms, config)
        compared = {arm: ArmUsers(values[config.deciding_users][arm], covariates.get(arm)) for arm in arms}
        is_measured = _is_measured([arm_users.values for arm_users in compared.values()])
        cap = caps.get(columns[1] if columns[1] != "users" else columns[0])
        for arm in arms:
            readings = {
                reading: _read_lift(values[reading], arm, config, confidence=config.confidence)
                for reading in READINGS
            }
            rows.append(
                _make_row(
                    arm,
                    metric,
                    compared,
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
        UserError: the control arm was neither shown nor given a share, or an arm has no share in the config.
    """
    shown_arms = sorted(users["arm"].unique())
    # With a share it is only that nobody came to it yet.
    if config.control_arm not in (*shown_arms, *config.arm_shares):
        raise UserError(f"control_arm '{config.control_arm}' was shown to no user; shown were {shown_arms}")
    without_share = [arm for arm in shown_arms if config.arm_shares and arm not in config.arm_shares]
    if without_share:
        raise UserError(f"arm_shares has no share for {without_share}; name every arm or none.")
    return [config.control_arm, *(arm for arm in shown_arms if arm != config.control_arm)]


def _is_measured(arms: Sequence[UserValues]) -> bool:
    """Does the shop have the metric? A stray test order in a shop without orders makes none."""
    num_active = sum(int(np.count_nonzero(values.numerator)) for values in arms)
    num_users = sum(len(values.numerator) for values in arms)
    return num_active >= min(_LEAST_ACTIVE_USERS, max(_LEAST_ACTIVE_SHARE * num_users, 1))


def _split_by_arm(
    users: pl.DataFrame, caps: dict[str, float] | None, columns: tuple[str, str], arms: Sequence[str]
) -> dict[str, UserValues]:
    values, arm_of_user = read_metric(users, columns, caps), users["arm"]
    return {arm: values.select((arm_of_user == arm).to_numpy()) for arm in arms}


def _split_covariates(
    users: pl.DataFrame,
    history: pl.DataFrame | None,
    metric: str,
    arms: Sequence[str],
    config: MonitoringConfig,
) -> dict[str, DoubleArray]:
    if history is None or config.cuped == "off":
        return {}
    covariates, arm_of_user = build_covariates(users, history, metric, config), users["arm"]
    return {arm: covariates[(arm_of_user == arm).to_numpy()] for arm in arms}


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
    metric: str,
    compared: Mapping[str, ArmUsers],
    readings: dict[UserReading, Reading],
    config: MonitoringConfig,
    *,
    deciding_confidence: float,
    is_measured: bool,
    cap: float | None,
) -> LiftRow:
    row = LiftRow(
        arm,
        metric,
        *readings[config.deciding_users],
        deciding=UNKNOWN,
        without_top_user=UNKNOWN,
        p_value=None,
        adjusted_p_value=None,
        detectable=None,
        is_measured=is_measured,
        cap=cap,
        cuped=UNKNOWN,
        cuped_detectable=None,
        is_decided_by_cuped=False,
        readings=readings,
    )
    if arm == config.control_arm:
        return row
    return _judge_row(row, compared[arm], compared[config.control_arm], config, deciding_confidence)


def _judge_row(
    row: LiftRow, challenger: ArmUsers, control: ArmUsers, config: MonitoringConfig, confidence: float
) -> LiftRow:
    """The row with what decides, without and with the users' histories."""
    # One user of each arm may not turn a verdict.
    fewer = challenger.select(keep_but_top_user(challenger.values))
    fewer_control = control.select(keep_but_top_user(control.values))
    estimates = estimate_ratio(*challenger.values), estimate_ratio(*control.values)
    cuped, cuped_detectable = estimate_cuped_lift(challenger, control, config, confidence=confidence)
    row = row._replace(
        deciding=estimate_deciding_lift(challenger.values, control.values, config, confidence=confidence),
        without_top_user=estimate_deciding_lift(
            fewer.values, fewer_control.values, config, confidence=confidence
        ),
        p_value=compute_p_value(*estimates),
        detectable=find_detectable_lift(
            *estimates, confidence=confidence, is_sequential=config.decide_by == "sequential"
        ),
        cuped=cuped,
        cuped_detectable=cuped_detectable,
    )
    if config.cuped != "decides" or cuped == UNKNOWN:
        return row
    return row._replace(
        deciding=cuped,
        without_top_user=estimate_cuped_lift(fewer, fewer_control, config, confidence=confidence)[0],
        detectable=cuped_detectable,
        is_decided_by_cuped=True,
    )


def _adjust_for_many(rows: list[LiftRow]) -> list[LiftRow]:
    tested = [(number, row.p_value) for number, row in enumerate(rows) if row.p_value is not None]
    adjusted = adjust_p_values([p_value for _, p_value in tested])
    adjusted_rows = list(rows)
    for (number, _), p_value in zip(tested, adjusted, strict=True):
        adjusted_rows[number] = rows[number]._replace(adjusted_p_value=p_value)
    return adjusted_rows
