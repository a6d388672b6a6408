"""The decide step: the rule on the reports, bounded by plan, cool-down and budget, and carried out."""

from pathlib import Path
from typing import NamedTuple

from components.experiment_decision import carry_out_decision, find_planned_test, take_served_plan
from components.retraining import judge_retraining, log_retraining_start
from contracts.artifacts import write_text
from monitoring.config import MonitoringConfig
from monitoring.decision_rule import decide_by_lift_and_drift


class Verdict(NamedTuple):
    """What a pipeline goes on by."""

    action: str
    """`hold`, `promote` or `rollback`."""
    retrain: bool
    """A training begins now."""


def decide_and_carry_out(
    drift: Path, lift: Path, config: MonitoringConfig, *, act: bool, train: bool, state: Path, out: Path
) -> Verdict:
    """Decides, writes the decision to `out`, and carries it out when told to.

    Args:
        drift: folder of the drift report.
        lift: folder of the lift report.
        config: monitoring's configuration.
        act: carry it out.
        train: the caller runs the training when it is due; it counts from now on.
        state: serving's folder.
        out: file of the decision.
    """
    reports = {"drift": drift / "drift.json", "lift": lift / "lift.json"}
    rule = take_served_plan(config, state=state)
    decision = decide_by_lift_and_drift(**reports, config=rule, plan=find_planned_test(state))
    decision = judge_retraining(decision, rule, state=state)
    write_text(out, decision.model_dump_json(indent=1))
    carry_out_decision(decision, rule, **reports, act=act, state=state)
    begins_training = act and train and decision.retrain_now
    if begins_training:
        log_retraining_start(state, decision)
    return Verdict(decision.action, begins_training)
