"""CUPED: as tea-tasting has it, at its level, and only where users have a history."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tea_tasting as tt

from contracts.tables import EVENTS, EXPOSURES, OUTCOMES
from monitoring.config import MonitoringConfig
from monitoring.lift.deciding_lift import ArmUsers, estimate_cuped_lift
from monitoring.lift.history_adjustment import adjust_by_history, build_covariates
from monitoring.lift.lift_report import measure_lift
from monitoring.lift.lift_statistics import UNKNOWN, estimate_absolute_lift
from monitoring.lift.outlier_users import UserValues

START = datetime(2025, 5, 1, tzinfo=UTC)
FIXED = MonitoringConfig(decide_by="fixed_horizon", cuped="decides")


def draw_users(rng: np.random.Generator, users: int, *, share_with_history: float = 1.0) -> ArmUsers:
    """Heavy-tailed amounts of users whose taste lasts; some are new."""
    taste = rng.lognormal(0, 1, users)
    before, during = (rng.poisson(taste * 3) * rng.lognormal(0, 0.5, users) for _ in range(2))
    has_history = rng.random(users) < share_with_history
    # About the mean of all, and not of the arm: that would take away what CUPED takes into account.
    past = np.where(has_history, before - 5.6, 0.0)
    covariates = np.column_stack([past, has_history.astype(float)])
    return ArmUsers(UserValues(during, np.ones(users)), covariates)


def test_with_one_covariate_it_is_tea_tastings_estimate() -> None:
    rng = np.random.default_rng(5)
    arms = [draw_users(rng, users) for users in (700, 900)]
    frame = pl.concat(
        pl.DataFrame({"variant": number, "y": arm.values.numerator, "x": arm.covariates[:, 0]})
        for number, arm in enumerate(arms)
        if arm.covariates is not None
    )
    theirs = tt.Experiment({"y": tt.Mean("y", covariate="x")}).analyze(frame)["y"]
    control, challenger = arms
    assert control.covariates is not None
    assert challenger.covariates is not None
    adjusted = adjust_by_history(
        challenger.values, control.values, challenger.covariates[:, :1], control.covariates[:, :1]
    )
    assert adjusted is not None
    ours = estimate_absolute_lift(*adjusted, confidence=0.95)
    assert ours.value == pytest.approx(theirs.effect_size, rel=1e-9)
    assert ours.low == pytest.approx(theirs.effect_size_ci_lower, rel=1e-9)
    assert ours.high == pytest.approx(theirs.effect_size_ci_upper, rel=1e-9)


@pytest.mark.parametrize("share_with_history", [1.0, 0.5])
def test_it_holds_its_level_in_aa_tests(share_with_history: float) -> None:
    rng = np.random.default_rng(11)
    num_tests, num_wrong = 400, 0
    for _ in range(num_tests):
        arms = [draw_users(rng, 800, share_with_history=share_with_history) for _ in range(2)]
        lift, _ = estimate_cuped_lift(*arms, FIXED, confidence=0.95)
        assert lift.low is not None
        assert lift.high is not None
        num_wrong += lift.low > 0 or lift.high < 0
    # 5 %, and three standard deviations of 400 draws on either side.
    assert 0.017 < num_wrong / num_tests < 0.083


def test_it_is_narrower_where_taste_lasts_and_harmless_where_it_does_not() -> None:
    rng = np.random.default_rng(3)
    arms = [draw_users(rng, 4000) for _ in range(2)]
    plain = [ArmUsers(arm.values, None if arm.covariates is None else arm.covariates * 0 + 1) for arm in arms]
    _, with_history = estimate_cuped_lift(*arms, FIXED, confidence=0.95)
    _, without = estimate_cuped_lift(*plain, FIXED, confidence=0.95)
    assert with_history is not None
    assert without is not None
    assert with_history < 0.9 * without


def test_a_user_without_history_is_no_user_who_did_nothing() -> None:
    """New users buy more here. Arms of unequal shares of them must not look like a lift."""
    rng = np.random.default_rng(7)
    arms = []
    for share_new in (0.3, 0.5):
        is_new = rng.random(20_000) < share_new
        past = np.where(is_new, 0.0, rng.normal(0, 1, 20_000))
        values = np.where(is_new, 30.0, 10.0 + past) + rng.normal(0, 1, 20_000)
        covariates = np.column_stack([past, (~is_new).astype(float)])
        arms.append(ArmUsers(UserValues(values, np.ones(20_000)), covariates))
    lift, _ = estimate_cuped_lift(arms[1], arms[0], FIXED, confidence=0.95)
    assert lift.value == pytest.approx(0, abs=0.01)


def test_few_histories_and_silent_arms_are_left_to_the_plain_estimate() -> None:
    rng = np.random.default_rng(2)
    few = [draw_users(rng, 500, share_with_history=0.1) for _ in range(2)]
    assert estimate_cuped_lift(*few, FIXED, confidence=0.95) == (UNKNOWN, None)
    control = draw_users(rng, 500)
    silent = control._replace(values=UserValues(np.zeros(500), np.ones(500)))
    assert estimate_cuped_lift(silent, control, FIXED, confidence=0.95) == (UNKNOWN, None)


def test_covariates_are_capped_centered_and_zero_without_history() -> None:
    users = pl.DataFrame({"user": [1, 2, 3, 4]})
    history = pl.DataFrame({"user": [1, 2, 3, 9], "clicks": [1.0, 3.0, 5.0, 9.0]}).with_columns(
        impressions=pl.lit(10.0),
        orders=pl.lit(0.0),
        gmv=pl.lit(0.0),
        converted=pl.lit(0.0),
        users=pl.lit(1.0),
    )
    covariates = build_covariates(users, history, "ipv_per_user", MonitoringConfig())
    assert covariates[:, 1].tolist() == [1, 1, 1, 0]
    assert covariates[:3, 0].sum() == pytest.approx(0)
    assert covariates[3, 0] == 0


def write_experiment(folder: Path, *, users: int = 1200, has_history: bool = True) -> dict[str, Path]:
    """A user's number says how often they click; item `c` was never seen before."""
    rng = np.random.default_rng(1)
    taste = rng.beta(1, 4, users)
    pages = pl.DataFrame(
        {
            "user": np.repeat(np.arange(users), 8),
            "place": np.tile(np.arange(8), users),
            "click": rng.random(users * 8) < np.repeat(taste, 8),
        }
    )
    rows = pages.select(
        "click",
        request_id=pl.format("r{}", "user"),
        item_id=pl.when(pl.col("place") == 0).then(pl.lit("c")).otherwise(pl.format("i{}", "place")),
        user_id=pl.format("u{}", "user"),
        timestamp=pl.lit(START) + pl.duration(minutes="user"),
        arm=pl.when(pl.col("user") % 2 == 0).then(pl.lit("control")).otherwise(pl.lit("new")),
        order=(pl.col("place") == 1) & pl.col("click"),
        model_version=pl.lit("m"),
        routed_version=pl.lit("m"),
        score=0.5,
        position=pl.col("place").cast(pl.Int32),
        degraded=pl.lit([], dtype=pl.List(pl.String())),
    ).with_columns(
        revenue=pl.col("order") * 10.0, orders_without_price=(pl.col("order") & (pl.col("arm") == "new"))
    )
    rows = rows.with_columns(pl.col("orders_without_price").cast(pl.Int32))
    paths = {name: folder / f"{name}.parquet" for name in ("exposures", "outcomes")}
    EXPOSURES.check_rows(rows).write_parquet(paths["exposures"])
    OUTCOMES.check_rows(rows).write_parquet(paths["outcomes"])
    if has_history:
        past = pages.filter(pl.col("place") > 0).select(
            user_id=pl.format("u{}", "user"),
            item_id=pl.format("i{}", "place"),
            timestamp=pl.lit(START) - pl.duration(days=2, minutes="place"),
            clicked=pl.Series(rng.random(users * 7) < np.repeat(taste, 7)),
        )
        shown = past.with_columns(event_type=pl.lit("impression"))
        clicked = past.filter("clicked").with_columns(
            event_type=pl.lit("click"), timestamp=pl.col("timestamp") + timedelta(seconds=5)
        )
        paths["history"] = folder / "history.parquet"
        EVENTS.check_rows(pl.concat([shown, clicked])).write_parquet(paths["history"])
    return paths


