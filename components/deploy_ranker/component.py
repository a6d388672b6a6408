"""Puts rankers into service."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def deploy_ranker(
    challenger: dsl.Input[dsl.Model],
    control: dsl.Input[dsl.Model],
    champion: str,
    config: str,
    dataset_uri: str,
    knowledge_uri: str,
    item_embeddings_uri: str,
    behavior_model_uri: str,
    features_uri: str,
    evaluation_uri: str,
    workspace: str,
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Publishes to Triton, checks parity on golden rows, switches the routes; never cached, safe to repeat.

    Args:
        challenger: the ranker for the treatment arm.
        control: the ranker for the control arm while no champion is in service.
        champion: folder of the ranker in service, then the control arm; empty when there is none.
        config: JSON of `serving.config.ServingConfig`.
        dataset_uri: address of the dataset, for the record of the deployment; the other `*_uri` likewise.
        knowledge_uri: see `dataset_uri`.
        item_embeddings_uri: see `dataset_uri`.
        behavior_model_uri: see `dataset_uri`.
        features_uri: see `dataset_uri`.
        evaluation_uri: see `dataset_uri`.
        workspace: folder that outlives the step; model repository and routes lie in it.
        metrics: largest difference to the golden rows.
    """
    from pathlib import Path

    from components.step_support import log_values
    from serving.config import ServingConfig
    from serving.deployment.deploy_rankers import deploy_rankers
    from serving.deployment.deployment_records import DeployedArtifacts

    arms = {"control": Path(champion or control.path), "treatment": Path(challenger.path)}
    artifacts = DeployedArtifacts(
        dataset=dataset_uri,
        knowledge=knowledge_uri,
        item_embeddings=item_embeddings_uri,
        behavior_model=behavior_model_uri,
        features=features_uri,
        evaluation=evaluation_uri,
    )
    serving = ServingConfig.model_validate_json(config)
    counts = deploy_rankers(arms, serving, state=Path(workspace) / "serving", artifacts=artifacts)
    log_values(counts, metrics)
