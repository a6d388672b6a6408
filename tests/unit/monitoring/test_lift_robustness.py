"""What a log can hold that must not turn a lift or a decision: bots, whales, copies, zeros, wrong amounts."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from contracts.artifacts import write_json
from contracts.errors import UserError
from contracts.events.bots import BotRuleConfig
from contracts.tables import EXPOSURES, OUTCOMES
from monitoring.config import MonitoringConfig
from monitoring.decision_rule import Decision, decide_by_lift_and_drift
from monitoring.lift.lift_report import measure_lift
from monitoring.lift.outlier_users import find_cap

START = datetime(2025, 3, 3, tzinfo=UTC)
QUIET_DRIFT = {"drifted": False, "drifted_columns": [], "embedding_drifted": False}


def shop_visits(
    seed: int,
    *,
    rates: dict[str, float],
    users: int = 1500,
    shown: int = 4,
    days: int = 10,
    order_rate: float = 0.4,
) -> pl.DataFrame:
    """One row per shown item: each user visits once, and clicks at their arm's rate."""
    rng = np.random.default_rng(seed)
    arms = np.repeat(list(rates), users * shown)
    visitor = np.arange(users * len(rates) * shown) // shown
    clicks = rng.random(len(arms)) < np.repeat(list(rates.values()), users * shown)
    orders = clicks & (rng.random(len(arms)) < order_rate)
    return pl.DataFrame(
        {
            "request_id": [f"visit-{number}" for number in visitor],
            "item_id": [f"item-{number}" for number in range(len(arms))],
            "user_id": [f"shopper-{number}" for number in visitor],
            "timestamp": [START + timedelta(hours=float(hour)) for hour in visitor * 7.3 % (days * 24)],
            "arm": arms.tolist(),
            "click": clicks,
            "order": orders,
            "revenue": np.where(orders, rng.lognormal(3, 0.8, len(arms)), 0.0),
        }
    )


def act_as_one_user(
    arm: str, rows: int, *, click: bool, request_size: int = 1, days: int = 1
) -> pl.DataFrame:
    """Rows of a crawler, or of a script that clicks."""
    number = np.arange(rows)
    return pl.DataFrame(
        {
            "request_id": [f"bot-{index // request_size}" for index in number],
            "item_id": [f"item-{index}" for index in number],
            "user_id": ["robot"] * rows,
            "timestamp": [START + timedelta(days=float(day)) for day in number * days / rows],
            "arm": [arm] * rows,
            "click": [click] * rows,
            "order": [False] * rows,
            "revenue": [0.0] * rows,
        }
    )


def measure(folder: Path, visits: pl.DataFrame, **options: Any) -> tuple[dict[str, Any], Decision]:
    """Writes the tables, makes `lift.json`, decides."""
    defaults = {"model_version": "m", "routed_version": "m", "score": 0.5, "position": 0}
    rows = visits.with_columns(
        *(pl.lit(value).alias(name) for name, value in defaults.items() if name not in visits.columns),
        degraded=pl.lit([], dtype=pl.List(pl.String())),
    )
    for table, name in ((EXPOSURES, "exposures"), (OUTCOMES, "outcomes")):
        columns = [
            pl.col(column).cast(dtype) if column in rows.columns else pl.lit(None, dtype=dtype).alias(column)
            for column, dtype in table.schema.items()
        ]
        rows.select(columns).write_parquet(folder / f"{name}.parquet")
    config = MonitoringConfig(**options)
    _, summary = measure_lift(folder / "exposures.parquet", folder / "outcomes.parquet", config)
    write_json(folder / "lift.json", summary)
    write_json(folder / "drift.json", QUIET_DRIFT)
    content = (folder / "lift.json").read_text()
    results: dict[str, Any] = json.loads(
        content, parse_constant=lambda word: pytest.fail(f"{word} is no JSON")
    )
    return results, decide_by_lift_and_drift(folder / "drift.json", folder / "lift.json", config)


def find_row(results: dict[str, Any], metric: str, arm: str = "new") -> dict[str, Any]:
    (match,) = (row for row in results["rows"] if (row["arm"], row["metric"]) == (arm, metric))
    return match


EQUAL = {"control": 0.2, "new": 0.2}


