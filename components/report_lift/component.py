"""Compares the experiment's arms."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def report_lift(
    traffic: dsl.Input[dsl.Dataset],
    config: str,
    workspace: str,
    lift: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """CTR, orders and GMV per user by arm, with intervals and a sample-ratio check; never cached.

    Args:
        traffic: the collected traffic.
        config: JSON of `monitoring.config.MonitoringConfig`.
        workspace: folder that outlives the step; the Evidently workspace lies in it.
        lift: report (HTML) and figures (JSON).
        metrics: lifts.
    """
    from pathlib import Path

    from components.support import log_lineage
    from monitoring.config import MonitoringConfig
    from monitoring.lift import report_lift as run

    run(
        Path(traffic.path) / "exposures.parquet",
        Path(traffic.path) / "outcomes.parquet",
        MonitoringConfig.model_validate_json(config),
        workspace=Path(workspace) / "monitoring",
        out=Path(lift.path),
    )
    log_lineage(lift, metrics)
