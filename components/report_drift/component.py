"""Compares what rankers see and say now with what they were trained on."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def report_drift(
    traffic: dsl.Input[dsl.Dataset],
    config: str,
    workspace: str,
    drift: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Drift of features, item vectors and scores; the report goes to the dashboard too: never cached.

    Args:
        traffic: the collected traffic.
        config: JSON of `monitoring.config.MonitoringConfig`.
        workspace: folder that outlives the step; the Evidently workspace lies in it.
        drift: report (HTML) and figures (JSON).
        metrics: drifted columns.
    """
    from pathlib import Path

    from components.step_support import log_lineage
    from monitoring.config import MonitoringConfig
    from monitoring.drift.drift_report import report_drift as run

    run(
        Path(traffic.path) / "reference.parquet",
        Path(traffic.path) / "current.parquet",
        MonitoringConfig.model_validate_json(config),
        workspace=Path(workspace) / "monitoring",
        out=Path(drift.path),
    )
    log_lineage(drift, metrics)