@pytest.mark.parametrize(
    ("clicks", "rows", "days"), [(False, 60_000, 1), (False, 9_000, 9), (True, 30_000, 1), (True, 700, 1)]
)
def test_one_robot_decides_nothing_and_is_named(tmp_path: Path, clicks: bool, rows: int, days: int) -> None:
    shoppers = shop_visits(1, rates=EQUAL)
    robot = act_as_one_user("new", rows, click=clicks, days=days)
    calm, calm_decision = measure(tmp_path, shoppers)
    results, decision = measure(tmp_path, pl.concat([shoppers, robot]))
    assert calm_decision.action == decision.action == "hold"
    robust = find_row(results, "ctr")
    assert robust["relative"]["low"] < 0 < robust["relative"]["high"]
    assert robust["relative"]["value"] == pytest.approx(find_row(calm, "ctr")["relative"]["value"], abs=0.02)
    raw_lift = abs(robust["readings"]["raw"]["relative"]["value"])
    assert raw_lift > 5 * abs(robust["relative"]["value"])
    if clicks or rows > 20_000:
        assert results["bots"]["users"] == {"new": 1}
        assert results["bots"]["largest"][0]["user_id"] == "robot"


def test_a_heavy_user_below_the_bot_rule_is_capped(tmp_path: Path) -> None:
    half_clicks = act_as_one_user("new", 900, click=True).with_columns(click=pl.int_range(pl.len()) % 2 == 0)
    results, decision = measure(tmp_path, pl.concat([shop_visits(2, rates=EQUAL), half_clicks]))
    assert results["bots"]["users"] == {}
    assert find_row(results, "ctr")["cap"] == 4
    assert decision.action == "hold"


@pytest.mark.parametrize("reading", ["robust", "without_bots", "raw"])
def test_one_huge_order_promotes_nothing_whatever_is_read(tmp_path: Path, reading: str) -> None:
    visits = shop_visits(3, rates=EQUAL)
    buyer = visits.filter((pl.col("arm") == "new") & pl.col("order"))["item_id"][0]
    huge = visits.with_columns(
        revenue=pl.when(pl.col("item_id") == buyer).then(3e6).otherwise(pl.col("revenue"))
    )
    results, decision = measure(tmp_path, huge, primary_metric="gmv_per_user", deciding_users=reading)
    assert decision.action == "hold"
    assert results["whales"][0]["share_of_arm"] > 0.9
    row = find_row(results, "gmv_per_user")
    assert row["readings"]["raw"]["relative"]["value"] > 10
    assert abs(row["readings"]["robust"]["relative"]["value"]) < 0.3


def test_a_verdict_that_rests_on_one_user_is_no_verdict(tmp_path: Path) -> None:
    """What is read without caps can look sure because of one user; it must stand without them."""
    row = {
        "arm": "new",
        "metric": "ctr",
        "relative": {"value": 0.3, "low": 0.1, "high": 0.5},
        "without_top_user": {"value": 0.01, "low": -0.1, "high": 0.1},
    }
    lift = {
        "traffic": "t",
        "control": "control",
        "srm": {"p_value": 1.0, "mismatch": False, "users": {"control": 500, "new": 500}},
        "rows": [row],
    }
    write_json(tmp_path / "lift.json", lift)
    write_json(tmp_path / "drift.json", QUIET_DRIFT)
    reports = tmp_path / "drift.json", tmp_path / "lift.json"
    decision = decide_by_lift_and_drift(*reports, MonitoringConfig())
    assert (decision.action, "rests on one user" in decision.reasons[0]) == ("hold", True)
    row["relative"], row["without_top_user"]["high"] = {"value": -0.3, "low": -0.5, "high": -0.1}, 0.2
    write_json(tmp_path / "lift.json", lift)
    assert decide_by_lift_and_drift(*reports, MonitoringConfig()).action == "hold"


def test_a_cap_is_never_set_by_the_few_largest() -> None:
    assert find_cap(np.array([0, 0, 5.0, 1e9]), 0.99) == 5
    assert find_cap(np.r_[np.ones(1000), 50.0, 60.0, 1e9], 0.99) == 1
    assert find_cap(np.zeros(4), 0.99) == np.inf


def test_a_dead_arm_is_rolled_back(tmp_path: Path) -> None:
    results, decision = measure(tmp_path, shop_visits(4, rates={"control": 0.1, "new": 0.0}, users=400))
    assert (decision.action, decision.arm) == ("rollback", "new")
    assert find_row(results, "ctr")["relative"] == {
        "value": -1.0,
        "low": -1.0,
        "high": pytest.approx(-0.97, abs=0.03),
    }


def test_a_few_lost_clicks_are_no_dead_arm(tmp_path: Path) -> None:
    visits = shop_visits(4, rates={"control": 0.0, "new": 0.0}, users=400)
    four_clicks = visits.with_columns(click=pl.int_range(pl.len()) % 400 == 0).with_columns(
        click=pl.col("click") & (pl.col("arm") == "control")
    )
    assert measure(tmp_path, four_clicks)[1].action == "hold"


