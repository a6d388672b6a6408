"""From the two reports to a decision: hold, promote or roll back, with every reason spelled out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from contracts.config import Config
from contracts.errors import UserError
from monitoring.config import MonitoringConfig
from monitoring.statistics import Interval

Action = Literal["hold", "promote", "rollback"]


class Decision(Config):
    """What to do with the challenger arms, and why."""

    action: Action
    """`promote` and `rollback` concern `arm`."""
    arm: str | None
    """The arm promoted or rolled back."""
    retrain: bool
    """The inputs have drifted: the rankers should be trained anew, whatever the action."""
    reasons: list[str]
    """What led to it, one sentence each."""
    traffic: str
    """Label of the traffic it rests on."""


def decide(drift: Path, lift: Path, config: MonitoringConfig) -> Decision:
    """Decides from `drift.json` and `lift.json`.

    A rollback needs an arm that is worse than control by the primary metric or by more than the margin in a guardrail;
    a promotion an arm that is better by the primary metric and whose guardrails rule out a loss beyond the margin; both
    by confidence intervals. A sample-ratio mismatch or too few users always hold.

    Raises:
        UserError: a file is missing or is not a report.
    """
    drifted, results = _read(drift, "drifted"), _read(lift, "srm")
    action, arm, reasons = _judge(results, config)
    if drifted["drifted"]:
        reasons = [*reasons, f"Inputs have drifted ({_drift_causes(drifted)}): retrain."]
    return Decision(
        action=action, arm=arm, retrain=bool(drifted["drifted"]), reasons=reasons, traffic=str(results["traffic"])
    )


def _read(path: Path, key: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        content[key]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is not a report ({error}); make it with report_drift or report_lift.") from error
    return content


def _judge(results: dict[str, Any], config: MonitoringConfig) -> tuple[Action, str | None, list[str]]:
    blocked = _blocks(results, config)
    if blocked:
        return "hold", None, blocked
    challengers = sorted({row["arm"] for row in results["rows"]} - {results["control"]})
    for arm in challengers:
        harms = list(_harms(arm, _of_arm(results, arm), config))
        if harms:
            return "rollback", arm, harms
    doubts = {arm: list(_doubts(arm, _of_arm(results, arm), config)) for arm in challengers}
    sure = [arm for arm in challengers if not doubts[arm]]
    if not sure:
        return "hold", None, [doubt for arm in challengers for doubt in doubts[arm]]
    best = max(sure, key=lambda arm: _of_arm(results, arm)[config.primary_metric].low or 0.0)
    lift = _of_arm(results, best)[config.primary_metric]
    return "promote", best, [f"{best}: {config.primary_metric} {_percent(lift)}; the guardrails hold."]


def _blocks(results: dict[str, Any], config: MonitoringConfig) -> list[str]:
    users: dict[str, int] = results["srm"]["users"]
    if len(users) < 2:
        return ["There is no challenger arm to judge."]
    found = []
    if results["srm"]["mismatch"]:
        p_value = results["srm"]["p_value"]
        found.append(f"Sample-ratio mismatch (p = {p_value:.2g}, users {users}): no lift can be believed.")
    few = {arm: count for arm, count in users.items() if count < config.min_users_per_arm}
    if few:
        found.append(f"Too few users: {few}, needed {config.min_users_per_arm} in each arm.")
    return found


def _of_arm(results: dict[str, Any], arm: str) -> dict[str, Interval]:
    """Metric -> relative lift of `arm`."""
    return {row["metric"]: Interval(**row["relative"]) for row in results["rows"] if row["arm"] == arm}


def _limit(metric: str, config: MonitoringConfig) -> float:
    """The relative lift above which a metric is fine."""
    return 0.0 if metric == config.primary_metric else -config.guardrail_margin


def _harms(arm: str, lifts: dict[str, Interval], config: MonitoringConfig) -> Iterator[str]:
    for metric, lift in lifts.items():
        limit = _limit(metric, config)
        if lift.high is not None and lift.high < limit:
            yield f"{arm}: {metric} {_percent(lift)} is surely below {limit:+.0%}."


def _doubts(arm: str, lifts: dict[str, Interval], config: MonitoringConfig) -> Iterator[str]:
    for metric, lift in lifts.items():
        limit = _limit(metric, config)
        if lift.low is None or lift.low <= limit:
            yield f"{arm}: {metric} {_percent(lift)} is not surely above {limit:+.0%}."


def _percent(lift: Interval) -> str:
    value, low, high = ("?" if bound is None else f"{bound:+.1%}" for bound in lift)
    return f"{value} [{low}, {high}]"


def _drift_causes(drifted: dict[str, Any]) -> str:
    vectors = [f"item vectors, AUC {drifted['embedding_auc']:.2f}"] if drifted["embedding_drifted"] else []
    return ", ".join([*drifted["drifted_columns"], *vectors])
