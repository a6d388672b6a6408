"""Goes from the two reports to a decision: hold, promote or roll back, with every reason spelled out."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from contracts.config import Config
from contracts.errors import UserError
from monitoring.config import LiftMetric, MonitoringConfig
from monitoring.lift.lift_statistics import LiftInterval

Action = Literal["hold", "promote", "rollback"]

# Page views and click-through rate count the same clicks, orders and conversion the same orders. One of each
# is enough to judge by.
_GUARDRAILS: Final[tuple[LiftMetric, ...]] = ("ctr", "orders_per_user", "gmv_per_user")
# From this share of orders without a price on, GMV is not known.
_MOST_WITHOUT_REVENUE: Final = 0.05


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


def decide_by_lift_and_drift(drift: Path, lift: Path, config: MonitoringConfig) -> Decision:
    """Decides from `drift.json` and `lift.json`.

    A rollback needs an arm that is worse than control by the primary metric or by more than the margin in a
    guardrail; a promotion an arm that is better by the primary metric, whose guardrails rule out a loss
    beyond the margin, and a test that could have seen the effect. All of it by confidence intervals that
    stand without the one user of each arm who moves them most. A metric that the shop does not have says
    nothing. A broken split, too few users or hours, and bots beyond the rule always hold.

    Raises:
        UserError: a file is missing or is not a report.
    """
    drift_results, lift_results = _read_report(drift, "drifted"), _read_report(lift, "srm")
    action, chosen_arm, reasons = _choose_action(lift_results, config)
    if drift_results["drifted"]:
        reasons = [*reasons, f"Inputs have drifted ({_name_drift_causes(drift_results)}): retrain."]
    hours = _measure_hours(lift_results)
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


def _choose_action(results: dict[str, Any], config: MonitoringConfig) -> tuple[Action, str | None, list[str]]:
    obstacles = list(_list_obstacles(results, config))
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


def _list_obstacles(results: dict[str, Any], config: MonitoringConfig) -> Iterator[str]:
    """What forbids any judgement of the arms."""
    users_per_arm: dict[str, int] = results["srm"]["users"]
    if len(users_per_arm) < 2:
        yield "There is no challenger arm to judge."
        return
    if results["srm"]["mismatch"]:
        yield _describe_mismatch(results)
    share_moved = results.get("share_in_several_arms", 0.0)
    if share_moved > config.max_users_in_several_arms:
        yield (
            f"Mismatch: {share_moved:.1%} of the users saw several arms, more than "
            f"{config.max_users_in_several_arms:.0%}: who is left is no fair sample, and no lift can be "
            "believed. Does every request carry the user's own user_id?"
        )
    share_of_bots = results.get("bots", {}).get("share", 0.0)
    if share_of_bots > config.max_bots:
        yield (
            f"{share_of_bots:.1%} of the users act like bots, more than {config.max_bots:.0%}: either the "
            "rule (`monitoring.bots`) does not fit the shop, or the log is not of shoppers."
        )
    small_arms = {
        arm_name: num_users
        for arm_name, num_users in users_per_arm.items()
        if num_users < config.min_users_per_arm
    }
    if small_arms:
        yield f"Too few users: {small_arms}, needed {config.min_users_per_arm} in each arm."
    hours = _measure_hours(results)
    if hours is not None and 0 < hours < config.min_hours:
        yield f"Too short: {hours:.1f} hours of traffic, needed {config.min_hours} (`monitoring.min_hours`)."
    for arm, share in results.get("share_without_model", {}).items():
        if share > config.max_share_without_model:
            yield (
                f"{arm}: its ranker did not score {share:.0%} of what was shown, so its lift says nothing "
                "of the ranker. Mend the service first."
            )
    yield from _list_unknown_revenue(results)


def _describe_mismatch(results: dict[str, Any]) -> str:
    split = results["srm"]
    numbers = f"p = {split['p_value']:.2g}, users {split['users']}"
    if "intended" in split:
        numbers += f", intended { ({arm: round(users) for arm, users in split['intended'].items()}) }"
    return (
        f"Sample-ratio mismatch ({numbers}): no lift can be believed. If the arms were meant to have other "
        "shares, say so in `serving.shares`, or for tables of your own in `monitoring.arm_shares`."
    )


def _list_unknown_revenue(results: dict[str, Any]) -> Iterator[str]:
    shares: dict[str, float] = results.get("orders_without_revenue", {})
    has_gmv = any(
        row["metric"] == "gmv_per_user" and row.get("value", {}).get("value") for row in results["rows"]
    )
    for arm, share in shares.items():
        # A shop whose orders never have a price has no GMV; one whose orders sometimes have, an unknown one.
        if has_gmv and share > _MOST_WITHOUT_REVENUE:
            yield f"{arm}: {share:.0%} of its orders have no price, so its GMV is not known."


def _describe_left_out(results: dict[str, Any]) -> Iterator[str]:
    bots: dict[str, int] = results.get("bots", {}).get("users", {})
    if bots and results.get("deciding_users") != "raw":
        yield f"Bots are left out: {bots}."


def _measure_hours(results: dict[str, Any]) -> float | None:
    """Hours between the first and the last exposure; None where the report does not say."""
    if not results.get("first_exposure") or not results.get("last_exposure"):
        return None
    first, last = (datetime.fromisoformat(str(results[name])) for name in ("first_exposure", "last_exposure"))
    return (last - first).total_seconds() / 3600


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
