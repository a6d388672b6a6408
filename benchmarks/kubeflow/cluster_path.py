"""From an empty cluster to a ranked request, nights of refreshes, and a cluster that fails at random.

Servers run by their rendered manifests, pipelines by what `submit` sends.
Kubeflow's API is a contract server.
"""

from benchmarks.kubeflow.recorded_tests import run_recording_test
from benchmarks.shared.results import Row, make_row

_TESTS = "tests/integration"


def measure_empty_cluster(*, quick: bool) -> list[Row]:
    """Is the first request ranked by the model, and is nothing restarted on the way?"""
    del quick  # its shop is small already
    figures = run_recording_test(f"{_TESTS}/infra/test_empty_cluster.py")
    data = "empty claim, manifests of overlays/local, a small generated shop"
    return [
        make_row("kubeflow.empty_cluster.ranked", figures["ranked"], unit="of 1", data=data),
        make_row(
            "kubeflow.empty_cluster.restarts", figures["restarts"], unit="restarts", better="lower", data=data
        ),
    ]


def measure_refreshes(*, quick: bool) -> list[Row]:
    """Nights on which a scheduled refresh did exactly what the changes of the day ask for."""
    del quick
    test = f"{_TESTS}/pipelines/test_refresh_nights.py::test_five_nights"
    figures = run_recording_test(f"{test}[refresh_users]")
    figures_of_catalogue = run_recording_test(f"{test}[refresh_catalogue]")
    nights_right = min(figures["nights_right"], figures_of_catalogue["nights_right"])
    return [
        make_row(
            "kubeflow.refresh.nights_right",
            nights_right,
            unit="of 5 nights",
            data="refresh_users and refresh_catalogue (the worse of both), Kubeflow's cache key recomputed",
        )
    ]


def measure_faults(*, quick: bool) -> list[Row]:
    """What two hundred faults of the cluster's API do to runs, schedules and waits."""
    del quick
    test = f"{_TESTS}/pipelines/test_cluster_faults.py::test_two_hundred_faults_do_no_harm"
    figures = run_recording_test(test)
    units = {"double_runs": "runs", "lost_schedules": "schedules", "waits_given_up": "waits"}
    return [
        make_row(
            f"kubeflow.faults.{name}",
            figures[name],
            unit=unit,
            better="lower",
            data="200 random faults: 429, 5xx, resets and silence, before and after the write",
        )
        for name, unit in units.items()
    ]
