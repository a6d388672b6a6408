"""The watching pipeline: what was served, has it drifted, which arm is better, and what follows from it."""

from typing import NamedTuple

from kfp import dsl

from components.collect_traffic.component import collect_traffic
from components.decide.component import decide
from components.report_drift.component import report_drift
from components.report_lift.component import report_lift
from pipelines.steps import side_effect, with_workspace


class Reports(NamedTuple):
    """The artifacts that a run hands out."""

    drift: dsl.Artifact
    lift: dsl.Artifact
    decision: dsl.Artifact


@dsl.pipeline(name="monitor", description="Drift and lift of what is in service; hold, promote or roll back.")
def monitor(
    dataset_uri: str,
    item_embeddings_uri: str,
    features_uri: str,
    evaluation_uri: str,
    monitoring_config: str,
    act: bool,
    workspace: str,
) -> Reports:
    """Collect, compare, decide.

    Args:
        dataset_uri: dataset of the deployed run.
        item_embeddings_uri: item embeddings of that run.
        features_uri: offline feature tables of that run.
        evaluation_uri: evaluation of that run.
        monitoring_config: JSON of `MonitoringConfig`.
        act: carry the decision out; else it is only written down.
        workspace: folder (a mounted volume on a cluster) that outlives the steps.
    """
    uris = (dataset_uri, item_embeddings_uri, features_uri, evaluation_uri)
    dataset, item_embeddings, features, evaluation = (
        dsl.importer(artifact_uri=uri, artifact_class=dsl.Dataset, reimport=False).output for uri in uris
    )
    collected = collect_traffic(
        items=dataset,
        item_embeddings=item_embeddings,
        features=features,
        evaluation=evaluation,
        config=monitoring_config,
        workspace=workspace,
    )
    traffic = side_effect(with_workspace(collected)).outputs["traffic"]
    reports = {"traffic": traffic, "config": monitoring_config, "workspace": workspace}
    drift = side_effect(with_workspace(report_drift(**reports)))
    # Both write to one dashboard: one after the other.
    lift = side_effect(with_workspace(report_lift(**reports))).after(drift)
    decision = decide(
        drift=drift.outputs["drift"],
        lift=lift.outputs["lift"],
        config=monitoring_config,
        act=act,
        workspace=workspace,
    )
    side_effect(with_workspace(decision))
    return Reports(drift.outputs["drift"], lift.outputs["lift"], decision.outputs["decision"])
