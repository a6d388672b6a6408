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
) -> None:
    """Writes the tables that Feast reads: items, user behaviours after every event, inferred behaviours.

    Args:
        dataset: the dataset artifact.
        item_embeddings: the item embeddings.
        inferred_behaviors: the inferred behaviours.
        config: JSON of `feature_repo.config.FeatureConfig`.
        code_version: version of the library; part of the cache key.
        features: offline feature tables.
        metrics: row counts.
    """
    from pathlib import Path

    from components.support import log_lineage
    from feature_repo.build import build_features as run
    from feature_repo.config import FeatureConfig

    run(
        Path(dataset.path),
        Path(item_embeddings.path),
        Path(inferred_behaviors.path),
        FeatureConfig.model_validate_json(config),
        out=Path(features.path),
    )
    log_lineage(features, metrics)
