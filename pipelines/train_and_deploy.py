"""The main pipeline: from a catalogue and a log to a ranker in service."""

from typing import NamedTuple

from kfp import dsl

from components.build_features.component import build_features
from components.build_training_set.component import build_training_set
from components.deploy_ranker.component import deploy_ranker
from components.distill_knowledge.component import distill_knowledge
from components.embed_items.component import embed_items
from components.evaluate_ranker.component import evaluate_ranker
from components.find_champion.component import find_champion
from components.ingest.component import ingest
from components.materialize_features.component import materialize_features
from components.train_behavior_model.component import train_behavior_model
from components.train_ranker.component import train_ranker
from pipelines.shards import distill_in_shards, infer_in_shards
from pipelines.steps import side_effect, with_secrets, with_workspace


class Artifacts(NamedTuple):
    """The artifacts that a run hands out."""

    dataset: dsl.Dataset
    knowledge: dsl.Dataset
    item_embeddings: dsl.Dataset
    behavior_model: dsl.Model
    inferred_behaviors: dsl.Dataset
    features: dsl.Dataset
    training_set: dsl.Dataset
    baseline: dsl.Model
    challenger: dsl.Model
    evaluation: dsl.Artifact


@dsl.pipeline(name="train-and-deploy", description="From a product catalogue and a behaviour log to a served ranker.")
def train_and_deploy(
    data_config: str,
    data_digest: str,
    knowledge_config: str,
    knowledge_shards: list[str],
    embedding_config: str,
    behavior_config: str,
    user_shards: list[str],
    feature_config: str,
    list_config: str,
    ranker_config: str,
    baseline_config: str,
    evaluation_config: str,
    serving_config: str,
    workspace: str,
    code_version: str,
    deploy: bool,
) -> Artifacts:
    """Ingest, distil, embed, infer, train, evaluate; materialize and deploy what the gate lets pass.

    Args:
        data_config: JSON of `DataConfig`; the other `*_config` likewise, each of its room.
        data_digest: digest of the user's files, so that the cache knows when they changed.
        knowledge_config: see `data_config`.
        knowledge_shards: the parts in which the catalogue is distilled at once: ["0/2", "1/2"].
        embedding_config: see `data_config`.
        behavior_config: see `data_config`.
        user_shards: the parts in which the users' behaviours are inferred at once: ["0/2", "1/2"].
        feature_config: see `data_config`.
        list_config: see `data_config`.
        ranker_config: see `data_config`.
        baseline_config: the ranker's configuration with every enhancement off (ids only).
        evaluation_config: see `data_config`.
        serving_config: see `data_config`.
        workspace: folder (a mounted volume on a cluster) that outlives the steps.
        code_version: version of the library.
        deploy: put the ranker into service when the gate lets it pass.
    """
    ingested = with_workspace(ingest(config=data_config, data_digest=data_digest, code_version=code_version))
    data = ingested.outputs["dataset"]
    knowledge = distill_in_shards(
        distill_knowledge,
        dataset=data,
        config=knowledge_config,
        shards=knowledge_shards,
        workspace=workspace,
        code_version=code_version,
    )
    embedding = with_workspace(
        embed_items(
            dataset=data, knowledge=knowledge, config=embedding_config, workspace=workspace, code_version=code_version
        )
    )
    embedded = embedding.outputs["item_embeddings"]
    behavior = with_workspace(
        train_behavior_model(
            dataset=data,
            item_embeddings=embedded,
            knowledge=knowledge,
            config=behavior_config,
            workspace=workspace,
            code_version=code_version,
        )
    )
    inferred = infer_in_shards(
        dataset=data,
        item_embeddings=embedded,
        behavior_model=behavior.outputs["behavior_model"],
        config=behavior_config,
        shards=user_shards,
        workspace=workspace,
        code_version=code_version,
    )
    features = build_features(
        dataset=data,
        item_embeddings=embedded,
        inferred_behaviors=inferred,
        config=feature_config,
        code_version=code_version,
    ).outputs["features"]
    rows = build_training_set(
        dataset=data,
        features=features,
        list_config=list_config,
        feature_config=feature_config,
        code_version=code_version,
    ).outputs["training_set"]
    rankers = {}
    for role, config in {"baseline": baseline_config, "challenger": ranker_config}.items():
        task = with_workspace(
            train_ranker(
                training_set=rows,
                dataset=data,
                item_embeddings=embedded,
                config=config,
                workspace=workspace,
                code_version=code_version,
            )
        )
        task.set_display_name(f"train-ranker: {role}")
        rankers[role] = task.outputs["ranker"]
    champion = side_effect(with_workspace(find_champion(workspace=workspace))).output
    gate = evaluate_ranker(
        challenger=rankers["challenger"],
        baseline=rankers["baseline"],
        training_set=rows,
        dataset=data,
        item_embeddings=embedded,
        config=evaluation_config,
        champion=champion,
        code_version=code_version,
    )
    with_workspace(gate)  # the champion's folder lies there
    with dsl.If(deploy == True, name="deploy"), dsl.If(gate.outputs["promote"] == True, name="promoted"):  # noqa: E712
        written = materialize_features(features=features, config=feature_config, workspace=workspace)
        materialized = side_effect(with_secrets(with_workspace(written)))
        deployed = deploy_ranker(
            challenger=rankers["challenger"],
            control=rankers["baseline"],
            champion=champion,
            config=serving_config,
            workspace=workspace,
        )
        side_effect(with_secrets(with_workspace(deployed))).after(materialized)
    return Artifacts(
        dataset=data,
        knowledge=knowledge,
        item_embeddings=embedded,
        behavior_model=behavior.outputs["behavior_model"],
        inferred_behaviors=inferred,
        features=features,
        training_set=rows,
        baseline=rankers["baseline"],
        challenger=rankers["challenger"],
        evaluation=gate.outputs["evaluation"],
    )
