"""The watching pipeline: what was served, has it drifted, which arm is better, and what follows from it."""

from typing import NamedTuple

from kfp import dsl

from components.collect_traffic.component import collect_traffic
from components.decide.component import decide
from components.publish_dashboard.component import publish_dashboard
from components.report_drift.component import report_drift
from components.report_lift.component import report_lift
from pipelines.data_steps import find_what_is_deployed
from pipelines.step_settings import disable_caching, import_artifact, mount_workspace
from pipelines.train_and_deploy import train_and_deploy


class Reports(NamedTuple):
    """The artifacts that a run hands out."""

    drift: dsl.Artifact
    lift: dsl.Artifact
    decision: dsl.Artifact
    dashboard: dsl.Artifact


@dsl.pipeline(name="monitor", description="Drift and lift of what is in service; hold, promote or roll back.")
def monitor(
    monitoring_config: str,
    event_log_config: str,
    act: bool,
    train: bool,
    workspace: str,
    data_config: str,
    served_log_config: str,
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
    code_version: str,
) -> Reports:
    """Collect, compare, decide, show; train anew where that is due.

    Args:
        monitoring_config: JSON of `MonitoringConfig`.
        event_log_config: JSON of `EventLogConfig`.
        act: carry the decision out; else it is only written down.
        train: with `act`, run `train_and_deploy` within this run when drift makes it due.
        workspace: folder (a mounted volume on a cluster) that outlives the steps.
        data_config: of `train_and_deploy`, as all that follow.
        served_log_config: see `data_config`.
        knowledge_config: see `data_config`.
        knowledge_shards: see `data_config`.
        embedding_config: see `data_config`.
        behavior_config: see `data_config`.
        user_shards: see `data_config`.
        feature_config: see `data_config`.
        list_config: see `data_config`.
        ranker_config: see `data_config`.
        baseline_config: see `data_config`.
        evaluation_config: see `data_config`.
        serving_config: see `data_config`.
        code_version: see `data_config`.
    """
    deployed = find_what_is_deployed(workspace)
    dataset, item_embeddings, features, evaluation = (
        import_artifact(deployed[f"{name}_uri"])
        for name in ("dataset", "item_embeddings", "features", "evaluation")
    )
    collect_task = collect_traffic(
        items=dataset,
        item_embeddings=item_embeddings,
        features=features,
        evaluation=evaluation,
        config=monitoring_config,
        event_log_config=event_log_config,
        workspace=workspace,
    )
    traffic = disable_caching(mount_workspace(collect_task)).outputs["traffic"]
    report_arguments = {"traffic": traffic, "config": monitoring_config, "workspace": workspace}
    drift_task = disable_caching(mount_workspace(report_drift(**report_arguments)))
    # Both write to one dashboard: one after the other.
    lift_task = disable_caching(mount_workspace(report_lift(**report_arguments))).after(drift_task)
    drift, lift = drift_task.outputs["drift"], lift_task.outputs["lift"]
    decide_task = decide(
        drift=drift, lift=lift, config=monitoring_config, act=act, train=train, workspace=workspace
    )
    disable_caching(mount_workspace(decide_task))
    decision = decide_task.outputs["decision"]
    publish_task = publish_dashboard(
        traffic=traffic, drift=drift, lift=lift, decision=decision, workspace=workspace
    )
    disable_caching(mount_workspace(publish_task))
    with (
        dsl.If(train == True, name="train"),  # noqa: E712
        dsl.If(decide_task.outputs["retrain"] == True, name="retrain"),  # noqa: E712
    ):
        # Within the run, and not as another one: that would need a key to the Pipelines API in a step.
        train_and_deploy(
            data_config=data_config,
            served_log_config=served_log_config,
            event_log_config=event_log_config,
            knowledge_config=knowledge_config,
            knowledge_shards=knowledge_shards,
            embedding_config=embedding_config,
            behavior_config=behavior_config,
            user_shards=user_shards,
            feature_config=feature_config,
            list_config=list_config,
            ranker_config=ranker_config,
            baseline_config=baseline_config,
            evaluation_config=evaluation_config,
            serving_config=serving_config,
            workspace=workspace,
            code_version=code_version,
            deploy=True,
        ).after(publish_task)
    return Reports(drift, lift, decision, publish_task.outputs["dashboard"])
