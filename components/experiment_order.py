"""Glue of two rooms: carries an order for an experiment out (serving), by a metric that monitoring knows."""

from pathlib import Path

import polars as pl

from components.experiment_decision import decide_by_metric
from components.experiment_status import describe_status
from contracts.errors import UserError
from monitoring.config import MonitoringConfig
from serving.config import ServingConfig
from serving.experiments.experiment_order import ARTIFACT, ExperimentOrder
from serving.experiments.run_experiment import start_experiment, stop_experiment


def carry_out_order(
    order: ExperimentOrder,
    serving: ServingConfig,
    monitoring: MonitoringConfig,
    *,
    state: Path,
    artifact: Path | None = None,
    items: pl.DataFrame | None = None,
) -> str:
    """Starts, stops or describes an experiment.

    Args:
        order: what is asked.
        serving: serving's configuration.
        monitoring: monitoring's configuration.
        state: serving's folder.
        artifact: the ranker that `ARTIFACT` stands for in the order.
        items: the catalogue, for orders that came without a price.

    Returns:
        What came of it, in words.

    Raises:
        UserError: the order cannot be carried out; nothing has changed.
        RuntimeError: Triton answers the golden rows differently; the routes stay as they were.
    """
    if order.action == "status":
        repeats = serving.event_log.repeats
        return "\n".join(describe_status(monitoring, state=state, repeats=repeats, items=items))
    if order.action == "stop":
        record = stop_experiment(state=state, keep=order.keep, stopped_by=order.by, note=order.note)
        return f"stopped {record.experiment_id}: {record.outcome}"
    metric = order.deciding_metric or monitoring.primary_metric
    decide_by_metric(monitoring, metric)
    if order.is_aa and order.interleaving:
        raise UserError("--aa and --interleave are two tests; start one of them")
    record = start_experiment(
        _name_rankers(order, artifact),
        serving,
        state=state,
        shares=order.shares,
        planned_days=order.planned_days,
        planned_users=order.planned_users,
        deciding_metric=metric,
        started_by=order.by,
        is_aa=order.is_aa,
        interleaving=order.interleaving,
        note=order.note,
    )
    return f"started {record}"


def _name_rankers(order: ExperimentOrder, artifact: Path | None) -> dict[str, str]:
    if artifact is None:
        return order.rankers
    return {arm: str(artifact) if ranker == ARTIFACT else ranker for arm, ranker in order.rankers.items()}
