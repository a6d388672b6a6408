"""Builds the offline feature tables."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def build_features(
    dataset: dsl.Input[dsl.Dataset],
    item_embeddings: dsl.Input[dsl.Dataset],
    inferred_behaviors: dsl.Input[dsl.Dataset],
    config: str,
    code_version: str,
    features: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> str:
    """Writes the tables that Feast reads: items, user behaviors after every event, inferred behaviors.

    Args:
        dataset: the dataset artifact.
        item_embeddings: the item embeddings.
        inferred_behaviors: the inferred behaviors.
        config: JSON of `feature_repo.config.FeatureStoreConfig`.
        code_version: version of the library; part of the cache key.
        features: offline feature tables.
        metrics: row counts.

    Returns:
        Address of the artifact `features`, for the record of the deployment.
    """
    from pathlib import Path

    from components.step_support import log_lineage
    from feature_repo.config import FeatureStoreConfig
    from feature_repo.offline.build_features import build_features as run

    run(
        Path(dataset.path),
        Path(item_embeddings.path),
        Path(inferred_behaviors.path),
        FeatureStoreConfig.model_validate_json(config),
        out=Path(features.path),
    )
    log_lineage(features, metrics)
    return str(features.uri)
