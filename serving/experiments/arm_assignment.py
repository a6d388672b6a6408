"""Chooses the arms of a user, in all experiments at once.

The draw is a salted hash of the user id: the same on every gateway and after every restart.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from contracts.errors import UserError
from serving.deployment.routes import Arm, ExperimentPlan
from serving.experiments.experiment_layers import CONTROL

AssignmentSource = Literal["drawn", "holdout", "forced"]
# Names that no experiment can have, so these draws are independent of all experiments.
_HOLDOUT_DRAW, _CANARY_DRAW = "\0holdout", "\0canary"


class Assignment(NamedTuple):
    """Who sees what, and why. Only what was drawn may be compared."""

    arm: str
    """Of the ranker experiment."""
    model: str
    """Ranker that answers."""
    layers: dict[str, str]
    """Experiment of another layer -> arm."""
    source: AssignmentSource


def assign_arms(
    plan: ExperimentPlan, user_id: str, forced_arms: Mapping[str, str] | None = None
) -> Assignment:
    """Chooses the arms of a user.

    Args:
        plan: the experiments.
        user_id: the unit of all experiments.
        forced_arms: experiment -> arm, for debugging.

    Raises:
        UserError: `forced_arms` names an experiment or an arm that is not there.
    """
    if forced_arms:
        _require_known_arms(forced_arms, plan.shares_by_experiment)
    # A holdout of 0 holds nobody: no position lies below it.
    is_held_out = hash_to_unit_interval(user_id, experiment=_HOLDOUT_DRAW, salt="") < plan.holdout
    user_arms = _control_arms(plan) if is_held_out else _draw_all_arms(plan, user_id)
    # Forced arms win over the draw and over the holdout.
    user_arms |= forced_arms or {}
    ranker_arm = user_arms.pop(plan.experiment)
    source: AssignmentSource = "forced" if forced_arms else "holdout" if is_held_out else "drawn"
    model = _choose_model(plan.arms[ranker_arm], user_id, is_held_out=is_held_out)
    return Assignment(ranker_arm, model, user_arms, source)


def parse_forced_arms(text: str) -> dict[str, str]:
    """Reads `experiment=arm[,experiment=arm]`.

    Raises:
        UserError: it is something else.
    """
    experiment_arms = [entry.strip().partition("=") for entry in text.split(",")]
    if not all(experiment and arm for experiment, _, arm in experiment_arms):
        raise UserError("forced arms are written experiment=arm[,experiment=arm]")
    return {experiment: arm for experiment, _, arm in experiment_arms}


def draw_arm(user_id: str, shares: Mapping[str, float], *, experiment: str, salt: str) -> str:
    """Draws a user's arm in one experiment.

    Args:
        user_id: the unit of the experiment.
        shares: arm -> share of the users; they sum to one. Their order matters.
        experiment: name of the experiment, so that two experiments split independently.
        salt: change it to draw the arms anew.
    """
    user_position = hash_to_unit_interval(user_id, experiment=experiment, salt=salt)
    upper_bound = 0.0
    for arm, share in shares.items():
        upper_bound += share
        if user_position < upper_bound:
            return arm
    # Shares that sum to a hair below one.
    return arm


def hash_to_unit_interval(user_id: str, *, experiment: str, salt: str) -> float:
    """The user's position in [0, 1)."""
    digest = hashlib.sha256(f"{experiment}\0{salt}\0{user_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _draw_all_arms(plan: ExperimentPlan, user_id: str) -> dict[str, str]:
    salts = {plan.experiment: plan.salt} | {name: layer.salt for name, layer in plan.layers.items()}
    return {
        experiment: draw_arm(user_id, shares, experiment=experiment, salt=salts[experiment])
        for experiment, shares in plan.shares_by_experiment.items()
    }


def _control_arms(plan: ExperimentPlan) -> dict[str, str]:
    # An experiment of one arm has nothing to hold out.
    return {
        experiment: CONTROL if CONTROL in shares else next(iter(shares))
        for experiment, shares in plan.shares_by_experiment.items()
    }


def _choose_model(arm: Arm, user_id: str, *, is_held_out: bool) -> str:
    canary = arm.canary
    if canary is None or is_held_out:
        return arm.model
    user_position = hash_to_unit_interval(user_id, experiment=_CANARY_DRAW, salt=canary.model)
    return canary.model if user_position < canary.share else arm.model


def _require_known_arms(forced_arms: Mapping[str, str], shares_by_experiment: Mapping[str, Any]) -> None:
    for experiment, arm in forced_arms.items():
        if experiment not in shares_by_experiment:
            raise UserError(f"no experiment '{experiment}'; there are {', '.join(shares_by_experiment)}")
        if arm not in shares_by_experiment[experiment]:
            arm_names = ", ".join(shares_by_experiment[experiment])
            raise UserError(f"no arm '{arm}' in experiment '{experiment}'; there are {arm_names}")
