"""A new version of an arm's ranker, first for a part of the arm's users, then for all of them."""

from pathlib import Path

from contracts.errors import UserError
from models.ranker.spec import RankerSpec
from serving.config import ServingConfig
from serving.deploy import load_and_check, put_in_place, triton_control, unload_retired
from serving.routes import Arm, Canary, Routes, read_routes, write_routes


def start_canary(artifact: Path, config: ServingConfig, *, state: Path, arm: str, share: float) -> Routes:
    """Lets a ranker answer a share of an arm's users, always the same ones; more of them when the share grows.

    Args:
        artifact: the new ranker.
        config: serving settings; the feature store is taken from beside `state`.
        state: folder of the model repository and the routes.
        arm: whose users.
        share: of the arm's users, in [0, 1]. With 1 it becomes the arm's ranker, and the champion if that one was;
            with 0 the trial is over.

    Raises:
        UserError: there is no such arm, the share is out of range, the ranker is the arm's own, or the feature store
            does not hold what it reads.
        RuntimeError: Triton answers the golden rows differently; the routes stay as they were.
    """
    config = config.at(state)
    current = read_routes(state)
    if arm not in current.arms:
        raise UserError(f"no arm '{arm}'; the arms are {', '.join(current.arms)}")
    if not 0 <= share <= 1:
        raise UserError(f"share = {share:g} must lie between 0 and 1")
    former, model = current.arms[arm], RankerSpec.read(artifact).model_name
    if model == former.model:
        raise UserError(f"{model} is the ranker of arm '{arm}' already")
    arms = current.arms | {arm: _arm(former, model, share)}
    champion = model if share == 1 and current.champion == former.model else current.champion
    plan = current.plan.model_copy(update={"arms": arms, "champion": champion})
    note = f"canary of {arm}: {share:.0%} {model}"
    if share == 0:
        return write_routes(state, plan, note=note)
    if model not in current.models:  # what is being served is not touched
        put_in_place(artifact, config)
    with triton_control(config) as control:
        load_and_check(RankerSpec.read(config.rankers / model), control, config.rankers)
        routes = write_routes(state, plan, note=note)
        unload_retired(control, state)
    return routes


def _arm(former: Arm, model: str, share: float) -> Arm:
    if share == 1:
        return Arm(model=model, share=former.share)
    return former.model_copy(update={"canary": Canary(model=model, share=share) if share else None})
