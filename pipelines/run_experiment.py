"""An experiment on a cluster is started, watched and stopped by one step, where the claim and Triton are."""

from kfp import dsl

from components.run_experiment.component import run_experiment as run_experiment_step
from pipelines.step_settings import disable_caching, import_artifact, mount_workspace


@dsl.pipeline(name="run-experiment", description="Starts, describes or stops an experiment.")
def run_experiment(
    order: str, ranker_uri: str, serving_config: str, monitoring_config: str, workspace: str
) -> None:
    """Carries an order for an experiment out.

    Args:
        order: JSON of `serving.experiments.experiment_order.ExperimentOrder`.
        ranker_uri: address of the challenger's artifact, where it was never deployed.
        serving_config: JSON of `serving.config.ServingConfig`.
        monitoring_config: JSON of `monitoring.config.MonitoringConfig`.
        workspace: folder (a mounted volume) that outlives the steps.
    """
    arguments = {
        "order": order,
        "serving_config": serving_config,
        "monitoring_config": monitoring_config,
        "workspace": workspace,
    }
    with dsl.If(ranker_uri == "", name="routes-alone"):
        disable_caching(mount_workspace(run_experiment_step(**arguments)))
    with dsl.If(ranker_uri != "", name="with-an-artifact"):
        artifact = import_artifact(ranker_uri, dsl.Model)
        disable_caching(mount_workspace(run_experiment_step(artifact=artifact, **arguments)))
