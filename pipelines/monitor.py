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
    workspace: str,
) -> Reports:
    """Collect, compare, decide, show.

    Args:
        monitoring_config: JSON of `MonitoringConfig`.
        event_log_config: JSON of `EventLogConfig`.
        act: carry the decision out; else it is only written down.
        workspace: folder (a mounted volume on a cluster) that outlives the steps.
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
    decide_task = decide(drift=drift, lift=lift, config=monitoring_config, act=act, workspace=workspace)
    disable_caching(mount_workspace(decide_task))
    decision = decide_task.outputs["decision"]
    publish_task = publish_dashboard(
        traffic=traffic, drift=drift, lift=lift, decision=decision, workspace=workspace
    )
    disable_caching(mount_workspace(publish_task))
    return Reports(drift, lift, decision, publish_task.outputs["dashboard"])
