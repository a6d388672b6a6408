"""What an operator does to the routes by hand, under the names of the command line."""

from pathlib import Path
from typing import Final

from contracts.errors import UserError
from serving.config import ServingConfig
from serving.deployment.deploy_rankers import roll_back_routes
from serving.deployment.routes import Routes, read_routes
from serving.experiments.champion import promote_arm, retire_arm

ACTIONS: Final = ("rollback", "promote", "retire", "show")
"""What can be done."""


def change_routes(action: str, *, arm: str, config: ServingConfig, state: Path) -> Routes:
    """Changes the routes, or shows them.

    Args:
        action: one of `ACTIONS`.
        arm: which arm to promote or to retire; the others do not read it.
        config: serving settings, by which a rollback reaches Triton.
        state: serving's folder.

    Raises:
        UserError: there is no such action or arm, nothing is deployed, or Triton is not there.
        RuntimeError: a former ranker no longer answers as it did; the routes stay as they were.
    """
    if action == "rollback":
        return roll_back_routes(config, state=state)
    if action == "promote":
        return promote_arm(arm, state=state)
    if action == "retire":
        return retire_arm(arm, state=state)
    if action == "show":
        return read_routes(state)
    raise UserError(f"action '{action}' is none of {', '.join(ACTIONS)}")