def test_a_shop_without_orders_can_promote(tmp_path: Path) -> None:
    visits = shop_visits(5, rates={"control": 0.2, "new": 0.3}, order_rate=0.0)
    results, decision = measure(tmp_path, visits)
    assert (decision.action, decision.arm, decision.may_act) == ("promote", "new", True)
    assert not find_row(results, "orders_per_user")["is_measured"]


def test_a_shop_without_prices_can_promote(tmp_path: Path) -> None:
    visits = shop_visits(5, rates={"control": 0.2, "new": 0.3}).with_columns(revenue=0.0)
    assert measure(tmp_path, visits)[1].action == "promote"


def test_orders_that_lost_their_price_in_one_arm_hold(tmp_path: Path) -> None:
    visits = shop_visits(6, rates={"control": 0.2, "new": 0.3})
    is_lost = (pl.col("arm") == "new") & (pl.int_range(pl.len()) % 3 == 0)
    unpriced = visits.with_columns(revenue=pl.when(~is_lost).then("revenue"))
    results, decision = measure(tmp_path, unpriced)
    assert results["orders_without_revenue"]["new"] == pytest.approx(1 / 3, abs=0.05)
    assert decision.action == "hold"
    assert "have no price" in decision.reasons[0]


def test_users_of_several_arms_hold_with_their_share(tmp_path: Path) -> None:
    visits = shop_visits(7, rates={"control": 0.2, "new": 0.3})
    both = visits.with_columns(
        user_id=pl.format("shopper-{}", pl.col("user_id").str.slice(8).cast(pl.Int64) % 1700)
    )
    results, decision = measure(tmp_path, both)
    assert results["share_in_several_arms"] == pytest.approx(1300 / 1700)
    assert decision.action == "hold"
    assert "76.5% of the users saw several arms" in decision.reasons[0]


def test_copies_count_once_and_are_told(tmp_path: Path) -> None:
    visits = shop_visits(8, rates=EQUAL, users=300)
    once, _ = measure(tmp_path, visits)
    twice, _ = measure(tmp_path, pl.concat([visits, visits.filter(pl.col("arm") == "new")]))
    assert twice["duplicate_exposures"] == 1200
    assert twice["duplicate_outcomes"] == visits.filter((pl.col("arm") == "new") & pl.col("click")).height
    assert once["rows"] == twice["rows"]


def test_copies_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    visits = shop_visits(8, rates=EQUAL, users=50)
    other_user = visits.head(3).with_columns(user_id=pl.lit("somebody"))
    with pytest.raises(UserError, match=r"^3 exposure\(s\) .* told more than once, of different users"):
        measure(tmp_path, pl.concat([visits, other_user]))
    dearer = visits.filter("order").head(2).with_columns(pl.col("revenue") + 1)
    with pytest.raises(UserError, match=r"^2 outcome\(s\) .* with different revenue"):
        measure(tmp_path, pl.concat([visits, dearer]))


def test_a_revenue_that_is_no_amount_is_refused_with_count_and_remedy(tmp_path: Path) -> None:
    wrong = [float("nan"), float("nan"), -4.0, float("inf")]
    visits = shop_visits(9, rates=EQUAL, users=50)
    amounts = pl.Series("revenue", [*wrong, *visits["revenue"][4:]])
    with pytest.raises(UserError, match=r"2 NaN, 1 infinite, 1 negative. Write 0 where nothing was ordered"):
        measure(tmp_path, visits.with_columns(amounts))


def test_an_arm_that_nobody_saw_is_noticed(tmp_path: Path) -> None:
    shares = {"control": 1.0, "new": 1.0, "lost": 1.0}
    results, decision = measure(tmp_path, shop_visits(10, rates=EQUAL, users=300), arm_shares=shares)
    assert results["srm"]["users"]["lost"] == 0
    assert decision.action == "hold"


def test_a_mismatch_says_where_shares_are_given(tmp_path: Path) -> None:
    uneven = shop_visits(11, rates=EQUAL, users=900).filter(
        (pl.col("arm") == "control") | (pl.col("user_id").str.ends_with("1"))
    )
    _, decision = measure(tmp_path, uneven)
    assert "serving.shares" in decision.reasons[0]
    assert "monitoring.arm_shares" in decision.reasons[0]
    results, _ = measure(tmp_path, uneven, arm_shares={"control": 0.91, "new": 0.09})
    assert not results["srm"]["mismatch"]


def test_an_hour_of_traffic_decides_nothing(tmp_path: Path) -> None:
    visits = shop_visits(12, rates={"control": 0.2, "new": 0.35})
    hour = visits.with_columns(timestamp=START + pl.duration(seconds=pl.int_range(pl.len()) % 3600))
    _, decision = measure(tmp_path, hour)
    assert (decision.action, "Too short: 1.0 hours" in decision.reasons[0]) == ("hold", True)
    assert measure(tmp_path, hour, min_hours=0)[1].action == "promote"


