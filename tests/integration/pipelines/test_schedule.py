"""Schedules are reconciled: the same is left alone, another replaces, and two are never active."""

from pathlib import Path

import pytest
from kfp_server import Cluster, RefusedError

from contracts.errors import UserError
from pipelines.cluster.recurring_run import Schedule, schedule_pipeline

pytestmark = pytest.mark.integration


def plan(
    package: Path, host: str, *, name: str = "nightly", cron: str = "0 30 3 * * *", top: int = 5
) -> Schedule:
    return schedule_pipeline(
        package,
        {"config": "{}", "top": top},
        host=host,
        experiment="shop",
        schedule_name=name,
        cron=cron,
        pipeline_name="tiny",
    )


def list_writes(cluster: Cluster) -> list[str]:
    return [request for request in cluster.requests if not request.startswith("GET")]


def test_the_same_schedule_again_changes_nothing(package: Path, host: str, cluster: Cluster) -> None:
    first = plan(package, host)
    assert first.is_new
    stored = cluster.recurring_runs[first.recurring_run_id]
    assert stored["trigger"] == {"cron_schedule": {"cron": "0 30 3 * * *"}}
    assert (stored["mode"], stored["no_catchup"], stored["max_concurrency"]) == ("ENABLE", True, 1)
    cluster.requests.clear()
    second = plan(package, host)
    assert (second.recurring_run_id, second.is_new) == (first.recurring_run_id, False)
    assert list_writes(cluster) == []


@pytest.mark.parametrize("change", [{"cron": "0 0 5 * * *"}, {"top": 6}, {"package": "other"}])
def test_a_changed_one_replaces_the_older_of_its_name_only(
    package: Path, host: str, cluster: Cluster, change: dict[str, object], tmp_path: Path
) -> None:
    other = plan(package, host, name="weekly", cron="0 0 4 * * 1")
    first = plan(package, host)
    if change.pop("package", None):
        changed_package = tmp_path / "tiny.yaml"
        changed_package.write_text(package.read_text() + "\n# changed\n")
        package = changed_package
    second = plan(package, host, **change)
    assert second.replaced == (first.recurring_run_id,)
    assert set(cluster.recurring_runs) == {other.recurring_run_id, second.recurring_run_id}


def test_a_schedule_whose_run_is_under_way_is_replaced_later(
    package: Path, host: str, cluster: Cluster
) -> None:
    first = plan(package, host)
    run = cluster.trigger(first.recurring_run_id)
    cluster.requests.clear()
    second = plan(package, host, cron="0 0 5 * * *")
    assert (second.is_waiting, second.recurring_run_id) == (True, first.recurring_run_id)
    assert list_writes(cluster) == [], "a deletion would end the run, and a second schedule overlap it"
    run["state"] = "SUCCEEDED"
    third = plan(package, host, cron="0 0 5 * * *")
    assert (third.is_new, third.replaced) == (True, (first.recurring_run_id,))
    assert set(cluster.recurring_runs) == {third.recurring_run_id}


def test_a_twin_whose_run_is_under_way_is_disabled_and_deleted_later(
    package: Path, host: str, cluster: Cluster
) -> None:
    kept = plan(package, host)
    stored = cluster.recurring_runs[kept.recurring_run_id]
    cluster.recurring_runs["twin"] = stored | {"recurring_run_id": "twin", "no_catchup": False}
    run = cluster.trigger("twin")
    plan(package, host)
    assert cluster.recurring_runs["twin"]["mode"] == "DISABLE"
    run["state"] = "FAILED"
    plan(package, host)
    assert set(cluster.recurring_runs) == {kept.recurring_run_id}


def test_a_disabled_one_is_enabled_and_twins_are_removed(package: Path, host: str, cluster: Cluster) -> None:
    first = plan(package, host)
    stored = cluster.recurring_runs[first.recurring_run_id]
    cluster.recurring_runs["twin"] = stored | {"recurring_run_id": "twin"}
    stored["mode"] = "DISABLE"
    kept = plan(package, host)
    assert kept.recurring_run_id == "twin", "one that runs stays"
    cluster.recurring_runs["twin"]["mode"] = "DISABLE"
    plan(package, host)
    assert [run["mode"] for run in cluster.recurring_runs.values()] == ["ENABLE"]


def test_the_old_one_survives_where_the_new_one_cannot_be_made(
    package: Path, host: str, cluster: Cluster
) -> None:
    first = plan(package, host)
    refuse_writes = cluster.create_recurring_run

    def refuse(body: dict[str, object]) -> dict[str, object]:
        raise RefusedError(400, "Invalid input")

    cluster.create_recurring_run = refuse  # type: ignore[method-assign, assignment]
    with pytest.raises(UserError, match="HTTP 400"):
        plan(package, host, cron="0 0 6 * * *")
    cluster.create_recurring_run = refuse_writes  # type: ignore[method-assign]
    assert cluster.recurring_runs[first.recurring_run_id]["mode"] == "ENABLE"


def test_a_cron_expression_needs_six_fields(package: Path, host: str) -> None:
    with pytest.raises(UserError, match="six fields"):
        plan(package, host, cron="30 3 * * *")
