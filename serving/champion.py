"""The champion: the ranker that won its experiment. It answers everybody until a challenger gets an arm beside it."""

from pathlib import Path

from contracts.errors import UserError
from serving.config import ServingConfig
from serving.experiments import CONTROL
from serving.routes import ROUTES_FILE, Arm, Routes, read_routes, write_routes


def champion_name(state: Path) -> str | None:
    """Name of the champion; none before the first promotion or deployment."""
    return read_routes(state).champion if (state / ROUTES_FILE).is_file() else None


def find_champion(state: Path) -> Path | None:
    """Folder of the champion's ranker artifact, as it was installed when it was deployed."""
    name = champion_name(state)
    return ServingConfig().at(state).rankers / name if name else None


def promote(arm: str, *, state: Path) -> Routes:
    """Makes an arm's ranker the champion: from the next request on it answers everybody.

    Raises:
        UserError: nothing is deployed, there is no such arm, or two rankers answer it.
    """
    current = read_routes(state)
    if arm not in current.arms:
        raise UserError(f"no arm '{arm}' to promote; the arms are {', '.join(current.arms)}")
    if current.arms[arm].canary:
        raise UserError(f"arm '{arm}' has a canary; finish it (`reaseq canary --share 1`) or roll it back first")
    model = current.arms[arm].model
    promoted = {"arms": {CONTROL: Arm(model=model, share=1.0)}, "champion": model}
    return write_routes(state, current.plan.model_copy(update=promoted), note=f"promote {arm}")


def retire(arm: str, *, state: Path) -> Routes:
    """Ends an arm that does harm: its users see the control arm again.

    Raises:
        UserError: nothing is deployed, or the arm is not there or is the control arm itself.
    """
    current = read_routes(state)
    if arm not in current.arms or arm == CONTROL or CONTROL not in current.arms:
        raise UserError(
            f"arm '{arm}' cannot be retired in favour of '{CONTROL}'; the arms are {', '.join(current.arms)}"
        )
    kept = {name: found for name, found in current.arms.items() if name != arm}
    kept[CONTROL] = kept[CONTROL].model_copy(update={"share": kept[CONTROL].share + current.arms[arm].share})
    return write_routes(state, current.plan.model_copy(update={"arms": kept}), note=f"retire {arm}")
