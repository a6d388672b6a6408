"""Shares of steps and alerts that meet their checks."""

from benchmarks.shared.results import REPOSITORY, Row, make_row
from infra.check_alerts import SCHEMES, check_alert, list_alerts
from infra.step_coverage import measure_coverage


def measure_policy(*, quick: bool) -> list[Row]:
    """Executors with requests, limits, time limit, retries, a user of their own and shared memory."""
    del quick
    covered, everything = measure_coverage(REPOSITORY / "pipelines" / "compiled")
    return [
        make_row(
            "kubeflow.policy.executors_covered",
            covered / everything,
            unit="share",
            data=f"{everything} executors of all compiled packages",
        )
    ]


def measure_alerts(*, quick: bool) -> list[Row]:
    """Alerts that fire and stay silent as they should under every way to find targets."""
    del quick
    alerts = list_alerts()
    right = [alert for alert in alerts if not any(check_alert(alert, scheme) for scheme in SCHEMES)]
    return [
        make_row(
            "kubeflow.alerts.tested",
            len(right) / len(alerts),
            unit="share",
            data=f"{len(alerts)} alerts, {len(SCHEMES)} sets of target labels, promtool",
        )
    ]
