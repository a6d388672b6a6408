"""Glue of two rooms: serving says what shares it draws by, monitoring's decision changes what it serves."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from contracts.digests import digest_file
from contracts.errors import UserError
from monitoring.config import MonitoringConfig
from monitoring.decision_rule import Decision
from serving.deployment.routes import ROUTES_FILE, read_routes
from serving.experiments.champion import promote_arm, retire_arm

DECISION_LOG: Final = "decisions.jsonl"
"""Every decision of a monitor run, one JSON line each, in serving's folder; only ever appended to."""


def take_served_shares(config: MonitoringConfig, *, state: Path) -> MonitoringConfig:
    """The config with the shares that serving draws its arms by: one place says them.

    Raises:
        UserError: the config names other shares.
    """
    if not (state / ROUTES_FILE).is_file():
        return config
    served_shares = read_routes(state).arm_shares
    if config.control_arm not in served_shares:
        return config
    if config.arm_shares and not _are_equal_shares(config.arm_shares, served_shares):
        raise UserError(
            f"monitoring.arm_shares = {config.arm_shares} are not the shares that serving draws by, "
            f"{served_shares}; leave monitoring.arm_shares out, serving.shares say them"
        )
    return config.model_copy(update={"arm_shares": served_shares})


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
        UserError: the routes do not allow it; this is logged, too.
    """
    is_acting = act and decision.arm is not None and decision.may_act
    entry = {
        "time": datetime.now(UTC).isoformat(),
        "decision": decision.model_dump(),
        "told_to_act": act,
        "acted": False,
        "routes_before": _read_revision(state),
        "lift_report": digest_file(lift)[:12],
        "drift_report": digest_file(drift)[:12],
        "rule": config.model_dump(mode="json"),
    }
    try:
        if is_acting:
            change_routes = {"promote": promote_arm, "rollback": retire_arm}[decision.action]
            change_routes(str(decision.arm), state=state)
            entry["acted"] = True
    except UserError as error:
        entry["error"] = str(error)
        raise
    finally:
        _append_line(state / DECISION_LOG, entry | {"routes_after": _read_revision(state)})
    return is_acting


def _are_equal_shares(first: dict[str, float], second: dict[str, float]) -> bool:
    if set(first) != set(second):
        return False
    first_sum, second_sum = sum(first.values()), sum(second.values())
    return all(abs(first[arm] / first_sum - second[arm] / second_sum) < 1e-6 for arm in first)


def _read_revision(state: Path) -> int | None:
    return read_routes(state).revision if (state / ROUTES_FILE).is_file() else None


def _append_line(path: Path, entry: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(entry, sort_keys=True) + "\n"
    # One write of one line: runs that end together do not mix theirs.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
