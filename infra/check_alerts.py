"""`python -m infra.check_alerts`: does each alert fire when it should, and stay silent when it should?

The cases of prometheus/alert_cases.yaml run through `promtool test rules`, under the labels of each way in
which Prometheus may find its targets. The rules themselves are checked first.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from contracts.errors import UserError

HERE = Path(__file__).parent / "prometheus"
RULES = HERE / "rules.yaml"
_SERIES = re.compile(r"(?P<name>\w+)(\{(?P<labels>.*)\})?")
_POD = 'namespace="reaseq", instance="10.0.0.1:3000"'
SCHEMES = {
    "annotations": f'job="kubernetes-pods", app_kubernetes_io_name="gateway", {_POD}',
    "pod monitor": f'job="reaseq/gateway", container="gateway", {_POD}',
    "service monitor": f'job="gateway", service="gateway", container="gateway", endpoint="http", {_POD}',
}
"""Way to find targets -> labels that it adds. A ServiceMonitor's own `endpoint` takes that name from
BentoML's label, which then is `exported_endpoint`; our PodMonitors leave it alone (`honorLabels`)."""
_LOOK_AT = ("12m", "20m", "30m")


def list_alerts() -> list[str]:
    """Names of the alerts."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]


def read_cases() -> dict[str, Any]:
    """Alert -> `fires` and `silent`, each case name -> series -> values."""
    cases = yaml.safe_load((HERE / "alert_cases.yaml").read_text(encoding="utf-8"))
    return dict(cases)


def check_alert(alert: str, scheme: str, rules: Path = RULES) -> str | None:
    """Runs the cases of an alert; what promtool says where one of them fails.

    Raises:
        UserError: the alert lacks a case in which it fires or a silent one, or there is no promtool.
    """
    cases = read_cases().get(alert, {})
    if not cases.get("fires") or not cases.get("silent"):
        raise UserError(f"{alert}: alert_cases.yaml needs a case in which it fires, and a silent one")
    tests = [
        _build_test(alert, scheme, name, series, is_firing=kind == "fires")
        for kind in ("fires", "silent")
        for name, series in cases[kind].items()
    ]
    document = {"rule_files": [str(rules.resolve())], "evaluation_interval": "1m", "tests": tests}
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as stream:
        yaml.safe_dump(document, stream)
        stream.flush()
        return _run_promtool("test", "rules", stream.name)


def find_faults() -> Iterator[str]:
    """What is wrong with the rules and the alerts."""
    if said := _run_promtool("check", "rules", str(RULES)):
        yield f"rules.yaml: {said}"
    for alert in list_alerts():
        for scheme in SCHEMES:
            if said := check_alert(alert, scheme):
                yield f"{alert}, targets by {scheme}: {said}"


def _build_test(
    alert: str, scheme: str, name: str, series: dict[str, str], *, is_firing: bool
) -> dict[str, Any]:
    query = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}}) > bool 0'
    expected = [{"labels": "{}", "value": 1}] if is_firing else []
    # Silence is wanted all the time, the alarm at the end.
    times = _LOOK_AT[-1:] if is_firing else _LOOK_AT
    return {
        "name": f"{alert}: {name} ({scheme})",
        "interval": "1m",
        "input_series": [
            {"series": _add_labels(metric, scheme), "values": str(values)}
            for metric, values in series.items()
        ],
        "promql_expr_test": [{"expr": query, "eval_time": time, "exp_samples": expected} for time in times],
    }


def _add_labels(series: str, scheme: str) -> str:
    matched = _SERIES.fullmatch(series)
    assert matched, series
    labels = matched["labels"] or ""
    if 'endpoint="' in SCHEMES[scheme]:
        labels = labels.replace("endpoint=", "exported_endpoint=")
    return f"{matched['name']}{{{', '.join(filter(None, (labels, SCHEMES[scheme])))}}}"


def _run_promtool(*words: str) -> str | None:
    promtool = shutil.which("promtool")
    if promtool is None:
        raise UserError("promtool is not there; run scripts/get_tools.sh, or install Debian's `prometheus`")
    done = subprocess.run([promtool, *words], capture_output=True, text=True)
    return None if done.returncode == 0 else (done.stdout + done.stderr).strip()


def main() -> int:
    """Checks all; returns the exit code."""
    try:
        faults = list(find_faults())
    except UserError as error:
        print(f"check_alerts: {error}", file=sys.stderr)
        return 2
    print(
        "\n".join(faults)
        or f"{len(list_alerts())} alerts fire and stay silent, under {len(SCHEMES)} sets of labels"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
