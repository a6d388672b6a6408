"""The experiment's table: words that a manager understands, and the truth beside the measurement."""

import json
from pathlib import Path

import polars as pl
import pytest

from reaseq.report import print_experiment


def _row(arm: str, metric: str, value: float, relative: tuple[float | None, float | None, float | None]):
    bounds = ("value", "low", "high")
    return {
        "arm": arm,
        "metric": metric,
        "value": dict(zip(bounds, (value, None, None), strict=True)),
        "relative": dict(zip(bounds, relative, strict=True)),
    }


@pytest.fixture
def lift_report(tmp_path: Path) -> Path:
    changes = {
        "ipv_per_user": (0.2, 0.1, 0.3),
        "ctr": (-0.2, -0.3, -0.1),
        "orders_per_user": (0.1, -0.2, 0.4),
        "gmv_per_user": (None, None, None),
    }
    rows = [
        row
        for metric, change in changes.items()
        for row in (_row("control", metric, 1.0, (None, None, None)), _row("reaseq", metric, 1.2, change))
    ]
    users = {"control": 1000, "reaseq": 1010}
    content = {
        "traffic": "simulated traffic",
        "control": "control",
        "confidence": 0.95,
        "srm": {"users": users},
        "rows": rows,
    }
    (tmp_path / "lift.json").write_text(json.dumps(content))
    return tmp_path


def test_every_metric_has_a_verdict_and_its_truth(
    lift_report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = pl.DataFrame(
        {"arm": ["control", "reaseq"], "clicks": [1.0, 1.25], "orders": [0.2, 0.2], "gmv": [10.0, 5.0]}
    )
    truth.write_parquet(tmp_path / "truth.parquet")
    print_experiment(lift_report, tmp_path / "truth.parquet")
    printed = capsys.readouterr().out
    lines = {line.strip().split("  ")[0]: line for line in printed.splitlines() if line.startswith("  ")}
    assert "+20.0% [+10.0%, +30.0%]" in lines["item pages viewed per user (IPV)"]
    assert "surely more" in lines["item pages viewed per user (IPV)"]
    assert lines["item pages viewed per user (IPV)"].endswith("+25.0%")
    assert "surely less" in lines["click-through rate"]
    assert "too close to tell" in lines["orders per user"]
    assert lines["sales per user (GMV)"].endswith("-50.0%")
    assert "simulated traffic: arm 'reaseq' (1,010 users)" in printed


def test_without_a_simulation_there_is_no_truth(
    lift_report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_experiment(lift_report, tmp_path / "missing.parquet")
    assert "true change:" not in capsys.readouterr().out


def test_the_interval_that_decides_is_the_one_that_is_printed(
    lift_report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((lift_report / "lift.json").read_text())
    for row in content["rows"]:
        if (row["arm"], row["metric"]) == ("reaseq", "ipv_per_user"):
            row |= {"deciding": {"value": 0.2, "low": -0.1, "high": 0.5}, "detectable": 0.35}
    (lift_report / "lift.json").write_text(json.dumps(content))
    print_experiment(lift_report, tmp_path / "no_truth.parquet")
    line = next(line for line in capsys.readouterr().out.splitlines() if "(IPV)" in line)
    assert "+20.0% [-10.0%, +50.0%]" in line
    assert "too close to tell (sees 35.0% and more)" in line
