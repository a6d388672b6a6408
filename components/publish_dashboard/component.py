"""Shows one run of the monitor pipeline to people."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def publish_dashboard(
    traffic: dsl.Input[dsl.Dataset],
    drift: dsl.Input[dsl.Artifact],
    lift: dsl.Input[dsl.Artifact],
    decision: dsl.Input[dsl.Artifact],
    workspace: str,
    dashboard: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Decision, lift, drift, quality and service by day, in Evidently's UI and as one page: never cached.

    Args:
        traffic: the collected traffic.
        drift: the drift report.
        lift: the lift report.
        decision: the decision with its reasons (JSON).
        workspace: folder that outlives the step; the Evidently workspace lies in it.
        dashboard: the page (HTML).
        metrics: days shown.
    """
    from pathlib import Path

    from components.step_support import log_lineage
    from monitoring.dashboard.publish_dashboard import publish_dashboard as run

    run(
        Path(traffic.path),
        Path(drift.path),
        Path(lift.path),
        Path(decision.path),
        workspace=Path(workspace) / "monitoring",
        out=Path(dashboard.path),
    )
    log_lineage(dashboard, metrics)
