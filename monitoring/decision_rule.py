"""Goes from the two reports to a decision: hold, promote or roll back, with every reason spelled out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from contracts.config import Config
from contracts.errors import UserError
from monitoring.config import MonitoringConfig
from monitoring.decision_obstacles import PlannedTest, list_obstacles, measure_hours
from monitoring.lift.lift_statistics import LiftInterval

Action = Literal["hold", "promote", "rollback"]

# Page views and click-through rate count the same clicks, orders and conversion the same orders. One of each
# is enough to judge by.
_GUARDRAILS: Final = ("ctr", "orders_per_user", "gmv_per_user")


class _JudgedLift(NamedTuple):
    """What the rule reads of one metric of one arm."""

    interval: LiftInterval
    """Turned round where less is better: above 0 is good."""
    without_top_user: LiftInterval
    detectable: float | None
    is_falling: bool
    """Less is better."""

    def __str__(self) -> str:
        measured = _turn_round(self.interval) if self.is_falling else self.interval
        return _format_lift(measured)


class Decision(Config):
    """What to do with the challenger arms, and why."""

    action: Action
    """`promote` and `rollback` concern `arm`."""
    arm: str | None
    """The arm promoted or rolled back."""
    retrain: bool
    """The inputs have drifted: the rankers should be trained anew, whatever the action."""
    retrain_now: bool = False
    """Cool-down and budget allow it, and no planned experiment is in the way."""
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
    reason = (
        f"{best_arm}: {config.primary_metric} {lifts[best_arm][config.primary_metric]}; the guardrails hold."
    )
    return "promote", best_arm, [reason, *_describe_left_out(results)]


def _describe_left_out(results: dict[str, Any]) -> Iterator[str]:
    bots: dict[str, int] = results.get("bots", {}).get("users", {})
    if bots and results.get("deciding_users") != "raw":
        yield f"Bots are left out: {bots}."


def _judge_metrics(results: dict[str, Any], arm: str, config: MonitoringConfig) -> dict[str, _JudgedLift]:
    """Metric -> lift of `arm`, of the primary metric and the guardrails that the shop has."""
    judged: dict[str, _JudgedLift] = {}
    own_guardrails = {metric.name for metric in config.metrics if metric.role == "guardrail"}
    for row in results["rows"]:
        metric = row["metric"]
        is_primary = metric == config.primary_metric
        if row["arm"] != arm or not (is_primary or metric in _GUARDRAILS or metric in own_guardrails):
            continue
        if not row.get("is_measured", True):
            continue
        interval = LiftInterval(**row.get("deciding", row["relative"]))
        without_top_user = LiftInterval(**row["without_top_user"]) if "without_top_user" in row else interval
        is_falling = metric in config.falling_metrics
        if is_falling:
            interval, without_top_user = _turn_round(interval), _turn_round(without_top_user)
        judged[metric] = _JudgedLift(interval, without_top_user, row.get("detectable"), is_falling)
    return judged


def _turn_round(lift: LiftInterval) -> LiftInterval:
    """The lift of a metric of which less is better: what was above 0 is below."""
    value, low, high = (None if bound is None else -bound for bound in lift)
    return LiftInterval(value, high, low)


def _lowest_good_lift(metric: str, config: MonitoringConfig) -> float:
    """The relative lift above which a metric is fine."""
    return 0.0 if metric == config.primary_metric else -config.guardrail_margin


def _name_bound(lift: _JudgedLift, lowest_good: float, *, is_met: bool) -> str:
    """`surely below -10%`, or `not surely above -10%`; the other way round where less is better."""
    if lift.is_falling:
        return f"{'not surely below' if is_met else 'surely above'} {-lowest_good:+.0%}"
    return f"{'not surely above' if is_met else 'surely below'} {lowest_good:+.0%}"


def _describe_harms(arm: str, lifts: dict[str, _JudgedLift], config: MonitoringConfig) -> Iterator[str]:
    for metric, lift in lifts.items():
        lowest_good = _lowest_good_lift(metric, config)
        highs = (lift.interval.high, lift.without_top_user.high)
        if all(high is not None and high < lowest_good for high in highs):
            yield f"{arm}: {metric} {lift} is {_name_bound(lift, lowest_good, is_met=False)}."


def _describe_doubts(arm: str, lifts: dict[str, _JudgedLift], config: MonitoringConfig) -> Iterator[str]:
    for metric, lift in lifts.items():
        lowest_good = _lowest_good_lift(metric, config)
        detectable = "" if lift.detectable is None else f" The test could have seen {lift.detectable:.1%}."
        if lift.interval.low is None or lift.interval.low <= lowest_good:
            yield f"{arm}: {metric} {lift} is {_name_bound(lift, lowest_good, is_met=True)}.{detectable}"
        elif metric == config.primary_metric and lift.interval.value is None:
            yield (
                f"{arm}: {metric} of the control is nothing at all. Look at its service and its log before "
                "you believe a lift."
            )
        elif lift.without_top_user.low is None or lift.without_top_user.low <= lowest_good:
            yield f"{arm}: {metric} {lift} rests on one user."
        elif metric == config.primary_metric and (lift.detectable or 0.0) > config.largest_detectable_lift:
            yield (
                f"{arm}: {metric} {lift}, but the test was too small to tell "
                f"{config.largest_detectable_lift:.0%} from nothing: what it sees is luck.{detectable}"
            )
    if config.primary_metric not in lifts:
        yield (
            f"{arm}: hardly anybody in any arm did what {config.primary_metric} counts, so it cannot decide; "
            "name another `monitoring.primary_metric`."
        )


def _format_lift(lift: LiftInterval) -> str:
    value_text, low_text, high_text = ("?" if bound is None else f"{bound:+.1%}" for bound in lift)
    return f"{value_text} [{low_text}, {high_text}]"


def _name_drift_causes(drift_results: dict[str, Any]) -> str:
    drift_causes = list(drift_results["drifted_columns"])
    if drift_results["embedding_drifted"]:
        drift_causes.append(f"item vectors, AUC {drift_results['embedding_auc']:.2f}")
    return ", ".join(drift_causes)
