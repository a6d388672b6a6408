import json
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from evidently.ui.workspace import Workspace

from contracts.artifacts import create_artifact, write_json, write_table
from contracts.errors import UserError
from contracts.tables import ANSWERS, EXPOSURES
from monitoring.dashboard.dashboard_content import Interval, gather_content
from monitoring.dashboard.publish_dashboard import PAGE_FILE, publish_dashboard
from monitoring.dashboard.svg_charts import draw_forest, draw_lines

DAYS = ("2025-05-01", "2025-05-02", "2025-05-03")
MARKUP = "</script><script>alert(1)</script>"


def drift_results() -> dict[str, Any]:
    days = [
        {
            "day": day,
            "drift": {"price": 0.4 + number / 2, "degraded missing": 0.0},
            "calibration": 1.0,
            "coverage": None,
            "requests": 100,
            "degraded": 0.1,
            "degraded_by": {"no_vector": 0.1},
        }
        for number, day in enumerate(DAYS)
    ]
    window = {"first": f"{DAYS[0]}T00:00:00", "last": f"{DAYS[2]}T00:00:00", "requests": 300}
    return {"days": days, "current": window, "reasons": ["price: dearer; look at ingest."], "drifted": True}


def lift_results(arm: str = "treatment") -> dict[str, Any]:
    interval = {"value": 0.05, "low": -0.01, "high": 0.11}
    row = {"metric": "ctr", "arm": arm, "users": 50, "relative": interval}
    nothing = {"value": None, "low": None, "high": None}
    control = {"metric": "ctr", "arm": "control", "users": 50, "relative": nothing}
    return {
        "traffic": "test traffic",
        "control": "control",
        "rows": [row, control],
        "by_day": [{"day": day, "metric": "ctr", "arm": arm, "relative": interval} for day in DAYS],
    }


def write_reports(
    folder: Path, *, drift: dict[str, Any], lift: dict[str, Any], reason: str = "too close to tell"
) -> list[Path]:
    """The four reports of one run: traffic, drift, lift, decision."""
    exposures = pl.DataFrame({"request_id": ["r"], "item_id": ["i"], "user_id": ["u"], "arm": ["control"]})
    with create_artifact(folder / "traffic", kind="traffic", inputs={}) as artifact:
        write_table(
            artifact.path / "exposures.parquet",
            EXPOSURES,
            exposures.with_columns(
                timestamp=pl.lit(datetime(2025, 5, 1, tzinfo=UTC)),
                model_version=pl.lit("abc"),
                routed_version=pl.lit("abc"),
                score=0.0,
                position=0,
                degraded=pl.lit([], dtype=pl.List(pl.String)),
            ),
        )
    for name, content in (("drift", drift), ("lift", lift)):
        with create_artifact(folder / name, kind=f"{name}_report", inputs={}) as artifact:
            write_json(artifact.path / f"{name}.json", content)
    decision = {"action": "hold", "arm": None, "retrain": True, "reasons": [reason]}
    write_json(folder / "decision", decision)
    return [folder / name for name in ("traffic", "drift", "lift", "decision")]


def publish(folder: Path, reports: list[Path]) -> str:
    publish_dashboard(*reports, workspace=folder / "workspace", out=folder / "dashboard")
    return (folder / "dashboard" / PAGE_FILE).read_text()


def test_a_page_tells_decision_lift_drift_quality_service_and_lineage(tmp_path: Path) -> None:
    page = publish(tmp_path, write_reports(tmp_path, drift=drift_results(), lift=lift_results()))
    text = re.sub("<[^>]+>", " ", page)
    for part in ("hold, retrain", "too close to tell", "+5.0% [-1.0%, +11.0%]", "look at ingest"):
        assert part in text
    assert [
        name
        for name in ("Decision", "Lift", "Drift", "Quality", "Service", "Lineage")
        if f"<h2>{name}" in page
    ]
    assert "ranker of arm control" in text
    assert page.count("<polyline") >= 5
    assert all(len(points.split()) == len(DAYS) for points in re.findall('<polyline points="([^"]*)"', page))
    assert "<script" not in page
    assert not re.search(r"(src|href)=\"(?!#)", page), "nothing is loaded from elsewhere"


def test_every_day_is_a_snapshot_and_every_panel_has_a_line(tmp_path: Path) -> None:
    reports = write_reports(tmp_path, drift=drift_results(), lift=lift_results())
    publish(tmp_path, reports)
    publish(tmp_path, reports)
    store = Workspace(str(tmp_path / "workspace"))
    (project,) = store.list_projects()
    snapshots = [store.get_run(project.id, run_id) for run_id in store.list_runs(project.id)]
    days = sorted(snapshot.timestamp.date() for snapshot in snapshots if snapshot.name.startswith("day"))
    assert days == [date.fromisoformat(day) for day in DAYS], "again is not twice"
    dashboard = project.dashboard.model()
    assert [tab.title for tab in dashboard.tabs] == ["Decision", "Lift", "Drift", "Quality", "Service"]
    drawn = "".join(snapshot.json() for snapshot in snapshots)
    asked = {value.metric_labels["subject"] for panel in dashboard.panels for value in panel.values}
    assert asked
    assert all(json.dumps(subject) in drawn for subject in asked), "no chart is empty"
    assert {"Quality: Clicks over promised clicks", "Service: Degraded by no_vector"} <= asked
    assert not any("Share of the catalogue" in subject for subject in asked), "what is not known is not drawn"


