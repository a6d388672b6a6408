"""Puts rankers into service."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def deploy_ranker(
    challenger: dsl.Input[dsl.Model],
    control: dsl.Input[dsl.Model],
    champion: str,
    config: str,
    workspace: str,
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Publishes to Triton, checks parity on golden rows, switches the routes; never cached, safe to repeat.

    Args:
        challenger: the ranker for the treatment arm.
        control: the ranker for the control arm while no champion is in service.
        champion: folder of the ranker in service, then the control arm; empty when there is none.
        config: JSON of `serving.config.ServingConfig`.
        workspace: folder that outlives the step; model repository and routes lie in it.
        metrics: largest difference to the golden rows.
    """
    from pathlib import Path

    from components.step_support import log_values
    from serving.config import ServingConfig
    from serving.deployment.deploy_rankers import deploy_rankers

    arms = {"control": Path(champion or control.path), "treatment": Path(challenger.path)}
    serving = ServingConfig.model_validate_json(config)
    log_values(deploy_rankers(arms, serving, state=Path(workspace) / "serving"), metrics)
