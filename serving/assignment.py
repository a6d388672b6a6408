"""What one user sees in all experiments at once."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from contracts.errors import UserError
from serving.experiments import CONTROL, assign_arm, bucket
from serving.routes import Arm, Plan

How = Literal["drawn", "holdout", "forced"]
_HOLDOUT, _CANARY = "\0holdout", "\0canary"
"""Names that no experiment can have: their draws are independent of all experiments."""


class Assignment(NamedTuple):
    """Who sees what, and why. Only what was drawn may be compared."""

    arm: str
    """Of the ranker experiment."""
    model: str
    """Ranker that answers."""
    layers: dict[str, str]
    """Experiment of another layer -> arm."""
    how: How


def assign(plan: Plan, user_id: str, forced: Mapping[str, str] | None = None) -> Assignment:
    """The arms of a user.

    Args:
        plan: the experiments.
        user_id: the unit of all experiments.
        forced: experiment -> arm, for debugging.

    Raises:
        UserError: `forced` names an experiment or an arm that is not there.
    """
    if forced:
        _require_known(forced, plan.experiments)
    is_held_out = bool(plan.holdout) and bucket(user_id, experiment=_HOLDOUT, salt="") < plan.holdout
    arms = (_controls(plan) if is_held_out else _draw(plan, user_id)) | dict(forced or {})
    arm = arms.pop(plan.experiment)
    how: How = "forced" if forced else "holdout" if is_held_out else "drawn"
    return Assignment(arm, _model(plan.arms[arm], user_id, is_held_out=is_held_out), arms, how)


def parse_forced(text: str) -> dict[str, str]:
    """Reads `experiment=arm[,experiment=arm]`.

    Raises:
        UserError: it is something else.
    """
    pairs = [part.strip().partition("=") for part in text.split(",")]
    if not all(experiment and arm for experiment, _, arm in pairs):
        raise UserError("forced arms are written experiment=arm[,experiment=arm]")
    return {experiment: arm for experiment, _, arm in pairs}


def _draw(plan: Plan, user_id: str) -> dict[str, str]:
    salts = {plan.experiment: plan.salt} | {name: layer.salt for name, layer in plan.layers.items()}
    shares = plan.experiments
    return {name: assign_arm(user_id, shares[name], experiment=name, salt=salt) for name, salt in salts.items()}


def _controls(plan: Plan) -> dict[str, str]:
    # An experiment of one arm has nothing to hold out.
    return {name: CONTROL if CONTROL in shares else next(iter(shares)) for name, shares in plan.experiments.items()}


def _model(arm: Arm, user_id: str, *, is_held_out: bool) -> str:
    canary = arm.canary
    if canary is None or is_held_out or bucket(user_id, experiment=_CANARY, salt=canary.model) >= canary.share:
        return arm.model
    return canary.model


def _require_known(forced: Mapping[str, str], shares: Mapping[str, Mapping[str, float]]) -> None:
    for experiment, arm in forced.items():
        if experiment not in shares:
            raise UserError(f"no experiment '{experiment}'; there are {', '.join(shares)}")
        if arm not in shares[experiment]:
            raise UserError(f"no arm '{arm}' in experiment '{experiment}'; there are {', '.join(shares[experiment])}")
