"""The reports open in Evidently's real UI, and a person finds no empty chart there."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from contracts.artifacts import create_artifact, write_table
from contracts.tables import ANSWERS, EXPOSURES, OUTCOMES
from monitoring.config import MonitoringConfig
from monitoring.dashboard.publish_dashboard import PAGE_FILE, publish_dashboard
from monitoring.dashboard.service_figures import ANSWERS_FILE
from monitoring.decision_rule import decide_by_lift_and_drift
from monitoring.drift.drift_report import report_drift
from monitoring.drift.served_features import SERVING_FEATURES
from monitoring.evidently_workspace import build_ui_command
from monitoring.lift.lift_report import report_lift

pytestmark = pytest.mark.integration
START_S = 120


def tables(rows: int = 4000) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Exposures, outcomes and serving features of a small experiment."""
    rng = np.random.default_rng(0)
    user = np.arange(rows) // 10
    click = rng.random(rows) < 0.1
    moment = [datetime(2025, 5, 1, tzinfo=UTC) + timedelta(minutes=int(number) * 10) for number in user]
    frame = pl.DataFrame(
        {
            "request_id": [f"r{number}" for number in user],
            "item_id": [f"i{number}" for number in range(rows)],
            "user_id": [f"u{number}" for number in user],
            "timestamp": moment,
            "arm": np.where(user % 2 == 0, "control", "reaseq").tolist(),
            "click": click,
            "order": click,
            "revenue": np.where(click, 5.0, 0.0),
            "score": rng.normal(size=rows),
        }
    ).with_columns(
        model_version=pl.lit("m"),
        routed_version=pl.lit("m"),
        position=0,
        degraded=pl.lit([], dtype=pl.List(pl.String())),
        history_length=3.0,
        inferred_length=2.0,
        price=5.0,
        embedding=pl.Series(rng.standard_normal((rows, 4)).tolist(), dtype=pl.List(pl.Float32())),
    )
    features = frame.with_columns(degraded=0.0, category=pl.lit("Toys"))
    return EXPOSURES.check_rows(frame), OUTCOMES.check_rows(frame), SERVING_FEATURES.check_rows(features)


def list_answers(exposures: pl.DataFrame) -> pl.DataFrame:
    """An answer in 5 to 30 ms for each page; one in fifty failed."""
    pages = exposures.unique("request_id", keep="first", maintain_order=True).with_row_index()
    return ANSWERS.check_rows(
        pages.with_columns(
            latency_ms=5.0 + pl.col("index") % 26,
            failure=pl.when(pl.col("index") % 50 == 0).then(pl.lit("KeyError")),
        )
    )


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of the monitor pipeline's library calls."""
    folder = tmp_path_factory.mktemp("monitoring")
    with create_artifact(folder / "traffic", kind="traffic", inputs={}) as artifact:
        for name, table in zip(("exposures", "outcomes", "features"), tables(), strict=True):
            table.write_parquet(artifact.path / f"{name}.parquet")
        write_table(artifact.path / ANSWERS_FILE, ANSWERS, list_answers(tables()[0]))
    traffic, workspace, config = folder / "traffic", folder / "workspace", MonitoringConfig()
    exposures, outcomes, features = (
        traffic / f"{name}.parquet" for name in ("exposures", "outcomes", "features")
    )
    report_lift(exposures, outcomes, config, workspace=workspace, out=folder / "lift")
    report_drift(features, features, config, workspace=workspace, out=folder / "drift")
    decision = decide_by_lift_and_drift(
        folder / "drift" / "drift.json", folder / "lift" / "lift.json", config
    )
    (folder / "decision").write_text(decision.model_dump_json())
    parts = [folder / name for name in ("traffic", "drift", "lift", "decision")]
    publish_dashboard(*parts, workspace=workspace, out=folder / "dashboard")
    return folder


@pytest.fixture(scope="module")
def address(reports: Path) -> Iterator[str]:
    workspace = reports / "workspace"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "DO_NOT_TRACK": "1"}
    with subprocess.Popen(build_ui_command(workspace, port=port), env=environment) as server:
        try:
            wait_for(f"http://127.0.0.1:{port}/api/version", server)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert server.poll() is None, "the UI ended at start"
        try:
            get(url)
        except OSError:
            time.sleep(0.5)
        else:
            return
    pytest.fail(f"no answer from {url} in {START_S} s")


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.loads(answer.read())


