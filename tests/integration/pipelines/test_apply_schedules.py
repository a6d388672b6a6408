"""A file of schedules in git and a cluster: what differs is told, and mended without harm to runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp_server import Cluster

from reaseq.cli import main

pytestmark = pytest.mark.integration

CONFIG = Path(__file__).parents[3] / "configs/cluster-local.yaml"


class Git:
    """A file of schedules, and the verb on it."""

    def __init__(self, path: Path, host: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._path, self._host, self._capsys = path, host, capsys

    def write(self, *entries: dict[str, Any], owner: str = "shop") -> None:
        defaults = {"pipeline": "change_routes", "config": str(CONFIG), "cron": "0 0 3 * * *"}
        schedules = [defaults | entry for entry in entries]
        self._path.write_text(yaml.safe_dump({"owner": owner, "schedules": schedules}))

    def run(self, command: str, *, exit_code: int = 0) -> list[list[str]]:
        """Action and name of each line."""
        assert main(["schedules", command, str(self._path), "--host", self._host]) == exit_code
        lines = self._capsys.readouterr().out.splitlines()
        return [
            line.replace(":", "").split()[1:3] for line in lines if line[:2] in {"= ", "+ ", "- ", "~ ", "? "}
        ]


@pytest.fixture
def git(tmp_path: Path, host: str, capsys: pytest.CaptureFixture[str]) -> Git:
    return Git(tmp_path / "schedules.yaml", host, capsys)


def list_writes(cluster: Cluster) -> list[str]:
    return [request for request in cluster.requests if not request.startswith("GET")]


def describe(cluster: Cluster) -> dict[str, tuple[str, str]]:
    return {
        run["display_name"]: (run["trigger"]["cron_schedule"]["cron"], run["mode"])
        for run in cluster.recurring_runs.values()
    }


def test_diff_tells_what_apply_does_and_writes_nothing(git: Git, cluster: Cluster) -> None:
    git.write({"name": "night"}, {"name": "week", "cron": "0 0 4 * * SUN", "enabled": False})
    assert git.run("diff", exit_code=1) == [["make", "night"], ["make", "week"]]
    assert list_writes(cluster) == []
    assert git.run("apply") == [["make", "night"], ["make", "week"]]
    assert describe(cluster) == {"night": ("0 0 3 * * *", "ENABLE"), "week": ("0 0 4 * * SUN", "DISABLE")}
    cluster.requests.clear()
    assert git.run("diff") == git.run("apply") == [["keep", "night"], ["keep", "week"]]
    assert list_writes(cluster) == []


def test_each_kind_of_change(git: Git, cluster: Cluster) -> None:
    git.write({"name": "a"}, {"name": "b"}, {"name": "c"}, {"name": "d"})
    git.run("apply")
    before = dict(cluster.recurring_runs)
    git.write({"name": "a", "parameters": {"arm": "other"}}, {"name": "b", "enabled": False}, {"name": "c"})
    expected = [["replace", "a"], ["disable", "b"], ["keep", "c"], ["delete", "d"]]
    assert git.run("diff", exit_code=1) == git.run("apply") == expected
    stored = {run["display_name"]: run for run in cluster.recurring_runs.values()}
    assert stored.keys() == {"a", "b", "c"}
    assert stored["a"]["runtime_config"]["parameters"]["arm"] == "other"
    assert stored["b"]["recurring_run_id"] in before, "to disable replaces nothing"
    git.write(
        {"name": "a", "parameters": {"arm": "other"}, "concurrency": 2, "catch_up": True}, {"name": "b"}
    )
    git.run("apply")
    stored = {run["display_name"]: run for run in cluster.recurring_runs.values()}
    assert (stored["a"]["max_concurrency"], stored["a"]["no_catchup"]) == (2, False)
    assert stored["b"]["mode"] == "ENABLE"


@pytest.mark.parametrize("later", [{"name": "a", "cron": "0 0 9 * * *"}, {"name": "other"}])
def test_a_schedule_with_a_run_under_way_stays_until_it_is_idle(
    git: Git, cluster: Cluster, later: dict[str, str]
) -> None:
    git.write({"name": "a"})
    git.run("apply")
    (old_id,) = cluster.recurring_runs
    run = cluster.trigger(old_id)
    git.write(later)
    is_changed = later["name"] == "a"
    assert ["wait" if is_changed else "disable", "a"] in git.run("apply", exit_code=1 if is_changed else 0)
    assert cluster.recurring_runs[old_id]["mode"] == ("ENABLE" if is_changed else "DISABLE")
    assert ["wait", "a"] in git.run("apply", exit_code=1)
    run["state"] = "SUCCEEDED"
    assert ["replace" if is_changed else "delete", "a"] in git.run("apply")
    assert old_id not in cluster.recurring_runs
    assert set(describe(cluster)) == {later["name"]}


def test_a_busy_one_can_be_disabled_whatever_else_changes(git: Git, cluster: Cluster) -> None:
    git.write({"name": "a"})
    git.run("apply")
    (old_id,) = cluster.recurring_runs
    cluster.trigger(old_id)
    git.write({"name": "a", "cron": "0 0 9 * * *", "enabled": False})
    assert git.run("apply") == [["disable", "a"]]
    assert cluster.recurring_runs[old_id]["mode"] == "DISABLE"


def test_only_what_the_file_made_is_deleted(git: Git, cluster: Cluster) -> None:
    git.write({"name": "theirs"}, owner="others")
    git.run("apply")
    git.write({"name": "ours"})
    git.run("apply")
    (theirs, ours) = cluster.recurring_runs.values()
    cluster.recurring_runs["by-hand"] = {
        **ours,
        "display_name": "by-hand",
        "recurring_run_id": "by-hand",
        "description": "my own",
    }
    git.write()
    assert git.run("apply") == [["delete", "ours"]]
    assert set(cluster.recurring_runs) == {theirs["recurring_run_id"], "by-hand"}


def test_the_name_of_another_owner_is_not_taken_over(
    git: Git, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    git.write({"name": "night"}, owner="others")
    git.run("apply")
    git.write({"name": "night", "cron": "0 0 9 * * *"})
    assert git.run("apply", exit_code=2) == []
    assert describe(cluster) == {"night": ("0 0 3 * * *", "ENABLE")}


def test_one_made_by_hand_under_a_name_of_the_file_becomes_its_own(git: Git, cluster: Cluster) -> None:
    git.write({"name": "a"})
    git.run("apply")
    (stored,) = cluster.recurring_runs.values()
    del stored["description"]
    assert git.run("apply") == [["replace", "a"]]
    git.write()
    assert git.run("apply") == [["delete", "a"]]


def _pause(cluster: Cluster) -> None:
    for run in cluster.recurring_runs.values():
        run["mode"] = "DISABLE"


def _delete(cluster: Cluster) -> None:
    cluster.recurring_runs.clear()


def _double(cluster: Cluster) -> None:
    (run,) = cluster.recurring_runs.values()
    cluster.recurring_runs["twin"] = {**run, "recurring_run_id": "twin"}


def _rename_pipeline(cluster: Cluster) -> None:
    for pipeline in cluster.pipelines.values():
        pipeline["display_name"] = "renamed"


def _delete_pipeline(cluster: Cluster) -> None:
    cluster.pipelines.clear()
    cluster.versions.clear()


def _clear_experiment(cluster: Cluster) -> None:
    cluster.experiments.clear()
    cluster.recurring_runs.clear()


@pytest.mark.parametrize(
    ("by_hand", "action"),
    [
        (_pause, "enable"),
        (_delete, "make"),
        (_double, "tidy"),
        (_rename_pipeline, "replace"),
        (_delete_pipeline, "replace"),
        (_clear_experiment, "make"),
    ],
)
def test_what_was_done_by_hand_is_told_and_mended(
    git: Git, cluster: Cluster, by_hand: Callable[[Cluster], None], action: str
) -> None:
    git.write({"name": "night"})
    git.run("apply")
    by_hand(cluster)
    assert git.run("diff", exit_code=1) == [[action, "night"]]
    assert git.run("apply") == [[action, "night"]]
    assert describe(cluster) == {"night": ("0 0 3 * * *", "ENABLE")}
    assert len(cluster.recurring_runs) == 1
    (run,) = cluster.recurring_runs.values()
    assert run["pipeline_version_reference"]["pipeline_version_id"] in cluster.versions
    assert git.run("diff") == [["keep", "night"]]


def test_an_empty_file_of_an_owner_leaves_none_of_theirs(git: Git, cluster: Cluster) -> None:
    git.write({"name": "a"}, {"name": "b"})
    git.run("apply")
    git.write()
    assert git.run("diff", exit_code=1) == [["delete", "a"], ["delete", "b"]]
    git.run("apply")
    assert not cluster.recurring_runs
    assert git.run("diff") == []
