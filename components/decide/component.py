"""Decides what becomes of the experiment."""

from kfp import dsl

from components.images import MAIN_IMAGE


@dsl.component(base_image=MAIN_IMAGE, install_kfp_package=False)
def decide(
    drift: dsl.Input[dsl.Artifact],
    lift: dsl.Input[dsl.Artifact],
    config: str,
    act: bool,
    workspace: str,
    decision: dsl.Output[dsl.Artifact],
) -> str:
    """Hold, promote or roll back, with reasons; carries it out when told to. Never cached.

    Args:
        drift: the drift report.
        lift: the lift report.
        config: JSON of `monitoring.config.MonitoringConfig`.
        act: carry the decision out; else it is only written down.
        workspace: folder that outlives the step; the routes lie in it.
        decision: the decision with its reasons (JSON).

    Returns:
        `hold`, `promote` or `rollback`.
    """
    from pathlib import Path

    from components.experiment_decision import carry_out_decision, find_planned_test, take_served_plan
    from contracts.artifacts import write_text
    from monitoring.config import MonitoringConfig
    from monitoring.decision_rule import decide_by_lift_and_drift as run

    reports = {"drift": Path(drift.path) / "drift.json", "lift": Path(lift.path) / "lift.json"}
    state = Path(workspace) / "serving"
    rule = take_served_plan(MonitoringConfig.model_validate_json(config), state=state)
    verdict = run(reports["drift"], reports["lift"], rule, plan=find_planned_test(state))
    write_text(Path(decision.path), verdict.model_dump_json(indent=1))
    carry_out_decision(verdict, rule, **reports, act=act, state=state)
    return str(verdict.action)
