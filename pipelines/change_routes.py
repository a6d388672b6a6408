"""Canary, rollback, promotion and retirement on a cluster: one step, where the claim and Triton are."""

from kfp import dsl

from components.change_routes.component import change_routes as change_routes_step
from pipelines.step_settings import disable_caching, import_artifact, mount_workspace


@dsl.pipeline(
    name="change-routes",
    description="Tries a ranker, rolls back, promotes or retires an arm, or shows the routes.",
)
def change_routes(
    action: str,
    arm: str,
    ranker: str,
    ranker_uri: str,
    share: float,
    serving_config: str,
    workspace: str,
) -> None:
    """Changes the routes.

    Args:
        action: `canary`, `rollback`, `promote`, `retire` or `show`.
        arm: which arm gets the canary, is promoted or retired.
        ranker: name of the canary, where it was deployed before; empty for the one that is being tried.
        ranker_uri: address of the canary's artifact, where it was not.
        share: of the arm's users that the canary answers; 1 ends the trial well, 0 badly.
        serving_config: JSON of `serving.config.ServingConfig`.
        workspace: folder (a mounted volume) that outlives the steps.
    """
    arguments = {"action": action, "arm": arm, "share": share, "config": serving_config}
    with dsl.If(ranker_uri == "", name="routes-alone"):
        task = change_routes_step(ranker=ranker, workspace=workspace, **arguments)
        disable_caching(mount_workspace(task))
    with dsl.If(ranker_uri != "", name="with-an-artifact"):
        artifact = import_artifact(ranker_uri, dsl.Model)
        task = change_routes_step(ranker=ranker, workspace=workspace, artifact=artifact, **arguments)
        disable_caching(mount_workspace(task))
