"""Writes the latest feature values into the online store."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def materialize_features(
    features: dsl.Input[dsl.Dataset],
    config: str,
    deployment: str,
    workspace: str,
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Applies the Feast definitions and materializes; a side effect, never cached, safe to repeat.

    Args:
        features: the offline feature tables.
        config: JSON of `feature_repo.config.FeatureStoreConfig`.
        deployment: name of the deployment that the features are for; it must still be in service. Empty for
            one that is about to come.
        workspace: folder that outlives the step; the feature store's definition lies in it.
        metrics: rows written.
    """
    from pathlib import Path

    from components.step_support import log_values
    from feature_repo.config import FeatureStoreConfig
    from feature_repo.online.materialize_features import materialize_features as run
    from serving.deployment.deployment_records import require_in_service

    if deployment:
        require_in_service(deployment, state=Path(workspace) / "serving")
    store = Path(workspace) / "feature_store"
    log_values(run(Path(features.path), FeatureStoreConfig.model_validate_json(config), store=store), metrics)
