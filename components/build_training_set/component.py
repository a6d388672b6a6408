"""Makes the ranking lists and joins to each the features of its own time."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def build_training_set(
    dataset: dsl.Input[dsl.Dataset],
    features: dsl.Input[dsl.Dataset],
    item_embeddings: dsl.Input[dsl.Dataset],
    list_config: str,
    feature_config: str,
    code_version: str,
    lists: dsl.Output[dsl.Dataset],
    training_set: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Builds train, validation and test lists, then joins user features point-in-time through Feast.

    Args:
        dataset: the dataset artifact.
        features: the offline feature tables.
        item_embeddings: the item embeddings, in whose space queries and pages are placed.
        list_config: JSON of `models.ranker.config.ListConfig`.
        feature_config: JSON of `feature_repo.config.FeatureStoreConfig`.
        code_version: version of the library; part of the cache key.
        lists: the ranking lists.
        training_set: the lists with their features.
        metrics: row counts.
    """
    from functools import partial
    from pathlib import Path

    from components.step_support import log_lineage
    from feature_repo.config import FeatureStoreConfig
    from feature_repo.offline.point_in_time_join import join_features
    from models.knowledge.embedding.embed_queries import embed_queries
    from models.ranker.config import ListConfig
    from models.ranker.lists.build_lists import build_lists

    build_lists(Path(dataset.path), ListConfig.model_validate_json(list_config), out=Path(lists.path))
    join_features(
        Path(lists.path),
        Path(features.path),
        FeatureStoreConfig.model_validate_json(feature_config),
        out=Path(training_set.path),
        embed_texts=partial(embed_queries, Path(item_embeddings.path)),
    )
    log_lineage(training_set, metrics)
