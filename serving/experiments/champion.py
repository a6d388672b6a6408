"""The champion is the ranker that won its experiment: it answers until a challenger beats it."""

from pathlib import Path

from contracts.errors import UserError
from serving.config import ServingConfig
from serving.deployment.routes import ROUTES_FILE, Arm, Routes, read_routes, write_routes
from serving.experiments.experiment_layers import CONTROL


def read_champion_name(state: Path) -> str | None:
    """Name of the champion; none before the first promotion or deployment."""
    return read_routes(state).champion if (state / ROUTES_FILE).is_file() else None


def find_champion(state: Path) -> Path | None:
    """Folder of the champion's ranker artifact, as it was installed when it was deployed."""
    champion = read_champion_name(state)
    return ServingConfig().in_folders(state).rankers_folder / champion if champion else None


def promote_arm(arm: str, *, state: Path) -> Routes:
    """Makes an arm's ranker the champion: from the next request on it answers everybody.

    Raises:
        UserError: nothing is deployed, there is no such arm, or two rankers answer it.
    """
    routes = read_routes(state)
    if arm not in routes.arms:
        raise UserError(f"no arm '{arm}' to promote; the arms are {', '.join(routes.arms)}")
    if routes.arms[arm].canary:
        raise UserError(f"arm '{arm}' has a canary; finish it (`reaseq canary --share 1`) or roll it back")
    if routes.arms[arm].interleaved:
        raise UserError(
            f"two rankers share the pages of arm '{arm}'; `reaseq experiment stop --keep` says which stays"
        )
    new_champion = routes.arms[arm].model
    changes = {"arms": {CONTROL: Arm(model=new_champion, share=1.0)}, "champion": new_champion}
    new_plan = routes.as_plan.model_copy(update=changes)
    return write_routes(state, new_plan, note=f"promote {arm}", after=routes.revision)


def retire_arm(arm: str, *, state: Path) -> Routes:
    """Ends an arm that does harm: its users see the control arm again.

    Raises:
        UserError: nothing is deployed, or the arm is not there or is the control arm itself.
    """
    routes = read_routes(state)
    if arm not in routes.arms or arm == CONTROL or CONTROL not in routes.arms:
        raise UserError(
            f"arm '{arm}' cannot be retired for '{CONTROL}'; the arms are {', '.join(routes.arms)}"
        )
    control_arm = routes.arms[CONTROL]
    grown_control = control_arm.model_copy(update={"share": control_arm.share + routes.arms[arm].share})
    other_arms = {arm_name: other for arm_name, other in routes.arms.items() if arm_name != arm}
    new_plan = routes.as_plan.model_copy(update={"arms": other_arms | {CONTROL: grown_control}})
    return write_routes(state, new_plan, note=f"retire {arm}", after=routes.revision)