def test_project_dashboard_and_a_snapshot_a_day_are_served(address: str) -> None:
    (project,) = get(f"{address}/api/projects")
    assert project["name"] == "reaseq"
    runs = get(f"{address}/api/projects/{project['id']}/reports")
    dashboard = get(f"{address}/api/v2/dashboards/{project['id']}")
    names = sorted((run["name"] or "").split(" (")[0] for run in runs)
    assert names[:3] == ["day 2025-05-01", "day 2025-05-02", "day 2025-05-03"]
    assert all("simulated traffic" in run["name"] for run in runs), runs
    assert len({run["timestamp"] for run in runs if run["name"].startswith("day")}) == 3
    tabs = [tab["title"] for tab in dashboard["tabs"]]
    assert tabs == ["Decision", "Lift", "Drift", "Quality", "Service"]


def test_own_metrics_are_drawn_by_the_ui(address: str) -> None:
    (project,) = get(f"{address}/api/projects")
    pages = {
        run["name"].split(" ")[0]: json.dumps(get(f"{address}/api/projects/{project['id']}/{run['id']}/data"))
        for run in get(f"{address}/api/projects/{project['id']}/reports")
    }
    assert "Click-through rate" in pages["lift"]
    assert "What has drifted" in pages["drift"]
    assert "lift over control" in pages["overview"]


def test_dashboard_panels_find_their_series(address: str) -> None:
    (project,) = get(f"{address}/api/projects")
    dashboard = get(f"{address}/api/v2/dashboards/{project['id']}")
    fields = ("tags", "metadata", "metric", "metric_labels")
    series_filters = [
        {name: value[name] for name in fields} for panel in dashboard["panels"] for value in panel["values"]
    ]
    body = json.dumps({"series_filter": series_filters}).encode()
    url = f"{address}/api/v2/snapshots/{project['id']}/data_series_batch"
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        series = json.loads(answer.read())["series"]
    drawn = {line["metric_type"].rpartition(":")[2] for line in series}
    assert drawn == {"NamedFigure"}
    assert len(series) >= len(series_filters), "every line of every panel has its series"
    assert all(len(line["values"]) >= 2 for line in series), "a line needs two days"


def run_browser(*options: str) -> str:
    """What a real browser prints of a page, after its scripts have run."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on the path")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=30000"]
    return subprocess.run([*command, *options], capture_output=True, text=True, timeout=180).stdout


def read_text(page: str) -> str:
    """The words that a person reads."""
    without_scripts = re.sub(r"<(script|style)[^>]*>.*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", without_scripts))


def test_a_person_reads_decision_and_charts_in_the_browser(address: str, tmp_path: Path) -> None:
    (project,) = get(f"{address}/api/projects")
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    page = run_browser(profile, "--dump-dom", f"{address}/projects/{project['id']}")
    text = read_text(page)
    for words in ("Decision: hold", "Made from", "Lift over control by day", "Nothing has drifted"):
        assert words in text
    dashboard = get(f"{address}/api/v2/dashboards/{project['id']}")
    charts = [panel["title"] for panel in dashboard["panels"] if panel["values"]]
    assert len(charts) >= 8
    assert {"Milliseconds to the answer: control", "Failed requests by cause (share)"} <= set(charts)
    assert all(title in text for title in charts)
    assert "No data" not in text
    # Each chart draws its marks: an empty one has axes only.
    assert len(re.findall("<circle", page)) >= 2 * len(charts)


def test_the_static_page_is_readable_without_a_script(reports: Path, tmp_path: Path) -> None:
    path = reports / "dashboard" / PAGE_FILE
    assert "<script" not in path.read_text()
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    page = run_browser(profile, "--dump-dom", path.as_uri())
    text = read_text(page)
    for words in (
        "Decision",
        "Click-through rate: lift over control",
        "Nothing has drifted",
        "Lineage",
        "failed (8 KeyError)",
    ):
        assert words in text
    for points in re.findall('<polyline points="([^"]*)"', page):
        assert len(points.split()) >= 2, "no chart is empty"
