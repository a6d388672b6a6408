"""The daily pipelines: what models in service read is made new, the models stay.

Both end in the online store and keep the embedding space, so the ranker in service goes on without a switch.
"""

from typing import Any, NamedTuple

from kfp import dsl

from components.build_features.component import build_features
from components.distill_changed_items.component import distill_changed_items
from components.embed_new_items.component import embed_new_items
from components.ingest.component import ingest
from components.materialize_features.component import materialize_features
from pipelines.shards import distill_in_shards, infer_in_shards
from pipelines.steps import side_effect, with_secrets, with_workspace


class Users(NamedTuple):
    """What `refresh_users` hands out."""

    dataset: dsl.Dataset
    features: dsl.Dataset


class Catalogue(NamedTuple):
    """What `refresh_catalogue` hands out; the next refresh goes on from this knowledge and these embeddings."""

    dataset: dsl.Dataset
    knowledge: dsl.Dataset
    item_embeddings: dsl.Dataset
    features: dsl.Dataset


# Above the pipelines: kfp calls a pipeline function already where it is decorated.
def _infer_and_materialize(
    data: Any,
    item_embeddings: Any,
    behavior_model_uri: str,
    behavior_config: str,
    user_shards: list[str],
    feature_config: str,
    workspace: str,
    code_version: str,
) -> Any:
    model = dsl.importer(artifact_uri=behavior_model_uri, artifact_class=dsl.Model, reimport=False)
    inferred = infer_in_shards(
        dataset=data,
        item_embeddings=item_embeddings,
        behavior_model=model.output,
        config=behavior_config,
        shards=user_shards,
        workspace=workspace,
        code_version=code_version,
    )
    features = build_features(
        dataset=data,
        item_embeddings=item_embeddings,
        inferred_behaviors=inferred,
        config=feature_config,
        code_version=code_version,
    )
    made = features.outputs["features"]
    side_effect(
        with_secrets(with_workspace(materialize_features(features=made, config=feature_config, workspace=workspace)))
    )
    return made


@dsl.pipeline(name="refresh-users", description="Infers every user's behaviours anew and refreshes the feature store.")
def refresh_users(
    item_embeddings_uri: str,
    behavior_model_uri: str,
    data_config: str,
    data_digest: str,
    behavior_config: str,
    user_shards: list[str],
    feature_config: str,
    workspace: str,
    code_version: str,
) -> Users:
    """Ingest, infer, materialize.

    Args:
        item_embeddings_uri: item embeddings of the run that was deployed.
        behavior_model_uri: behaviour model of that run.
        data_config: JSON of `DataConfig`; the other `*_config` likewise, each of its room.
        data_digest: digest of the user's files.
        behavior_config: see `data_config`.
        user_shards: the parts in which the users' behaviours are inferred at once: ["0/2", "1/2"].
        feature_config: see `data_config`.
        workspace: folder (a mounted volume on a cluster) that outlives the steps.
        code_version: version of the library.
    """
    ingested = with_workspace(ingest(config=data_config, data_digest=data_digest, code_version=code_version))
    data = ingested.outputs["dataset"]
    embeddings = dsl.importer(artifact_uri=item_embeddings_uri, artifact_class=dsl.Dataset, reimport=False)
    features = _infer_and_materialize(
        data,
        embeddings.output,
        behavior_model_uri,
        behavior_config,
        user_shards,
        feature_config,
        workspace,
        code_version,
    )
    return Users(dataset=data, features=features)


@dsl.pipeline(name="refresh-catalogue", description="Distils and embeds new and changed items; refreshes the store.")
def refresh_catalogue(
    knowledge_uri: str,
    item_embeddings_uri: str,
    behavior_model_uri: str,
    data_config: str,
    data_digest: str,
    knowledge_config: str,
    knowledge_shards: list[str],
    embedding_config: str,
    behavior_config: str,
    user_shards: list[str],
    feature_config: str,
    workspace: str,
    code_version: str,
) -> Catalogue:
    """Ingest, distil (new and changed items only), embed in the space in service, infer, materialize.

    Args:
        knowledge_uri: knowledge of the run that was deployed, or of the refresh after it.
        item_embeddings_uri: item embeddings of the run that was deployed; its space is kept.
        behavior_model_uri: behaviour model of that run.
        data_config: JSON of `DataConfig`; the other `*_config` likewise, each of its room.
        data_digest: digest of the user's files.
        knowledge_config: see `data_config`.
        knowledge_shards: the parts in which the catalogue is distilled at once: ["0/2", "1/2"].
        embedding_config: see `data_config`.
        behavior_config: see `data_config`.
        user_shards: the parts in which the users' behaviours are inferred at once: ["0/2", "1/2"].
        feature_config: see `data_config`.
        workspace: folder (a mounted volume on a cluster) that outlives the steps.
        code_version: version of the library.
    """
    ingested = with_workspace(ingest(config=data_config, data_digest=data_digest, code_version=code_version))
    data = ingested.outputs["dataset"]
    previous = dsl.importer(artifact_uri=knowledge_uri, artifact_class=dsl.Dataset, reimport=False)
    knowledge = distill_in_shards(
        distill_changed_items,
        dataset=data,
        config=knowledge_config,
        shards=knowledge_shards,
        workspace=workspace,
        code_version=code_version,
        previous=previous.output,
    )
    space = dsl.importer(artifact_uri=item_embeddings_uri, artifact_class=dsl.Dataset, reimport=False)
    embedded = with_workspace(
        embed_new_items(
            dataset=data,
            knowledge=knowledge,
            space=space.output,
            config=embedding_config,
            workspace=workspace,
            code_version=code_version,
        )
    )
    item_embeddings = embedded.outputs["item_embeddings"]
    features = _infer_and_materialize(
        data, item_embeddings, behavior_model_uri, behavior_config, user_shards, feature_config, workspace, code_version
    )
    return Catalogue(dataset=data, knowledge=knowledge, item_embeddings=item_embeddings, features=features)
