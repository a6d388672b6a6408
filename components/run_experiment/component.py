"""Starts, stops or describes an experiment, where the routes and the event log lie."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def run_experiment(
    order: str,
    serving_config: str,
    monitoring_config: str,
    workspace: str,
    artifact: dsl.Input[dsl.Model] = None,
) -> str:
    """Carries an order for an experiment out; never cached, never retried.

    Args:
        order: JSON of `serving.experiments.experiment_order.ExperimentOrder`.
        serving_config: JSON of `serving.config.ServingConfig`.
        monitoring_config: JSON of `monitoring.config.MonitoringConfig`.
        workspace: folder that outlives the step; routes, records and event log lie in it.
        artifact: the challenger, where it was never deployed.

    Returns:
        What came of it, in words.
    """
    from pathlib import Path

    from components.experiment_order import carry_out_order
    from monitoring.config import MonitoringConfig
    from serving.config import ServingConfig
    from serving.experiments.experiment_order import ExperimentOrder

    outcome = carry_out_order(
        ExperimentOrder.model_validate_json(order),
        ServingConfig.model_validate_json(serving_config),
        MonitoringConfig.model_validate_json(monitoring_config),
        state=Path(workspace) / "serving",
        artifact=Path(artifact.path) if artifact else None,
    )
    print(outcome)
    return outcome
