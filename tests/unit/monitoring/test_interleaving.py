"""The preference for one of two rankers that share pages: its sign, its level, and no user decides it."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from monitoring.config import MonitoringConfig
from monitoring.decision_obstacles import PlannedTest, describe_preference
from monitoring.decision_rule import decide_by_lift_and_drift
from monitoring.lift.interleaving import measure_preference

FIXED = MonitoringConfig(decide_by="fixed_horizon")
Tables = tuple[pl.DataFrame, pl.DataFrame]


def draw_pages(rng: np.random.Generator, users: int, *, preference: float = 0.0) -> Tables:
    """Each user saw two pages of ten places; a click prefers the challenger's items by so much."""
    user = np.repeat(np.arange(users), 20)
    is_challengers = rng.random(len(user)) < 0.5
    taste = np.repeat(rng.beta(1, 6, users), 20)
    click = rng.random(len(user)) < taste * np.where(is_challengers, 1 + preference, 1 - preference)
    pages = pl.DataFrame(
        {
            "request_id": [f"r{row // 10}" for row in range(len(user))],
            "item_id": [f"i{row % 10}" for row in range(len(user))],
            "user_id": [f"u{number}" for number in user],
            "team": np.where(is_challengers, "challenger", "control").tolist(),
            "click": click,
        }
    )
    return pages.drop("click"), pages.select("request_id", "item_id", "click")


@pytest.mark.parametrize(("preference", "sign"), [(0.2, 1), (-0.2, -1)])
@pytest.mark.parametrize("config", [FIXED, MonitoringConfig()])
def test_a_preference_is_found_with_its_sign(preference: float, sign: int, config: MonitoringConfig) -> None:
    told = measure_preference(*draw_pages(np.random.default_rng(1), 2000, preference=preference), config)
    assert told["deciding"]["low"] < preference < told["deciding"]["high"]
    assert min(sign * told["deciding"]["low"], sign * told["deciding"]["high"]) > 0
    ranker = "challenger" if sign > 0 else "control"
    assert f"surely prefer the {ranker}'s items" in describe_preference(told)


def test_the_interval_holds_its_level_without_any_preference() -> None:
    rng = np.random.default_rng(2)
    num_tests = 300
    wrong = 0
    for _ in range(num_tests):
        bounds = measure_preference(*draw_pages(rng, 150), FIXED)["preference"]
        wrong += bounds["low"] > 0 or bounds["high"] < 0
    assert 0.01 < wrong / num_tests < 0.09


def test_one_clicking_user_decides_nothing_and_a_bot_is_left_out() -> None:
    teams, outcomes = draw_pages(np.random.default_rng(3), 500)
    many = pl.DataFrame({"request_id": [f"b{number}" for number in range(3000)]}).with_columns(
        item_id=pl.lit("i"), user_id=pl.lit("bot"), team=pl.lit("challenger")
    )
    all_teams = pl.concat([teams, many])
    all_outcomes = pl.concat([outcomes, many.select("request_id", "item_id", click=pl.lit(True))])
    told = measure_preference(all_teams, all_outcomes, FIXED)
    assert told["deciding"]["low"] < 0 < told["deciding"]["high"]
    without = measure_preference(all_teams, all_outcomes, FIXED, bots=pl.Series(["bot"]))
    assert without["preference"] == measure_preference(teams, outcomes, FIXED)["preference"]


def test_rows_told_twice_count_once() -> None:
    teams, outcomes = draw_pages(np.random.default_rng(4), 200)
    twice = measure_preference(pl.concat([teams, teams]), pl.concat([outcomes, outcomes]), FIXED)
    assert twice == measure_preference(teams, outcomes, FIXED)


def test_without_a_click_nothing_is_known() -> None:
    teams, outcomes = draw_pages(np.random.default_rng(5), 50)
    told = measure_preference(teams, outcomes.with_columns(click=pl.lit(False)), FIXED)
    assert told["deciding"] == {"value": None, "low": None, "high": None}
    assert "nobody has clicked" in describe_preference(told)


def test_an_interleaving_promotes_nothing_and_tells_the_preference(tmp_path: Path) -> None:
    told = measure_preference(*draw_pages(np.random.default_rng(1), 2000, preference=0.2), FIXED)
    lift = {
        "traffic": "simulated",
        "control": "control",
        "srm": {"p_value": 0.5, "mismatch": False, "users": {"control": 500, "interleaved": 500}},
        "rows": [
            {"arm": "interleaved", "metric": "ctr", "relative": {"value": 0.5, "low": 0.4, "high": 0.6}}
        ],
        "interleaving": told,
    }
    (tmp_path / "lift.json").write_text(json.dumps(lift))
    (tmp_path / "drift.json").write_text('{"drifted": false}')
    plan = PlannedTest(days=1, users=None, kind="interleaving")
    verdict = decide_by_lift_and_drift(tmp_path / "drift.json", tmp_path / "lift.json", FIXED, plan=plan)
    assert verdict.action == "hold"
    assert "surely prefer the challenger's items" in verdict.reasons[0]
