import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from evidently.ui.workspace import Workspace

from contracts.errors import UserError
from contracts.tables import EXPOSURES, OUTCOMES
from monitoring.config import MonitoringConfig
from monitoring.lift.lift_report import report_lift

NOW = datetime(2025, 5, 1, tzinfo=UTC)
CONFIG = MonitoringConfig()


def experiment(
    seed: int, *, ctr: dict[str, float], users: int = 400, per_user: int = 10
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Exposures and outcomes of an experiment: `users` in each arm, each shown `per_user` items."""
    rng = np.random.default_rng(seed)
    rows = users * per_user * len(ctr)
    user = np.arange(rows) // per_user
    arms = np.array(list(ctr))[user // users]
    click = rng.random(rows) < np.array(list(ctr.values()))[user // users]
    order = click & (rng.random(rows) < 0.3)
    frame = pl.DataFrame(
        {
            "request_id": [f"r{number}" for number in user],
            "item_id": [f"i{number}" for number in range(rows)],
            "user_id": [f"u{number}" for number in user],
            "timestamp": [NOW] * rows,
            "arm": arms.tolist(),
            "click": click,
            "order": order,
            "revenue": np.where(order, 10.0, 0.0),
        }
    ).with_columns(
        model_version=pl.lit("m"),
        routed_version=pl.lit("m"),
        score=0.5,
        position=0,
        degraded=pl.lit([], dtype=pl.List(pl.String())),
    )
    return EXPOSURES.check_rows(frame), OUTCOMES.check_rows(frame)


def lift(
    folder: Path, exposures: pl.DataFrame, outcomes: pl.DataFrame, config: MonitoringConfig = CONFIG
) -> dict[str, Any]:
    exposures.write_parquet(folder / "exposures.parquet")
    outcomes.write_parquet(folder / "outcomes.parquet")
    paths = folder / "exposures.parquet", folder / "outcomes.parquet"
    report_lift(*paths, config, workspace=folder / "workspace", out=folder / "out")
    content: dict[str, Any] = json.loads((folder / "out" / "lift.json").read_text())
    return content


def row(lift_results: dict[str, Any], arm: str, metric: str) -> dict[str, Any]:
    (match,) = (entry for entry in lift_results["rows"] if (entry["arm"], entry["metric"]) == (arm, metric))
    return match


def test_a_real_lift_is_found_with_its_interval(tmp_path: Path) -> None:
    lift_results = lift(tmp_path, *experiment(1, ctr={"control": 0.1, "reaseq": 0.14}))
    relative = row(lift_results, "reaseq", "ctr")["relative"]
    assert 0.1 < relative["low"] < relative["value"] < relative["high"] < 0.7
    orders = row(lift_results, "reaseq", "orders_per_user")
    assert row(lift_results, "reaseq", "gmv_per_user")["value"]["value"] == pytest.approx(
        10 * orders["value"]["value"]
    )
    assert lift_results["srm"] == {
        "p_value": 1.0,
        "mismatch": False,
        "users": {"control": 400, "reaseq": 400},
        "intended": {"control": 400, "reaseq": 400},
    }


def test_the_report_says_whose_traffic_it_is_and_enters_the_workspace(tmp_path: Path) -> None:
    lift_results = lift(tmp_path, *experiment(1, ctr={"control": 0.1, "reaseq": 0.14}))
    html = (tmp_path / "out" / "report.html").read_text()
    assert "simulated traffic" in html
    assert "Click-through rate" in html
    assert lift_results["traffic"] == "simulated traffic"
    store = Workspace(str(tmp_path / "workspace"))
    (project,) = store.list_projects()
    (run_id,) = store.list_runs(project.id)
    assert "simulated traffic" in store.get_run(project.id, run_id).name


def test_users_seen_in_two_arms_are_left_out_and_counted(tmp_path: Path) -> None:
    exposures, outcomes = experiment(2, ctr={"control": 0.1, "b": 0.1})
    moved = exposures.with_columns(arm=pl.when(pl.col("item_id") == "i0").then(pl.lit("b")).otherwise("arm"))
    lift_results = lift(tmp_path, moved, outcomes)
    assert lift_results["users_in_several_arms"] == 1
    assert lift_results["srm"]["users"] == {"control": 399, "b": 400}


def test_an_exposure_without_outcome_is_no_click(tmp_path: Path) -> None:
    exposures, outcomes = experiment(3, ctr={"control": 0.2, "b": 0.2})
    lift_results = lift(tmp_path, exposures, outcomes.filter("click"))
    clicks = outcomes["click"][:4000].mean()
    assert row(lift_results, "control", "ctr")["value"]["value"] == pytest.approx(clicks)


def test_what_an_arm_left_to_the_fallback_counts_for_it_and_is_said(tmp_path: Path) -> None:
    exposures, outcomes = experiment(3, ctr={"control": 0.2, "b": 0.2})
    is_failed = (pl.col("arm") == "b") & (pl.col("user_id").str.ends_with("0"))
    failed = exposures.with_columns(
        model_version=pl.when(is_failed).then(pl.lit("fallback")).otherwise("model_version")
    )
    lift_results = lift(tmp_path, failed, outcomes)
    assert lift_results["srm"]["users"] == {"control": 400, "b": 400}
    assert lift_results["share_without_model"] == {"b": pytest.approx(0.1), "control": 0}


def test_without_any_order_nothing_is_invented(tmp_path: Path) -> None:
    exposures, outcomes = experiment(4, ctr={"control": 0.1, "b": 0.1})
    lift_results = lift(tmp_path, exposures, outcomes.with_columns(order=pl.lit(False), revenue=0.0))
    assert row(lift_results, "b", "orders_per_user")["relative"] == {"value": None, "low": None, "high": None}


def test_a_hostile_arm_name_stays_text(tmp_path: Path) -> None:
    name = "</script><script>alert(1)</script>"
    lift_results = lift(tmp_path, *experiment(5, ctr={"control": 0.1, name: 0.1}))
    html = (tmp_path / "out" / "report.html").read_text()
    assert name in lift_results["srm"]["users"]
    assert "alert(1)</script>" not in html
    assert "alert(1)" in html


def test_a_wrong_split_is_a_mismatch(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"arm_shares": {"control": 3.0, "b": 1.0}})
    lift_results = lift(tmp_path, *experiment(6, ctr={"control": 0.1, "b": 0.1}), config)
    assert lift_results["srm"]["mismatch"]


def test_user_errors_name_what_is_wrong(tmp_path: Path) -> None:
    exposures, outcomes = experiment(7, ctr={"control": 0.1, "b": 0.1}, users=3)
    with pytest.raises(UserError, match="control_arm 'a' was shown to no user"):
        lift(tmp_path, exposures, outcomes, MonitoringConfig(control_arm="a"))
    with pytest.raises(UserError, match=r"no share for \['b'\]"):
        lift(tmp_path, exposures, outcomes, MonitoringConfig(arm_shares={"control": 1}))
    with pytest.raises(UserError, match="not a table 'outcomes'"):
        lift(tmp_path, exposures, exposures)
    with pytest.raises(ValueError, match="not control_arm"):
        MonitoringConfig(arm_shares={"b": 1})
