"""The daily pipelines: what models in service read is made new, the models stay.

Both end in the online store and keep the embedding space, so the ranker in service goes on without a switch.
"""

from typing import Any, NamedTuple

from kfp import dsl

from components.build_features.component import build_features
from components.distill_changed_items.component import distill_changed_items
from components.embed_new_items.component import embed_new_items
from components.materialize_features.component import materialize_features
from pipelines.data_steps import collect_and_ingest
from pipelines.sharded_steps import distill_in_shards, infer_in_shards
from pipelines.step_settings import disable_caching, mount_workspace, pass_secrets


class Users(NamedTuple):
    """What `refresh_users` hands out."""

    dataset: dsl.Dataset
    features: dsl.Dataset


class Catalogue(NamedTuple):
    """What `refresh_catalogue` hands out; the next refresh goes on from it."""

    dataset: dsl.Dataset
    knowledge: dsl.Dataset
    item_embeddings: dsl.Dataset
    features: dsl.Dataset


# Above the pipelines: kfp calls a pipeline function already where it is decorated.
def _infer_and_materialize(
    dataset: Any,
    item_embeddings: Any,
    *,
    behavior_model_uri: str,
    behavior_config: str,
    user_shards: list[str],
    feature_config: str,
    workspace: str,
    code_version: str,
) -> Any:
    """The new feature tables, which the online store then holds."""
    inferred_behaviors = infer_in_shards(
        dataset=dataset,
        item_embeddings=item_embeddings,
        behavior_model=_import_artifact(behavior_model_uri, dsl.Model),
        config=behavior_config,
        shards=user_shards,
        workspace=workspace,
        code_version=code_version,
    )
    features = build_features(
        dataset=dataset,
        item_embeddings=item_embeddings,
        inferred_behaviors=inferred_behaviors,
        config=feature_config,
        code_version=code_version,
    ).outputs["features"]
    store_task = materialize_features(features=features, config=feature_config, workspace=workspace)
    disable_caching(pass_secrets(mount_workspace(store_task)))
    return features


def _import_artifact(uri: str, artifact_class: type[dsl.Artifact] = dsl.Dataset) -> Any:
    return dsl.importer(artifact_uri=uri, artifact_class=artifact_class, reimport=False).output


@dsl.pipeline(
    name="refresh-users", description="Infers every user's behaviors anew and refreshes the feature store."
)
def refresh_users(
    item_embeddings_uri: str,
    behavior_model_uri: str,
    data_config: str,
    data_digest: str,
    served_log_config: str,
    event_log_config: str,
    behavior_config: str,
    user_shards: list[str],
    feature_config: str,
    workspace: str,
    code_version: str,
) -> Users:
    """Collect, ingest, infer, materialize.

    Args:
        item_embeddings_uri: item embeddings of the run that was deployed.
        behavior_model_uri: behavior model of that run.
        data_config: JSON of `DataConfig`; the other `*_config` likewise, each of its room.
        data_digest: digest of the user's files.
        served_log_config: see `data_config`.
        event_log_config: see `data_config`.
        behavior_config: see `data_config`.
        user_shards: the parts in which the users' behaviors are inferred at once: ["0/2", "1/2"].
        feature_config: see `data_config`.
        workspace: folder (a mounted volume on a cluster) that outlives the steps.
        code_version: version of the library.
    """
    dataset = collect_and_ingest(
        data_config=data_config,
        data_digest=data_digest,
        served_log_config=served_log_config,
        event_log_config=event_log_config,
        workspace=workspace,
        code_version=code_version,
    )
    features = _infer_and_materialize(
        dataset,
        _import_artifact(item_embeddings_uri),
        behavior_model_uri=behavior_model_uri,
        behavior_config=behavior_config,
        user_shards=user_shards,
        feature_config=feature_config,
        workspace=workspace,
        code_version=code_version,
    )
    return Users(dataset=dataset, features=features)


@dsl.pipeline(
    name="refresh-catalogue", description="Distils and embeds new and changed items; refreshes the store."
)
def refresh_catalogue(
    knowledge_uri: str,
    item_embeddings_uri: str,
    behavior_model_uri: str,
    data_config: str,
    data_digest: str,
    served_log_config: str,
    event_log_config: str,
    knowledge_config: str,
    knowledge_shards: list[str],
    embedding_config: str,
    behavior_config: str,
    user_shards: list[str],
    feature_config: str,
    workspace: str,
    code_version: str,
) -> Catalogue:
    """Collect, ingest, distill new and changed items, embed in the space in service, infer, materialize.

    Args:
        knowledge_uri: knowledge of the run that was deployed, or of the refresh after it.
        item_embeddings_uri: item embeddings of the run that was deployed; its space is kept.
        behavior_model_uri: behavior model of that run.
        data_config: JSON of `DataConfig`; the other `*_config` likewise, each of its room.
        data_digest: digest of the user's files.
        served_log_config: see `data_config`.
        event_log_config: see `data_config`.
        knowledge_config: see `data_config`.
        knowledge_shards: the parts in which the catalogue is distilled at once: ["0/2", "1/2"].
        embedding_config: see `data_config`.
        behavior_config: see `data_config`.
        user_shards: the parts in which the users' behaviors are inferred at once: ["0/2", "1/2"].
        feature_config: see `data_config`.
        workspace: folder (a mounted volume on a cluster) that outlives the steps.
        code_version: version of the library.
    """
    step_arguments = {"workspace": workspace, "code_version": code_version}
    dataset = collect_and_ingest(
        data_config=data_config,
        data_digest=data_digest,
        served_log_config=served_log_config,
        event_log_config=event_log_config,
        workspace=workspace,
        code_version=code_version,
    )
    knowledge = distill_in_shards(
        distill_changed_items,
        dataset=dataset,
        config=knowledge_config,
        shards=knowledge_shards,
        previous=_import_artifact(knowledge_uri),
        **step_arguments,
    )
    embed_task = embed_new_items(
        dataset=dataset,
        knowledge=knowledge,
        space=_import_artifact(item_embeddings_uri),
        config=embedding_config,
        **step_arguments,
    )
    item_embeddings = mount_workspace(embed_task).outputs["item_embeddings"]
    features = _infer_and_materialize(
        dataset,
        item_embeddings,
        behavior_model_uri=behavior_model_uri,
        behavior_config=behavior_config,
        user_shards=user_shards,
        feature_config=feature_config,
        **step_arguments,
    )
    return Catalogue(dataset=dataset, knowledge=knowledge, item_embeddings=item_embeddings, features=features)
