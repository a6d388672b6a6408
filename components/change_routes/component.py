"""Changes who is in service, by hand."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def change_routes(action: str, arm: str, config: str, workspace: str) -> str:
    """Rolls back, promotes an arm or retires one, where the routes lie; never cached, never retried.

    Args:
        action: `rollback`, `promote`, `retire`, or `show`, which changes nothing.
        arm: which arm to promote or to retire.
        config: JSON of `serving.config.ServingConfig`.
        workspace: folder that outlives the step; the routes lie in it.

    Returns:
        The routes that hold then, in words.
    """
    from pathlib import Path

    from serving.config import ServingConfig
    from serving.experiments.change_routes import change_routes as run

    serving = ServingConfig.model_validate_json(config)
    routes = str(run(action, arm=arm, config=serving, state=Path(workspace) / "serving"))
    print(routes)
    return routes
