"""Alerts and dashboards ask only for metrics that something exports."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
RULES = yaml.safe_load((ROOT / "infra/prometheus/rules.yaml").read_text())["groups"]
DASHBOARDS = sorted((ROOT / "infra/grafana").glob("*.json"))
# What BentoML 1.4 and Triton 2.51 export under /metrics, as far as it is used here.
FOREIGN = {
    "bentoml_service_request_total",
    "nv_inference_request_success",
    "nv_inference_request_failure",
    "nv_inference_queue_duration_us",
    "nv_inference_compute_infer_duration_us",
    "up",
}


def rules() -> Iterator[dict[str, Any]]:
    for group in RULES:
        yield from group["rules"]


def dashboard_queries(path: Path) -> list[str]:
    return [target["expr"] for panel in json.loads(path.read_text())["panels"] for target in panel["targets"]]


def all_queries() -> list[str]:
    return [rule["expr"] for rule in rules()] + [
        query for path in DASHBOARDS for query in dashboard_queries(path)
    ]


def metrics(query: str) -> set[str]:
    """The metric names in a PromQL expression."""
    bare = re.sub(r'"[^"]*"|\[[^]]*\]', "", query)
    bare = re.sub(r"\{[^}]*\}|\b(by|on|group_left)\s*\([^)]*\)", "", bare)
    return set(re.findall(r"\b(?:reaseq|bentoml|nv)[\w:]*|\bup\b", bare))


def own_metrics() -> set[str]:
    """The gateway's own metrics, as its sources name them."""
    sources = "".join(path.read_text() for path in (ROOT / "serving").rglob("*.py"))
    names = set(re.findall(r'"(reaseq_\w+)"', sources))
    # A histogram shows up as three series.
    return names | {name + suffix for name in names for suffix in ("_bucket", "_sum", "_count")}


def test_queries_use_known_metrics_only() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = set().union(*map(metrics, all_queries()))
    own = {name for name in used - recorded - FOREIGN if name.startswith("reaseq_")}
    assert used - recorded - FOREIGN == own
    assert own <= own_metrics(), f"the gateway exports {sorted(own_metrics())}"


@pytest.mark.parametrize("query", all_queries())
def test_brackets_are_balanced(query: str) -> None:
    for opening, closing in ("()", "[]", "{}"):
        assert query.count(opening) == query.count(closing)


def test_no_query_depends_on_how_prometheus_finds_its_targets() -> None:
    """A scrape by annotations gives `app_kubernetes_io_name`, kube-prometheus-stack `service`."""
    target_label = re.compile(r"\b(app_kubernetes_io_\w+|kubernetes_\w+|service|container)\s*[=!]")
    for query in all_queries():
        assert not re.search(r"\bup\b", query), query
        assert not target_label.search(query), query


def test_alerts_fire_and_stay_silent() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    tests = ROOT / "infra/prometheus/rules_test.yaml"
    done = subprocess.run([promtool, "test", "rules", str(tests)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_says_how_bad_it_is_and_what_to_do() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert alerts
    for alert in alerts:
        assert alert["labels"]["severity"] in {"page", "ticket"}
        assert {"summary", "action"} == alert["annotations"].keys()
        assert "for" in alert


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_have_ids_of_their_own_and_do_not_overlap(path: Path) -> None:
    panels = json.loads(path.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
