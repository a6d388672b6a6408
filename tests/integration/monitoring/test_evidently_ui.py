"""The reports open in Evidently's real UI."""

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from contracts.tables import EXPOSURES, OUTCOMES
from monitoring.config import MonitoringConfig
from monitoring.drift import report_drift
from monitoring.features import SERVING_FEATURES
from monitoring.lift import report_lift
from monitoring.workspace import ui_command

pytestmark = pytest.mark.integration
START_S = 120


def tables(rows: int = 4000) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Exposures, outcomes and serving features of a small experiment."""
    rng = np.random.default_rng(0)
    user = np.arange(rows) // 10
    click = rng.random(rows) < 0.1
    moment = [datetime(2025, 5, 1, tzinfo=UTC) + timedelta(minutes=int(number)) for number in user]
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
    features = frame.with_columns(degraded=0.0)
    return EXPOSURES.check(frame), OUTCOMES.check(frame), SERVING_FEATURES.check(features)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("monitoring")
    paths = [folder / name for name in ("exposures.parquet", "outcomes.parquet", "features.parquet")]
    for path, table in zip(paths, tables(), strict=True):
        table.write_parquet(path)
    workspace, config = folder / "workspace", MonitoringConfig()
    report_lift(paths[0], paths[1], config, workspace=workspace, out=folder / "lift")
    report_drift(paths[2], paths[2], config, workspace=workspace, out=folder / "drift")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "DO_NOT_TRACK": "1"}
    with subprocess.Popen(ui_command(workspace, port=port), env=environment) as server:
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


def test_project_dashboard_and_both_snapshots_are_served(address: str) -> None:
    (project,) = get(f"{address}/api/projects")
    assert project["name"] == "reaseq"
    runs = get(f"{address}/api/projects/{project['id']}/reports")
    dashboard = get(f"{address}/api/v2/dashboards/{project['id']}")
    names = {run["name"] or "" for run in runs}
    assert len(runs) == 2
    assert all("simulated traffic" in name for name in names), runs
    assert [tab["title"] for tab in dashboard["tabs"]] == ["Lift", "Drift"]


def test_own_metrics_are_drawn_by_the_ui(address: str) -> None:
    (project,) = get(f"{address}/api/projects")
    for run in get(f"{address}/api/projects/{project['id']}/reports"):
        page = json.dumps(get(f"{address}/api/projects/{project['id']}/{run['id']}/data"))
        assert "simulated traffic" in page
        assert ("Click-through rate" in page) != ("Item vector drift" in page)


def test_dashboard_panels_find_their_series(address: str) -> None:
    (project,) = get(f"{address}/api/projects")
    dashboard = get(f"{address}/api/v2/dashboards/{project['id']}")
    fields = ("tags", "metadata", "metric", "metric_labels")
    wanted = [{name: value[name] for name in fields} for panel in dashboard["panels"] for value in panel["values"]]
    body = json.dumps({"series_filter": wanted}).encode()
    url = f"{address}/api/v2/snapshots/{project['id']}/data_series_batch"
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        series = json.loads(answer.read())["series"]
    drawn = {line["metric_type"].rpartition(":")[2] for line in series}
    assert {"RelativeLift", "SampleRatio", "ItemVectorDrift", "ValueDrift"} <= drawn
