"""Goes from the two reports to a decision: hold, promote or roll back, with every reason spelled out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from contracts.config import Config
from contracts.errors import UserError
from monitoring.config import LiftMetric, MonitoringConfig
from monitoring.decision_obstacles import PlannedTest, list_obstacles, measure_hours
from monitoring.lift.lift_statistics import LiftInterval

Action = Literal["hold", "promote", "rollback"]

# Page views and click-through rate count the same clicks, orders and conversion the same orders. One of each
# is enough to judge by.
_GUARDRAILS: Final[tuple[LiftMetric, ...]] = ("ctr", "orders_per_user", "gmv_per_user")


class _JudgedLift(NamedTuple):
    """What the rule reads of one metric of one arm."""

    interval: LiftInterval
    without_top_user: LiftInterval
    detectable: float | None


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
    may_act: bool = True
    """False where the log does not say how long the arms ran: the action is advice, and not carried out."""
    traffic: str
    """Label of the traffic it rests on."""


def decide_by_lift_and_drift(
    drift: Path, lift: Path, config: MonitoringConfig, *, plan: PlannedTest | None = None
) -> Decision:
    """Decides from `drift.json` and `lift.json`; `plan` is what was planned before the test began.

    A rollback needs an arm that is worse than control by the primary metric or by more than the margin in a
    guardrail; a promotion an arm that is better by the primary metric, whose guardrails rule out a loss
    beyond the margin, and a test that could have seen the effect. All of it by confidence intervals that
    stand without the one user of each arm who moves them most. A metric that the shop does not have says
    nothing. A broken split, too few users or hours, and bots beyond the rule always hold.

    Raises:
        UserError: a file is missing or is not a report.
    """
    drift_results, lift_results = _read_report(drift, "drifted"), _read_report(lift, "srm")
    action, chosen_arm, reasons = _choose_action(lift_results, config, plan)
    if drift_results["drifted"]:
        reasons = [*reasons, f"Inputs have drifted ({_name_drift_causes(drift_results)}): retrain."]
    hours = measure_hours(lift_results)
    if hours == 0:
        reasons = [*reasons, "Every exposure has one time stamp: how long the arms ran is not known."]
    return Decision(
        action=action,
        arm=chosen_arm,
        retrain=bool(drift_results["drifted"]),
        reasons=reasons,
        may_act=hours != 0,
        traffic=str(lift_results["traffic"]),
    )


def _read_report(path: Path, required_key: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        content[required_key]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is not a report ({error}); report_drift or report_lift make it") from error
    return content


def _choose_action(
    results: dict[str, Any], config: MonitoringConfig, plan: PlannedTest | None
) -> tuple[Action, str | None, list[str]]:
    obstacles = list(list_obstacles(results, config, plan))
    if obstacles:
        return "hold", None, obstacles
    challengers = sorted({row["arm"] for row in results["rows"]} - {results["control"]})
    lifts = {arm: _judge_metrics(results, arm, config) for arm in challengers}
    # Harm comes first: an arm that hurts users goes, even where another one has won.
    for arm in challengers:
        arm_harms = list(_describe_harms(arm, lifts[arm], config))
        if arm_harms:
            return "rollback", arm, [*arm_harms, *_describe_left_out(results)]
    doubts = {arm: list(_describe_doubts(arm, lifts[arm], config)) for arm in challengers}
    winners = [arm for arm in challengers if not doubts[arm]]
    if not winners:
        return "hold", None, [doubt for arm in challengers for doubt in doubts[arm]]
    best_arm = max(winners, key=lambda arm: lifts[arm][config.primary_metric].interval.low or 0.0)
    lift_text = _format_lift(lifts[best_arm][config.primary_metric].interval)
    reason = f"{best_arm}: {config.primary_metric} {lift_text}; the guardrails hold."
    return "promote", best_arm, [reason, *_describe_left_out(results)]


def _describe_left_out(results: dict[str, Any]) -> Iterator[str]:
    bots: dict[str, int] = results.get("bots", {}).get("users", {})
    if bots and results.get("deciding_users") != "raw":
        yield f"Bots are left out: {bots}."


def _judge_metrics(
    results: dict[str, Any], arm: str, config: MonitoringConfig
) -> dict[LiftMetric, _JudgedLift]:
    """Metric -> lift of `arm`, of the primary metric and the guardrails that the shop has."""
    judged: dict[LiftMetric, _JudgedLift] = {}
    for row in results["rows"]:
        is_primary = row["metric"] == config.primary_metric
        if row["arm"] != arm or not (is_primary or row["metric"] in _GUARDRAILS):
            continue
        if not is_primary and not row.get("is_measured", True):
            continue
        interval = LiftInterval(**row.get("deciding", row["relative"]))
        without_top_user = LiftInterval(**row["without_top_user"]) if "without_top_user" in row else interval
        judged[row["metric"]] = _JudgedLift(interval, without_top_user, row.get("detectable"))
    return judged


def _lowest_good_lift(metric: str, config: MonitoringConfig) -> float:
    """The relative lift above which a metric is fine."""
    return 0.0 if metric == config.primary_metric else -config.guardrail_margin


def _describe_harms(
    arm: str, lifts: dict[LiftMetric, _JudgedLift], config: MonitoringConfig
) -> Iterator[str]:
    for metric, lift in lifts.items():
        lowest_good = _lowest_good_lift(metric, config)
        highs = (lift.interval.high, lift.without_top_user.high)
        if all(high is not None and high < lowest_good for high in highs):
            yield f"{arm}: {metric} {_format_lift(lift.interval)} is surely below {lowest_good:+.0%}."


def _describe_doubts(
    arm: str, lifts: dict[LiftMetric, _JudgedLift], config: MonitoringConfig
) -> Iterator[str]:
    for metric, lift in lifts.items():
        lowest_good = _lowest_good_lift(metric, config)
        lift_text = _format_lift(lift.interval)
        detectable = "" if lift.detectable is None else f" The test could have seen {lift.detectable:.1%}."
        if lift.interval.low is None or lift.interval.low <= lowest_good:
            yield f"{arm}: {metric} {lift_text} is not surely above {lowest_good:+.0%}.{detectable}"
        elif lift.without_top_user.low is None or lift.without_top_user.low <= lowest_good:
            yield f"{arm}: {metric} {lift_text} rests on one user."
        elif metric == config.primary_metric and (lift.detectable or 0.0) > config.largest_detectable_lift:
            yield (
                f"{arm}: {metric} {lift_text}, but the test was too small to tell "
                f"{config.largest_detectable_lift:.0%} from nothing: what it sees is luck.{detectable}"
            )


def _format_lift(lift: LiftInterval) -> str:
    value_text, low_text, high_text = ("?" if bound is None else f"{bound:+.1%}" for bound in lift)
    return f"{value_text} [{low_text}, {high_text}]"


def _name_drift_causes(drift_results: dict[str, Any]) -> str:
    drift_causes = list(drift_results["drifted_columns"])
    if drift_results["embedding_drifted"]:
        drift_causes.append(f"item vectors, AUC {drift_results['embedding_auc']:.2f}")
    return ", ".join(drift_causes)
