"""A new version of an arm's ranker, first for a part of the arm's users, then for all of them."""

from pathlib import Path

from contracts.errors import UserError
from models.ranker.inputs.ranker_spec import RankerSpec
from serving.config import ServingConfig
from serving.deployment.deploy_rankers import (
    load_and_check_parity,
    open_triton_control,
    publish_ranker,
    retire_unused_models,
)
from serving.deployment.routes import Arm, Canary, Routes, read_routes, write_routes


def start_canary(artifact: Path, config: ServingConfig, *, state: Path, arm: str, share: float) -> Routes:
    """Lets a ranker answer a share of an arm's users, always the same ones; more of them when the share
    grows.

    Args:
        artifact: the new ranker.
        config: serving settings; the feature store is taken from beside `state`.
        state: folder of the model repository and the routes.
        arm: whose users.
        share: of the arm's users, in [0, 1]. With 1 it becomes the arm's ranker, and the champion if that one
            was; with 0 the trial is over.

    Raises:
        UserError: there is no such arm, the share is out of range, the ranker is the arm's own, or the
            feature store does not hold what it reads.
        RuntimeError: Triton answers the golden rows differently; the routes stay as they were.
    """
    config = config.in_folders(state)
    routes = read_routes(state)
    if arm not in routes.arms:
        raise UserError(f"no arm '{arm}'; the arms are {', '.join(routes.arms)}")
    if not 0 <= share <= 1:
        raise UserError(f"share = {share:g} must lie between 0 and 1")
    former_arm, new_model = routes.arms[arm], RankerSpec.read(artifact).model_name
    if new_model == former_arm.model:
        raise UserError(f"{new_model} is the ranker of arm '{arm}' already")
    new_arms = routes.arms | {arm: _arm_with_canary(former_arm, new_model, share)}
    new_champion = new_model if share == 1 and routes.champion == former_arm.model else routes.champion
    new_plan = routes.as_plan.model_copy(update={"arms": new_arms, "champion": new_champion})
    note = f"canary of {arm}: {share:.0%} {new_model}"
    if share == 0:
        return write_routes(state, new_plan, note=note, after=routes.revision)
    if new_model not in routes.model_names:  # what is being served is not touched
        publish_ranker(artifact, config)
    with open_triton_control(config) as triton_control:
        load_and_check_parity(new_model, triton_control, config.rankers_folder)
        new_routes = write_routes(state, new_plan, note=note, after=routes.revision)
        retire_unused_models(triton_control, config)
    return new_routes


def _arm_with_canary(former_arm: Arm, model: str, share: float) -> Arm:
    if share == 1:
        return Arm(model=model, share=former_arm.share)
    return former_arm.model_copy(update={"canary": Canary(model=model, share=share) if share else None})
