"""What an operator does to the routes by hand, under the names of the command line."""

from pathlib import Path
from typing import Final

from contracts.errors import UserError
from models.ranker.inputs.ranker_spec import SPEC_FILE
from serving.config import ServingConfig
from serving.deployment.deploy_rankers import roll_back_routes
from serving.deployment.routes import Routes, read_routes
from serving.experiments.canary import start_canary
from serving.experiments.champion import promote_arm, retire_arm

ACTIONS: Final = ("canary", "rollback", "promote", "retire", "show")
"""What can be done."""


def change_routes(
    action: str, *, arm: str, config: ServingConfig, state: Path, ranker: str = "", share: float = 0.0
) -> Routes:
    """Changes the routes, or shows them.

    Args:
        action: one of `ACTIONS`.
        arm: which arm gets the canary, is promoted or retired; the others do not read it.
        config: serving settings, by which Triton is reached.
        state: serving's folder.
        ranker: of a canary: folder of the artifact, or name of a ranker that was deployed before; empty for
            the one that is being tried.
        share: of the arm's users that the canary answers; 1 ends the trial well, 0 badly.

    Raises:
        UserError: there is no such action, arm or ranker, nothing is deployed, or Triton is not there.
        RuntimeError: a ranker no longer answers as it did; the routes stay as they were.
    """
    if action == "canary":
        artifact = find_canary(ranker, arm, config, state=state)
        return start_canary(artifact, config, state=state, arm=arm, share=share)
    if action == "rollback":
        return roll_back_routes(config, state=state)
    if action == "promote":
        return promote_arm(arm, state=state)
    if action == "retire":
        return retire_arm(arm, state=state)
    if action == "show":
        return read_routes(state)
    raise UserError(f"action '{action}' is none of {', '.join(ACTIONS)}")


def find_canary(ranker: str, arm: str, config: ServingConfig, *, state: Path) -> Path:
    """Folder of the ranker that is meant.

    Raises:
        UserError: there is none.
    """
    rankers_folder = config.in_folders(state).rankers_folder
    if ranker:
        installed = rankers_folder / ranker
        return installed if (installed / SPEC_FILE).is_file() else Path(ranker)
    routes = read_routes(state)
    canary = routes.arms[arm].canary if arm in routes.arms else None
    if canary is None:
        raise UserError(f"arm '{arm}' has no canary; name a ranker. Routes: {routes}")
    return rankers_folder / canary.model