def test_text_of_people_and_data_is_no_markup(tmp_path: Path) -> None:
    drift = drift_results()
    drift["reasons"] = [MARKUP]
    drift["days"][0]["degraded_by"] = {MARKUP: 0.5}
    page = publish(tmp_path, write_reports(tmp_path, drift=drift, lift=lift_results(MARKUP), reason=MARKUP))
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page
    stored = "".join(
        path.read_text() for path in (tmp_path / "workspace").rglob("*.json") if "snapshot" in str(path)
    )
    assert "<script>alert(1)" not in stored


def test_reports_that_tell_little_still_make_a_page(tmp_path: Path) -> None:
    page = publish(tmp_path, write_reports(tmp_path, drift={"drifted": False}, lift={"srm": {}}))
    assert "No lift was measured" in page
    assert "Nothing has drifted" in page


def test_a_report_that_is_none_is_refused(tmp_path: Path) -> None:
    reports = write_reports(tmp_path, drift=drift_results(), lift=lift_results())
    reports[3].write_text("[]")
    with pytest.raises(UserError, match="is not a report"):
        gather_content(*reports)


def test_the_deciding_interval_is_shown(tmp_path: Path) -> None:
    lift = lift_results()
    lift["rows"][0]["deciding"] = {"value": 0.05, "low": -0.2, "high": 0.3}
    content = gather_content(*write_reports(tmp_path, drift=drift_results(), lift=lift))
    assert [line.relative for line in content.lifts] == [Interval(0.05, -0.2, 0.3)]


def test_charts_of_zeros_and_of_unknown_bounds_are_drawn() -> None:
    flat = draw_lines({"nothing": {date(2025, 5, 1): 0.0, date(2025, 5, 2): 0.0}}, title="flat")
    assert flat.count("<circle") == 2
    assert "nan" not in flat
    forest = draw_forest(
        [("arm", Interval(0.1, None, None)), ("other", Interval(None, None, None))], title="t"
    )
    assert forest.count("<circle") == 1
    assert json.dumps(forest)


def write_answers(folder: Path, *, latency_ms: float | None) -> None:
    """Two arms on three days: control fails once, treatment is degraded half of the time."""
    rows = [
        {
            "request_id": f"{arm}{day}{number}",
            "timestamp": datetime.fromisoformat(day).replace(tzinfo=UTC),
            "arm": arm,
            "routed_version": "abc",
            "latency_ms": latency_ms and latency_ms * (number + 1),
            "failure": "KeyError" if (arm, day, number) == ("control", DAYS[1], 0) else None,
            "degraded": ["no_vector"] if arm == "treatment" and number % 2 else [],
        }
        for arm in ("control", "treatment")
        for day in DAYS
        for number in range(4)
    ]
    write_table(folder / "traffic" / "answers.parquet", ANSWERS, ANSWERS.check_rows(pl.DataFrame(rows)))


def test_service_tells_latency_failures_and_degraded_answers_by_day_and_arm(tmp_path: Path) -> None:
    reports = write_reports(tmp_path, drift=drift_results(), lift=lift_results())
    write_answers(tmp_path, latency_ms=10.0)
    page = publish(tmp_path, reports)
    content = gather_content(*reports)
    service, middle = content.series["Service"], date.fromisoformat(DAYS[1])
    assert service["Milliseconds to the answer: treatment: p50"][middle] == 25.0
    assert service["Milliseconds to the answer: control: p99"][middle] == pytest.approx(39.8)
    failed = "Failed requests by cause (share)"
    assert service[f"{failed}: control: KeyError"] == {
        date.fromisoformat(day): float(day == DAYS[1]) / 4 for day in DAYS
    }
    assert set(service[f"{failed}: treatment: none failed"].values()) == {0.0}
    degraded = "Degraded answers by cause (share)"
    assert set(service[f"{degraded}: treatment: no_vector"].values()) == {0.5}
    assert service["Requests: control"][middle] == 4
    assert all(
        lines and all(service[line] for line in lines) for lines in content.list_charts("Service").values()
    )
    text = re.sub("<[^>]+>", " ", page)
    assert "24 requests, 1 of them failed (1 KeyError)" in text
    assert all(f">{title}</figcaption>" in page for title in content.list_charts("Service"))
    dashboard = Workspace(str(tmp_path / "workspace")).list_projects()[0].dashboard.model()
    panels = {panel.title: panel for panel in dashboard.panels}
    assert [value.legend for value in panels["Milliseconds to the answer: control"].values] == [
        "p50",
        "p95",
        "p99",
    ]


def test_a_log_without_latency_says_so_and_draws_the_rest(tmp_path: Path) -> None:
    reports = write_reports(tmp_path, drift=drift_results(), lift=lift_results())
    assert "collected without the answers" in publish(tmp_path, reports)
    write_answers(tmp_path, latency_ms=None)
    content = gather_content(*reports)
    assert any("Latency is not in the log" in note for note in content.service_notes)
    assert not any("Milliseconds" in title for title in content.list_charts("Service"))
    assert "Requests" in content.list_charts("Service")


def test_slices_show_click_through_and_metrics_of_ones_own(tmp_path: Path) -> None:
    lift = lift_results() | {"titles": {"ctr": "Click-through rate", "carts": "Carts per user"}}
    lift["by_slice"] = [
        {
            "kind": "scene",
            "slice": "home",
            "metric": metric,
            "arm": "treatment",
            "relative": lift["rows"][0]["relative"],
        }
        for metric in ("ctr", "conversion", "carts")
    ]
    content = gather_content(*write_reports(tmp_path, drift=drift_results(), lift=lift))
    assert [line.title for line in content.slices] == ["Click-through rate", "Carts per user"]
