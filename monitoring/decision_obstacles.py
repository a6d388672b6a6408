"""What forbids any judgement of the arms, in words: a broken split, too little traffic, a log in doubt."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from monitoring.config import MonitoringConfig

# From this share of orders without a price on, GMV is not known.
_MOST_WITHOUT_REVENUE: Final = 0.05


TestKind = Literal["ab", "aa", "interleaving"]


class PlannedTest(NamedTuple):
    """What was planned before the test began."""

    days: float
    users: int | None
    """All arms together; None where only days were planned."""
    kind: TestKind = "ab"
    """`aa`: the same ranker in all arms. `interleaving`: two rankers on each page."""


def measure_hours(results: dict[str, Any]) -> float | None:
    """Hours between the first and the last exposure; None where the report does not say."""
    if not results.get("first_exposure") or not results.get("last_exposure"):
        return None
    first, last = (datetime.fromisoformat(str(results[name])) for name in ("first_exposure", "last_exposure"))
    return (last - first).total_seconds() / 3600


def list_obstacles(
    results: dict[str, Any], config: MonitoringConfig, plan: PlannedTest | None = None
) -> Iterator[str]:
    """What forbids any judgement of the arms, one sentence each."""
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
    hours = measure_hours(results)
    if hours is not None and 0 < hours < config.min_hours:
        yield f"Too short: {hours:.1f} hours of traffic, needed {config.min_hours} (`monitoring.min_hours`)."
    for arm, share in results.get("share_without_model", {}).items():
        if share > config.max_share_without_model:
            yield (
                f"{arm}: its ranker did not score {share:.0%} of what was shown, so its lift says nothing "
                "of the ranker. Mend the service first."
            )
    yield from _list_unknown_revenue(results)
    if plan is not None:
        yield from _describe_plan(results, config, plan)


def is_complete(results: dict[str, Any], plan: PlannedTest) -> bool:
    """Has the test run as long, and seen as many users, as was planned?"""
    hours = measure_hours(results)
    is_long_enough = hours is not None and hours >= plan.days * 24
    return is_long_enough and (plan.users is None or _count_users(results) >= plan.users)


def _describe_plan(results: dict[str, Any], config: MonitoringConfig, plan: PlannedTest) -> Iterator[str]:
    if plan.kind == "interleaving":
        preference = describe_preference(results.get("interleaving") or {})
        yield (
            f"An interleaving: {preference}. It tells which ranker is wanted more, and not what it earns: "
            "start an experiment with the challenger, or end this one with `reaseq experiment stop --keep`."
        )
    elif plan.kind == "aa":
        yield "An A/A test: the same ranker answers in all arms, so there is nothing to promote or roll back."
    # An interval for one look holds on the day that was named beforehand, and on no other.
    elif config.decide_by == "fixed_horizon" and not is_complete(results, plan):
        planned_users = "" if plan.users is None else f" and {plan.users:,} users"
        yield (
            f"Not yet: {(measure_hours(results) or 0) / 24:.1f} days and {_count_users(results):,} users, "
            f"planned were {plan.days:g} days{planned_users}, and `decide_by=fixed_horizon` allows one look."
        )


def describe_preference(interleaving: dict[str, Any]) -> str:
    """What an interleaving has shown, in words."""
    bounds = interleaving.get("deciding") or {}
    if bounds.get("value") is None:
        return "nobody has clicked on a shared page yet"
    value, low, high = (
        "?" if bounds[name] is None else f"{bounds[name]:+.1%}" for name in ("value", "low", "high")
    )
    if bounds["low"] is not None and bounds["low"] > 0:
        verdict = "users surely prefer the challenger's items"
    elif bounds["high"] is not None and bounds["high"] < 0:
        verdict = "users surely prefer the control's items"
    else:
        verdict = "users do not surely prefer either's items"
    return f"{verdict} (preference {value} [{low}, {high}], {interleaving['clicks']:,} clicks)"


def _count_users(results: dict[str, Any]) -> int:
    return int(sum(results["srm"]["users"].values()))


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
