"""Changes who is in service, by hand."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def change_routes(
    action: str,
    arm: str,
    ranker: str,
    share: float,
    config: str,
    workspace: str,
    artifact: dsl.Input[dsl.Model] = None,
) -> str:
    """Changes the routes where they lie; never cached, never retried.

    Args:
        action: `canary`, `rollback`, `promote`, `retire`, or `show`, which changes nothing.
        arm: which arm gets the canary, is promoted or retired.
        ranker: name of the canary, a ranker that was deployed before; empty for the one that is being tried.
        share: of the arm's users that the canary answers; 1 ends the trial well, 0 badly.
        config: JSON of `serving.config.ServingConfig`.
        workspace: folder that outlives the step; the routes lie in it.
        artifact: the canary, where it was never deployed.

    Returns:
        The routes that hold then, in words.
    """
    from pathlib import Path

    from serving.config import ServingConfig
    from serving.experiments.change_routes import change_routes as run

    routes = run(
        action,
        arm=arm,
        config=ServingConfig.model_validate_json(config),
        state=Path(workspace) / "serving",
        ranker=artifact.path if artifact else ranker,
        share=share,
    )
    print(routes)
    return str(routes)
