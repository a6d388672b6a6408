"""Rollback, promotion and retirement on a cluster: one step, where the claim and Triton are."""

from kfp import dsl

from components.change_routes.component import change_routes as change_routes_step
from pipelines.step_settings import disable_caching, mount_workspace


@dsl.pipeline(
    name="change-routes", description="Rolls back, promotes or retires an arm, or shows the routes."
)
def change_routes(action: str, arm: str, serving_config: str, workspace: str) -> None:
    """Changes the routes.

    Args:
        action: `rollback`, `promote`, `retire` or `show`.
        arm: which arm to promote or to retire.
        serving_config: JSON of `serving.config.ServingConfig`.
        workspace: folder (a mounted volume) that outlives the steps.
    """
    task = change_routes_step(action=action, arm=arm, config=serving_config, workspace=workspace)
    disable_caching(mount_workspace(task))
