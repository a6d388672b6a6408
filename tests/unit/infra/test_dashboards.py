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

from infra.check_alerts import SCHEMES, check_alert, list_alerts, read_cases

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


needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not there (scripts/get_tools.sh)"
)


def test_each_alert_has_cases_and_each_case_an_alert() -> None:
    assert set(list_alerts()) == read_cases().keys()


@needs_promtool
@pytest.mark.parametrize("alert", list_alerts())
def test_an_alert_fires_and_stays_silent_however_targets_are_found(alert: str) -> None:
    for scheme in SCHEMES:
        assert check_alert(alert, scheme) is None


@needs_promtool
@pytest.mark.parametrize(
    ("old", "new", "alert"),
    [
        (
            "absent(reaseq_rank_seconds_count)",
            'absent(up{app_kubernetes_io_name="gateway"} == 1)',
            "GatewayDown",
        ),
        ("absent(reaseq_rank_seconds_count)", "absent(reaseq_rank_seconds_sum)", "GatewayDown"),
        ("> 0.01", "> 0.001", "RankErrors"),
        ("> 0.25", "> 0.6", "RankSlow"),
        ("_total{exported_endpoint=", "_total{endpoint_name=", "RankErrors"),
        ("> 50000", "> 500", "TritonQueueing"),
        ('status="429"', 'status=~".+"', "RequestsRefused"),
    ],
)
def test_a_rule_that_is_changed_is_noticed(tmp_path: Path, old: str, new: str, alert: str) -> None:
    text = (ROOT / "infra/prometheus/rules.yaml").read_text()
    assert old in text
    (tmp_path / "rules.yaml").write_text(text.replace(old, new))
    said = [
        check_alert(alert, scheme, tmp_path / "rules.yaml") for alert in list_alerts() for scheme in SCHEMES
    ]
    assert any(said)


@needs_promtool
def test_the_autoscalers_metric_is_a_query(tmp_path: Path) -> None:
    values = yaml.safe_load((ROOT / "infra/prometheus/adapter_values.yaml").read_text())
    (rule,) = values["rules"]["custom"]
    query = rule["metricsQuery"].replace("<<.GroupBy>>", "pod").replace("<<.LabelMatchers>>", 'pod="a"')
    rules = {"groups": [{"name": "adapter", "rules": [{"record": rule["name"]["as"], "expr": query}]}]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    command = ["promtool", "check", "rules", str(tmp_path / "rules.yaml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert metrics(query) <= FOREIGN


def test_each_alert_says_how_bad_it_is_and_what_to_do() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert alerts
    for alert in alerts:
        assert alert["labels"]["severity"] in {"page", "ticket"}
        assert {"summary", "action", "runbook"} == alert["annotations"].keys()
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
