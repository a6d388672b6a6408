"""Glue of two rooms: what a running experiment has seen so far (serving), against its plan (monitoring)."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import polars as pl

from components.experiment_decision import describe_planned_test, take_served_plan
from contracts.artifacts import write_table
from contracts.events.event_repeats import RepeatRuleConfig
from contracts.events.order_prices import fill_order_prices
from contracts.tables import EVENTS, EXPOSURES, OUTCOMES
from monitoring.config import MonitoringConfig
from monitoring.decision_obstacles import is_complete, measure_hours
from monitoring.lift.lift_report import measure_lift
from serving.event_log.log_tables import read_events, read_exposures, read_outcomes, read_teams
from serving.experiments.experiment_record import ExperimentRecord


class MetricProgress(NamedTuple):
    """One metric so far. Not its lift: who looks at that before the time begins to choose the day."""

    metric: str
    control_value: float | None
    detectable: dict[str, float | None]
    """Arm -> the smallest relative lift that the test could see by now."""


class ExperimentProgress(NamedTuple):
    """How far an experiment is."""

    days: float
    users: dict[str, int]
    """Arm -> users."""
    intended: dict[str, float]
    """Arm -> users that its share would give."""
    sample_ratio_p: float
    is_mismatch: bool
    is_complete: bool
    """The planned days and users are there."""
    metrics: list[MetricProgress]
    interleaving: dict[str, Any] | None
    """What `measure_preference` tells; None where no page is shared."""


def measure_progress(
    record: ExperimentRecord,
    config: MonitoringConfig,
    *,
    state: Path,
    repeats: RepeatRuleConfig,
    items: pl.DataFrame | None = None,
) -> ExperimentProgress | None:
    """Progress of the running experiment; None while nobody has seen it.

    Args:
        record: the experiment.
        config: monitoring's configuration.
        state: serving's folder.
        repeats: which events are one event that was sent again.
        items: the catalogue, for orders that came without a price.
    """
    exposures = read_exposures(state / "events", only_drawn=True, experiment_id=record.experiment_id)
    if exposures.is_empty():
        return None
    outcomes = read_outcomes(state / "events", items=items, repeats=repeats)
    own_outcomes = outcomes.join(exposures, on=["request_id", "item_id"], how="semi")
    with TemporaryDirectory(prefix="reaseq-status-") as folder:
        paths = Path(folder) / "exposures.parquet", Path(folder) / "outcomes.parquet"
        write_table(paths[0], EXPOSURES, exposures)
        write_table(paths[1], OUTCOMES, own_outcomes)
        events = Path(folder) / "events.parquet"
        done = read_events(state / "events", repeats)
        if items is not None:
            done = fill_order_prices(done, items).select(done.columns)
        write_table(events, EVENTS, done)
        teams = Path(folder) / "teams.parquet"
        read_teams(state / "events", experiment_id=record.experiment_id).write_parquet(teams)
        _, results = measure_lift(
            *paths,
            take_served_plan(config, state=state),
            events=events,
            teams=teams if record.interleaving else None,
        )
    plan = describe_planned_test(record)
    split = results["srm"]
    return ExperimentProgress(
        days=(measure_hours(results) or 0.0) / 24,
        users=split["users"],
        intended=split["intended"],
        sample_ratio_p=split["p_value"],
        is_mismatch=split["mismatch"],
        is_complete=is_complete(results, plan),
        metrics=_list_metrics(results),
        interleaving=results.get("interleaving"),
    )


def _list_metrics(results: dict[str, Any]) -> list[MetricProgress]:
    rows = results["rows"]
    control = results["control"]
    measured = dict.fromkeys(row["metric"] for row in rows if row["is_measured"])
    return [
        MetricProgress(
            metric,
            next(row["value"]["value"] for row in rows if (row["arm"], row["metric"]) == (control, metric)),
            {
                row["arm"]: row["detectable"]
                for row in rows
                if row["metric"] == metric and row["arm"] != control
            },
        )
        for metric in measured
    ]
