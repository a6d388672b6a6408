"""When drift may start a training: not too soon after the last one, not too often, not into an experiment.

The audit log says when trainings were started, so the bounds hold over runs, machines and schedules.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from monitoring.config import MonitoringConfig
from monitoring.decision_rule import Decision
from serving.experiments.audit_log import append_audit_line, read_audit_lines
from serving.experiments.experiment_record import read_running_record

STARTED: Final = "retraining_started"
ENDED: Final = "retraining_ended"


def judge_retraining(
    decision: Decision, config: MonitoringConfig, *, state: Path, now: datetime | None = None
) -> Decision:
    """The decision with whether the training that it advises is due now, and why not.

    Args:
        decision: what was decided; without drift it comes back as it is.
        config: monitoring's configuration: cool-down and budget.
        state: serving's folder, with the audit log.
        now: the moment; the clock's by default.
    """
    if not decision.retrain:
        return decision
    obstacle = _find_obstacle(decision, config, state, now or datetime.now(UTC))
    if obstacle is None:
        return decision.model_copy(update={"retrain_now": decision.may_act})
    return decision.model_copy(update={"reasons": [*decision.reasons, f"Retraining waits: {obstacle}"]})


def log_retraining_start(state: Path, decision: Decision) -> None:
    """Writes down that a training begins; it counts whatever becomes of it."""
    append_audit_line(state, {"event": STARTED, "reasons": decision.reasons})


def log_retraining_end(state: Path, outcome: str) -> None:
    """Writes down what became of a training."""
    append_audit_line(state, {"event": ENDED, "outcome": outcome})


def _find_obstacle(decision: Decision, config: MonitoringConfig, state: Path, now: datetime) -> str | None:
    record = read_running_record(state)
    # What ends the experiment now makes room for the next one.
    if record is not None and decision.action == "hold":
        return f"experiment {record.experiment_id} runs, and a deployment would end it before its time."
    starts = [
        datetime.fromisoformat(entry["time"])
        for entry in read_audit_lines(state)
        if entry.get("event") == STARTED
    ]
    rule = config.retraining
    if starts and now - max(starts) < timedelta(days=rule.cool_down_days):
        return (
            f"the last one began {(now - max(starts)) / timedelta(days=1):.1f} days ago, and "
            f"`monitoring.retraining.cool_down_days` is {rule.cool_down_days:g}."
        )
    recent = sum(now - start < timedelta(days=rule.budget_days) for start in starts)
    if recent >= rule.max_runs:
        return (
            f"{recent} began in the last {rule.budget_days:g} days, and "
            f"`monitoring.retraining.max_runs` is {rule.max_runs}. Does training mend this drift at all?"
        )
    return None
