"""The daily pipelines: what models in service read is made new, the models stay.

Both end in the online store and keep the embedding space, so the ranker in service goes on without a switch.
Each run asks anew what is in service, and what state the data is in: a schedule pins neither.
"""

from typing import Any, NamedTuple

from kfp import dsl

from components.build_features.component import build_features
from components.distill_changed_items.component import distill_changed_items
from components.embed_new_items.component import embed_new_items
from components.materialize_features.component import materialize_features
from components.record_refresh.component import record_refresh
from pipelines.data_steps import collect_and_ingest, find_what_is_deployed
from pipelines.sharded_steps import distill_in_shards, infer_in_shards
from pipelines.step_settings import disable_caching, import_artifact, mount_workspace, pass_secrets


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


class RefreshedFeatures(NamedTuple):
    """The new feature tables, their address, and the task after which the online store holds them."""

    features: Any
    uri: Any
    store_task: dsl.PipelineTask


# Above the pipelines: kfp calls a pipeline function already where it is decorated.
def _infer_and_materialize(
    dataset: Any,
    item_embeddings: Any,
    *,
    deployed: dict[str, Any],
    behavior_config: str,
    user_shards: list[str],
    feature_config: str,
    workspace: str,
    code_version: str,
) -> RefreshedFeatures:
    inferred_behaviors = infer_in_shards(
        dataset=dataset,
        item_embeddings=item_embeddings,
        behavior_model=import_artifact(deployed["behavior_model_uri"], dsl.Model),
        config=behavior_config,
        shards=user_shards,
        workspace=workspace,
        code_version=code_version,
    )
    features_task = build_features(
        dataset=dataset,
        item_embeddings=item_embeddings,
        inferred_behaviors=inferred_behaviors,
        config=feature_config,
        code_version=code_version,
    )
    store_task = materialize_features(
        features=features_task.outputs["features"],
        config=feature_config,
        deployment=deployed["deployment"],
        workspace=workspace,
    )
    disable_caching(pass_secrets(mount_workspace(store_task)))
    return RefreshedFeatures(features_task.outputs["features"], features_task.outputs["Output"], store_task)


@dsl.pipeline(
    name="refresh-users", description="Infers every user's behaviors anew and refreshes the feature store."
)
def refresh_users(
    data_config: str,
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
        data_config: JSON of `DataConfig`; the other `*_config` likewise, each of its room.
        served_log_config: see `data_config`.
        event_log_config: see `data_config`.
        behavior_config: see `data_config`.
        user_shards: the parts in which the users' behaviors are inferred at once: ["0/2", "1/2"].
        feature_config: see `data_config`.
        workspace: folder (a mounted volume on a cluster) that outlives the steps.
        code_version: version of the library.
    """
    dataset, dataset_uri = collect_and_ingest(
        data_config=data_config,
        served_log_config=served_log_config,
        event_log_config=event_log_config,
        workspace=workspace,
        code_version=code_version,
    )
    deployed = find_what_is_deployed(workspace)
    refreshed = _infer_and_materialize(
        dataset,
        import_artifact(deployed["item_embeddings_uri"]),
        deployed=deployed,
        behavior_config=behavior_config,
        user_shards=user_shards,
        feature_config=feature_config,
        workspace=workspace,
        code_version=code_version,
    )
    record_task = record_refresh(
        deployment=deployed["deployment"],
        dataset_uri=dataset_uri,
        features_uri=refreshed.uri,
        workspace=workspace,
    )
    disable_caching(mount_workspace(record_task)).after(refreshed.store_task)
    return Users(dataset=dataset, features=refreshed.features)


@dsl.pipeline(
    name="refresh-catalogue", description="Distils and embeds new and changed items; refreshes the store."
)
def refresh_catalogue(
    data_config: str,
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
        data_config: JSON of `DataConfig`; the other `*_config` likewise, each of its room.
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
    dataset, dataset_uri = collect_and_ingest(
        data_config=data_config,
        served_log_config=served_log_config,
        event_log_config=event_log_config,
        workspace=workspace,
        code_version=code_version,
    )
    deployed = find_what_is_deployed(workspace)
    knowledge, knowledge_uri = distill_in_shards(
        distill_changed_items,
        dataset=dataset,
        config=knowledge_config,
        shards=knowledge_shards,
        previous=import_artifact(deployed["deployed_knowledge_uri"]),
        **step_arguments,
    )
    embed_task = embed_new_items(
        dataset=dataset,
        knowledge=knowledge,
        space=import_artifact(deployed["deployed_embeddings_uri"]),
        config=embedding_config,
        **step_arguments,
    )
    item_embeddings = mount_workspace(embed_task).outputs["item_embeddings"]
    refreshed = _infer_and_materialize(
        dataset,
        item_embeddings,
        deployed=deployed,
        behavior_config=behavior_config,
        user_shards=user_shards,
        feature_config=feature_config,
        **step_arguments,
    )
    record_task = record_refresh(
        deployment=deployed["deployment"],
        dataset_uri=dataset_uri,
        features_uri=refreshed.uri,
        knowledge_uri=knowledge_uri,
        item_embeddings_uri=embed_task.outputs["Output"],
        workspace=workspace,
    )
    disable_caching(mount_workspace(record_task)).after(refreshed.store_task)
    return Catalogue(
        dataset=dataset,
        knowledge=knowledge,
        item_embeddings=item_embeddings,
        features=refreshed.features,
    )