def measure(paths: dict[str, Path], **values: Any) -> dict[str, Any]:
    _, summary = measure_lift(config=MonitoringConfig(**values), **paths)
    return json.loads(json.dumps(summary, default=str, allow_nan=False))  # type: ignore[no-any-return]


def find_row(summary: dict[str, Any], metric: str) -> dict[str, Any]:
    (row,) = (row for row in summary["rows"] if (row["arm"], row["metric"]) == ("new", metric))
    return row  # type: ignore[no-any-return]


def test_it_stands_beside_the_plain_estimate_unless_told_to_decide(tmp_path: Path) -> None:
    paths = write_experiment(tmp_path)
    beside, deciding = measure(paths), measure(paths, cuped="decides")
    for metric in ("ipv_per_user", "ctr"):
        row, decided = find_row(beside, metric), find_row(deciding, metric)
        assert row["cuped"] == decided["cuped"] == decided["deciding"] != row["deciding"]
        assert (row["is_decided_by_cuped"], decided["is_decided_by_cuped"]) == (False, True)
        assert row["cuped_detectable"] < row["detectable"]
    assert beside["share_with_history"] == 1


def test_without_a_history_nothing_changes(tmp_path: Path) -> None:
    plain = measure(write_experiment(tmp_path, has_history=False), cuped="decides")
    row = find_row(plain, "ctr")
    assert row["cuped"] == {"value": None, "low": None, "high": None}
    assert not row["is_decided_by_cuped"]
    assert "share_with_history" not in plain
    assert not [row for row in plain["by_slice"] if row["kind"] == "item"]
    assert find_row(measure(write_experiment(tmp_path), cuped="off"), "ctr")["cuped"]["value"] is None


def test_cold_items_are_a_slice_of_all_users(tmp_path: Path) -> None:
    summary = measure(write_experiment(tmp_path))
    rows = {
        row["slice"]: row for row in summary["by_slice"] if (row["kind"], row["metric"]) == ("item", "ctr")
    }
    assert set(rows) == {"cold", "known"}
    assert {row["users"] for row in rows.values()} == {600}
    everything = measure(write_experiment(tmp_path), cold_impressions=10_000)
    assert not [
        row
        for row in everything["by_slice"]
        if row["kind"] == "item" and row["slice"] == "known" and row["relative"]["value"] is not None
    ]


def test_orders_without_a_price_are_counted_by_arm(tmp_path: Path) -> None:
    summary = measure(write_experiment(tmp_path))
    assert summary["orders_without_price"]["control"] == 0
    assert summary["orders_without_price"]["new"] > 20
