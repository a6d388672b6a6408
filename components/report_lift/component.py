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
    """Clicks, orders and GMV per user by arm, with intervals that one user cannot turn; never cached.

    Args:
        traffic: the collected traffic.
        config: JSON of `monitoring.config.MonitoringConfig`.
        workspace: folder that outlives the step; the Evidently workspace lies in it.
        lift: report (HTML) and figures (JSON).
        metrics: lifts.
    """
    from pathlib import Path

    from components.experiment_decision import take_served_plan
    from components.step_support import log_lineage
    from monitoring.config import MonitoringConfig
    from monitoring.lift.lift_report import report_lift as run

    tables = {
        name: Path(traffic.path) / f"{name}.parquet"
        for name in ("events", "history", "teams")
        if (Path(traffic.path) / f"{name}.parquet").is_file()
    }
    run(
        Path(traffic.path) / "exposures.parquet",
        Path(traffic.path) / "outcomes.parquet",
        take_served_plan(MonitoringConfig.model_validate_json(config), state=Path(workspace) / "serving"),
        workspace=Path(workspace) / "monitoring",
        out=Path(lift.path),
        **tables,
    )
    log_lineage(lift, metrics)
