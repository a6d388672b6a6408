"""Glue of two rooms: serving says what shares it draws by, monitoring's decision changes what it serves."""

import json
from pathlib import Path

from pydantic import ValidationError

from contracts.digests import digest_file
from contracts.errors import UserError
from models.ranker.inputs.ranker_spec import name_model
from monitoring.config import MonitoringConfig
from monitoring.decision_obstacles import PlannedTest, TestKind
from monitoring.decision_rule import Decision
from serving.deployment.routes import ROUTES_FILE, read_routes
from serving.experiments.audit_log import append_audit_line
from serving.experiments.champion import promote_arm, retire_arm
from serving.experiments.experiment_record import ExperimentRecord, read_running_record
from serving.experiments.run_experiment import close_record


def take_served_plan(config: MonitoringConfig, *, state: Path) -> MonitoringConfig:
    """The config with the shares that serving draws its arms by: one place says them.

    An experiment that was started with a plan also names the metric that decides.

    Raises:
        UserError: the config names other shares, or knows no such metric.
    """
    if not (state / ROUTES_FILE).is_file():
        return config
    record = read_running_record(state)
    if record is not None and record.deciding_metric != config.primary_metric:
        config = decide_by_metric(config, record.deciding_metric)
    served_shares = read_routes(state).arm_shares
    if config.control_arm not in served_shares:
        return config
    if config.arm_shares and not _are_equal_shares(config.arm_shares, served_shares):
        raise UserError(
            f"monitoring.arm_shares = {config.arm_shares} are not the shares that serving draws by, "
            f"{served_shares}; leave monitoring.arm_shares out, serving.shares say them"
        )
    return config.model_copy(update={"arm_shares": served_shares})


def decide_by_metric(config: MonitoringConfig, metric: str) -> MonitoringConfig:
    """The config with another metric that decides.

    Raises:
        UserError: there is no such metric.
    """
    try:
        return MonitoringConfig.model_validate(config.model_dump() | {"primary_metric": metric})
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(f"'{metric}' cannot decide: {reason}") from None


def find_planned_test(state: Path) -> PlannedTest | None:
    """What was planned of the running experiment; None where none was started with a plan."""
    record = read_running_record(state)
    return None if record is None else describe_planned_test(record)


def describe_planned_test(record: ExperimentRecord) -> PlannedTest:
    """What the rule reads of a record."""
    kind: TestKind = "aa" if record.is_aa else "interleaving" if record.interleaving else "ab"
    return PlannedTest(record.planned_days, record.planned_users, kind)


def carry_out_decision(
    decision: Decision, config: MonitoringConfig, *, lift: Path, drift: Path, act: bool, state: Path
) -> bool:
    """Promotes or retires the arm when told to act, and appends to the audit log in either case.

    Args:
        decision: what was decided.
        config: what it was decided by.
        lift: the lift report's `lift.json`.
        drift: the drift report's `drift.json`.
        act: carry the decision out.
        state: serving's folder.

    Returns:
        Whether anything was changed.

    Raises:
        UserError: the routes do not allow it, or serve other rankers than the report compares; this is
            logged, too.
    """
    is_acting = act and decision.arm is not None and decision.may_act
    entry = {
        "event": "decision",
        "decision": decision.model_dump(),
        "told_to_act": act,
        "acted": False,
        "routes_before": _read_revision(state),
        "lift_report": digest_file(lift)[:12],
        "drift_report": digest_file(drift)[:12],
        "rule": config.model_dump(mode="json"),
    }
    record = read_running_record(state)
    if record is not None:
        entry["experiment_id"] = record.experiment_id
    try:
        if is_acting:
            _require_reported_rankers(lift, (config.control_arm, str(decision.arm)), state)
            change_routes = {"promote": promote_arm, "rollback": retire_arm}[decision.action]
            change_routes(str(decision.arm), state=state)
            entry["acted"] = True
    except UserError as error:
        entry["error"] = str(error)
        raise
    finally:
        append_audit_line(state, entry | {"routes_after": _read_revision(state)})
    if is_acting and record is not None:
        outcome = f"{decision.action} {decision.arm}: {' '.join(decision.reasons)}"
        close_record(state, record, closed_by="reaseq decide", outcome=outcome)
    return is_acting


def _require_reported_rankers(lift: Path, arms: tuple[str, ...], state: Path) -> None:
    """Refuses to act on a report of rankers that its arms no longer serve: an earlier experiment's."""
    reported: dict[str, str] = json.loads(lift.read_text(encoding="utf-8")).get("rankers", {})
    routed_arms = read_routes(state).arms
    for arm in arms:
        if arm not in reported or arm not in routed_arms:
            continue
        if (reported_model := name_model(reported[arm])) != routed_arms[arm].model:
            raise UserError(
                f"the lift report is of {reported_model} in arm '{arm}', which serves "
                f"{routed_arms[arm].model} now; nothing was changed. Make a new report: reaseq report"
            )


def _are_equal_shares(first: dict[str, float], second: dict[str, float]) -> bool:
    if set(first) != set(second):
        return False
    first_sum, second_sum = sum(first.values()), sum(second.values())
    return all(abs(first[arm] / first_sum - second[arm] / second_sum) < 1e-6 for arm in first)


def _read_revision(state: Path) -> int | None:
    return read_routes(state).revision if (state / ROUTES_FILE).is_file() else None
