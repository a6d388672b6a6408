"""The lift that decides: always valid or at a fixed horizon, without or with the users' histories."""

from typing import NamedTuple

import numpy as np

from contracts.array_types import BoolArray, DoubleArray
from monitoring.config import MonitoringConfig
from monitoring.lift.history_adjustment import adjust_by_history, has_enough_history
from monitoring.lift.lift_statistics import (
    UNKNOWN,
    LiftInterval,
    estimate_ratio,
    estimate_relative_lift,
    estimate_sequential_lift,
    estimate_silent_lift,
    find_detectable_lift,
)
from monitoring.lift.outlier_users import UserValues


class ArmUsers(NamedTuple):
    """The users of one arm, of one metric."""

    values: UserValues
    covariates: DoubleArray | None
    """What they did before, shape (users, 2); None where no history is given."""

    def select(self, kept: BoolArray) -> "ArmUsers":
        """Some of the users."""
        covariates = None if self.covariates is None else self.covariates[kept]
        return ArmUsers(self.values.select(kept), covariates)


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


def estimate_cuped_lift(
    challenger: ArmUsers, control: ArmUsers, config: MonitoringConfig, *, confidence: float
) -> tuple[LiftInterval, float | None]:
    """The deciding interval with histories taken into account, and the smallest lift that it could see.

    Unknown where fewer than 100 users of an arm have a history, and where an arm did nothing at all: what
    bounds that is exact, and has nothing to be explained.
    """
    if challenger.covariates is None or control.covariates is None:
        return UNKNOWN, None
    if not all(has_enough_history(covariates) for covariates in (challenger.covariates, control.covariates)):
        return UNKNOWN, None
    if min(np.count_nonzero(arm.values.numerator) for arm in (challenger, control)) == 0:
        return UNKNOWN, None
    adjusted = adjust_by_history(challenger.values, control.values, challenger.covariates, control.covariates)
    if adjusted is None:
        return UNKNOWN, None
    is_sequential = config.decide_by == "sequential"
    estimate = estimate_sequential_lift if is_sequential else estimate_relative_lift
    return (
        estimate(*adjusted, confidence=confidence),
        find_detectable_lift(*adjusted, confidence=confidence, is_sequential=is_sequential),
    )