def test_times_that_say_nothing_leave_advice_but_no_act(tmp_path: Path) -> None:
    visits = shop_visits(12, rates={"control": 0.2, "new": 0.35}).with_columns(timestamp=pl.lit(START))
    _, decision = measure(tmp_path, visits)
    assert (decision.action, decision.may_act) == ("promote", False)


def test_what_the_fallback_answered_promotes_no_ranker(tmp_path: Path) -> None:
    visits = shop_visits(13, rates={"control": 0.2, "new": 0.35})
    is_lost = (pl.col("arm") == "new") & (pl.int_range(pl.len()) % 5 == 0)
    degraded = visits.with_columns(
        model_version=pl.when(is_lost).then(pl.lit("fallback")).otherwise(pl.lit("m"))
    )
    _, decision = measure(tmp_path, degraded)
    assert (decision.action, "Mend the service first" in decision.reasons[0]) == ("hold", True)


def test_a_rule_that_calls_everybody_a_bot_holds(tmp_path: Path) -> None:
    _, decision = measure(
        tmp_path,
        shop_visits(14, rates={"control": 0.2, "new": 0.35}),
        bots=BotRuleConfig(max_click_share=0.3, min_impressions=2),
    )
    assert (decision.action, "act like bots" in decision.reasons[0]) == ("hold", True)


def test_a_test_that_sees_little_says_so(tmp_path: Path) -> None:
    results, decision = measure(tmp_path, shop_visits(15, rates=EQUAL, users=150))
    assert find_row(results, "ctr")["detectable"] > 0.2
    assert "The test could have seen" in decision.reasons[0]


def test_three_arms_need_a_surer_winner_than_two(tmp_path: Path) -> None:
    two, _ = measure(tmp_path, shop_visits(16, rates={"control": 0.2, "new": 0.25}))
    three, _ = measure(tmp_path, shop_visits(16, rates={"control": 0.2, "new": 0.25, "newer": 0.2}))
    sure = find_row(three, "ctr")
    assert sure["deciding"]["low"] < sure["sequential"]["low"]
    assert find_row(two, "ctr")["deciding"] == find_row(two, "ctr")["sequential"]
    assert all(
        row["adjusted_p_value"] >= row["p_value"] for row in three["rows"] if row["p_value"] is not None
    )


def test_lift_is_told_by_day_and_by_slice(tmp_path: Path) -> None:
    visits = shop_visits(17, rates={"control": 0.2, "new": 0.3}, users=800, days=5).with_columns(
        scene=pl.when(pl.int_range(pl.len()) // 4 % 2 == 0).then(pl.lit("home")).otherwise(pl.lit("search"))
    )
    results, _ = measure(tmp_path, visits)
    days = [row for row in results["by_day"] if row["metric"] == "ctr"]
    assert [row["day"] for row in days] == [f"2025-03-0{number}" for number in range(3, 8)]
    assert sum(row["users"] for row in days) == 800
    slices = {row["slice"]: row for row in results["by_slice"] if row["metric"] == "ctr"}
    assert set(slices) == {"home", "search"}
    assert all(0.2 < row["relative"]["value"] < 0.8 for row in slices.values())
    assert slices["home"]["adjusted_p_value"] >= slices["home"]["p_value"]


def test_when_nobody_is_left_to_compare_the_report_holds(tmp_path: Path) -> None:
    visits = shop_visits(18, rates=EQUAL, users=200)
    everybody_in_both = visits.with_columns(
        user_id=pl.format("shopper-{}", pl.col("user_id").str.slice(8).cast(pl.Int64) % 200)
    )
    results, decision = measure(tmp_path, everybody_in_both)
    assert results["share_in_several_arms"] == 1
    assert results["srm"]["users"] == {"control": 0, "new": 0}
    assert (decision.action, "100.0% of the users saw several arms" in decision.reasons[0]) == ("hold", True)
    all_bots = BotRuleConfig(max_click_share=None, max_requests=None, max_clicks=1)
    clicking = visits.with_columns(click=pl.lit(True))
    results, decision = measure(tmp_path, clicking, bots=all_bots)
    assert results["bots"]["share"] == 1
    assert decision.action == "hold"


def test_one_arm_of_bots_alone_holds(tmp_path: Path) -> None:
    visits = shop_visits(19, rates=EQUAL, users=200).with_columns(
        click=pl.when(pl.col("arm") == "new").then(True).otherwise("click")
    )
    bots = BotRuleConfig(max_click_share=0.9, min_impressions=4)
    assert measure(tmp_path, visits, bots=bots)[1].action == "hold"
