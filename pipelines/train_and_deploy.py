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
from components.materialize_features.component import materialize_features
from components.train_behavior_model.component import train_behavior_model
from components.train_ranker.component import train_ranker
from pipelines.data_steps import collect_and_ingest
from pipelines.sharded_steps import distill_in_shards, infer_in_shards
from pipelines.step_settings import disable_caching, mount_workspace, pass_secrets


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


@dsl.pipeline(
    name="train-and-deploy", description="From a product catalogue and a behavior log to a served ranker."
)
def train_and_deploy(
    data_config: str,
    served_log_config: str,
    event_log_config: str,
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
    """Collect, ingest, distill, embed, infer, train, evaluate; materialize and deploy what passes the gate.

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
        list_config: see `data_config`.
        ranker_config: see `data_config`.
        baseline_config: the ranker's configuration without what a language model knows: a strong control.
        evaluation_config: see `data_config`.
        serving_config: see `data_config`.
        workspace: folder (a mounted volume on a cluster) that outlives the steps.
        code_version: version of the library.
        deploy: put the ranker into service when the gate lets it pass.
    """
    step_arguments = {"workspace": workspace, "code_version": code_version}
    dataset, dataset_uri = collect_and_ingest(
        data_config=data_config,
        served_log_config=served_log_config,
        event_log_config=event_log_config,
        workspace=workspace,
        code_version=code_version,
    )
    knowledge, knowledge_uri = distill_in_shards(
        distill_knowledge,
        dataset=dataset,
        config=knowledge_config,
        shards=knowledge_shards,
        **step_arguments,
    )
    embed_task = embed_items(dataset=dataset, knowledge=knowledge, config=embedding_config, **step_arguments)
    item_embeddings = mount_workspace(embed_task).outputs["item_embeddings"]
    behavior_task = train_behavior_model(
        dataset=dataset,
        item_embeddings=item_embeddings,
        knowledge=knowledge,
        config=behavior_config,
        **step_arguments,
    )
    behavior_model = mount_workspace(behavior_task).outputs["behavior_model"]
    inferred_behaviors = infer_in_shards(
        dataset=dataset,
        item_embeddings=item_embeddings,
        behavior_model=behavior_model,
        config=behavior_config,
        shards=user_shards,
        **step_arguments,
    )
    features_task = build_features(
        dataset=dataset,
        item_embeddings=item_embeddings,
        inferred_behaviors=inferred_behaviors,
        config=feature_config,
        code_version=code_version,
    )
    features = features_task.outputs["features"]
    training_set = build_training_set(
        dataset=dataset,
        features=features,
        item_embeddings=item_embeddings,
        list_config=list_config,
        feature_config=feature_config,
        code_version=code_version,
    ).outputs["training_set"]
    ranker_inputs = {"training_set": training_set, "dataset": dataset, "item_embeddings": item_embeddings}
    rankers = {}
    for role, config in {"baseline": baseline_config, "challenger": ranker_config}.items():
        ranker_task = mount_workspace(train_ranker(config=config, **ranker_inputs, **step_arguments))
        ranker_task.set_display_name(f"train-ranker: {role}")
        rankers[role] = ranker_task.outputs["ranker"]
    champion = disable_caching(mount_workspace(find_champion(workspace=workspace))).output
    gate_task = evaluate_ranker(
        **rankers,
        **ranker_inputs,
        config=evaluation_config,
        champion=champion,
        code_version=code_version,
    )
    mount_workspace(gate_task)  # the champion's folder lies there
    is_promoted = gate_task.outputs["promote"]
    with dsl.If(deploy == True, name="deploy"), dsl.If(is_promoted == True, name="promoted"):  # noqa: E712
        store_task = materialize_features(
            features=features, config=feature_config, deployment="", workspace=workspace
        )
        disable_caching(pass_secrets(mount_workspace(store_task)))
        deploy_task = deploy_ranker(
            challenger=rankers["challenger"],
            control=rankers["baseline"],
            champion=champion,
            config=serving_config,
            dataset_uri=dataset_uri,
            knowledge_uri=knowledge_uri,
            item_embeddings_uri=embed_task.outputs["Output"],
            behavior_model_uri=behavior_task.outputs["Output"],
            features_uri=features_task.outputs["Output"],
            evaluation_uri=gate_task.outputs["evaluation_uri"],
            workspace=workspace,
        )
        disable_caching(pass_secrets(mount_workspace(deploy_task))).after(store_task)
    return Artifacts(
        dataset=dataset,
        knowledge=knowledge,
        item_embeddings=item_embeddings,
        behavior_model=behavior_model,
        inferred_behaviors=inferred_behaviors,
        features=features,
        training_set=training_set,
        **rankers,
        evaluation=gate_task.outputs["evaluation"],
    )
