"""Canary, promotion and rollback reach a cluster as runs of `change_routes`; the status tells of runs."""

import json
from pathlib import Path
from typing import Any

import pytest
from kfp_server import Cluster

from reaseq.cli import main

pytestmark = pytest.mark.integration

CONFIG = str(Path(__file__).parents[3] / "configs/cluster.yaml")
URI = "s3://mlpipeline/v2/artifacts/challenger"


def read_parameters(cluster: Cluster) -> dict[str, Any]:
    (run,) = cluster.runs.values()
    return dict(run["runtime_config"]["parameters"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["rollback"], {"action": "rollback", "ranker": "", "ranker_uri": ""}),
        (["promote", "--arm", "new"], {"action": "promote", "arm": "new"}),
        (
            ["canary", URI, "--share", "0.05"],
            {"action": "canary", "arm": "control", "ranker": "", "ranker_uri": URI, "share": 0.05},
        ),
        (
            ["canary", "ranker_x", "--share", "0.5", "--arm", "a"],
            {"action": "canary", "arm": "a", "ranker": "ranker_x", "ranker_uri": "", "share": 0.5},
        ),
        (["canary", "--share", "0"], {"action": "canary", "ranker": "", "ranker_uri": "", "share": 0}),
    ],
)
def test_a_verb_is_a_run_that_is_waited_for(
    host: str, cluster: Cluster, words: list[str], expected: dict[str, Any]
) -> None:
    cluster.run_states = ("PENDING", "SUCCEEDED")
    assert main([*words, "--config", CONFIG, "--host", host]) == 0
    parameters = read_parameters(cluster)
    assert {name: parameters[name] for name in expected} == expected
    assert '"host":"triton"' in parameters["serving_config"]


@pytest.mark.parametrize(
    ("words", "expected", "uri"),
    [
        (
            ["start", "--arm", f"new={URI}", "--share", "new=0.1", "--days", "7", "--by", "ana"],
            {"action": "start", "rankers": {"new": "artifact"}, "shares": {"new": 0.1}, "planned_days": 7},
            URI,
        ),
        (
            ["start", "--arm", "new=ranker_x", "--interleave", "--note", "why not"],
            {"action": "start", "rankers": {"new": "ranker_x"}, "interleaving": True, "note": "why not"},
            "",
        ),
        (["start", "--aa", "--metric", "ctr"], {"is_aa": True, "deciding_metric": "ctr"}, ""),
        (["stop", "--keep", "new"], {"action": "stop", "keep": "new"}, ""),
        (["status"], {"action": "status"}, ""),
    ],
)
def test_an_experiment_is_ordered_by_a_run(
    host: str, cluster: Cluster, words: list[str], expected: dict[str, Any], uri: str
) -> None:
    cluster.run_states = ("SUCCEEDED",)
    assert main(["experiment", *words, "--config", CONFIG, "--host", host]) == 0
    parameters = read_parameters(cluster)
    order = json.loads(parameters["order"])
    assert {name: order[name] for name in expected} == expected
    assert order["by"]
    assert parameters["ranker_uri"] == uri


def test_two_artifacts_for_one_experiment_are_refused(
    host: str, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = ["--arm", f"a={URI}", "--arm", f"b={URI}/2"]
    assert main(["experiment", "start", *arms, "--config", CONFIG, "--host", host]) == 2
    assert "arms a, b name artifacts" in capsys.readouterr().err
    assert not cluster.runs


@pytest.mark.parametrize(("end", "exit_code"), [("FAILED", 1), ("CANCELED", 3)])
def test_its_end_is_the_exit_code(host: str, cluster: Cluster, end: str, exit_code: int) -> None:
    cluster.run_states = (end,)
    assert main(["rollback", "--config", CONFIG, "--host", host]) == exit_code


def test_settings_of_a_laptop_are_refused(host: str, cluster: Cluster) -> None:
    assert main(["rollback", "--host", host]) == 2
    assert not cluster.runs


def test_the_status_tells_the_last_run_of_each_pipeline(
    host: str, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    submit = ["submit", "--config", CONFIG, "--host", host, "--pipeline"]
    main([*submit, "simulate_shop"])
    main([*submit, "change_routes"])
    main([*submit, "change_routes", "--action", "promote"])
    main([*submit, "simulate_shop", "--schedule", "0 0 3 * * *"])
    for run, state in zip(cluster.runs.values(), ("SUCCEEDED", "SUCCEEDED", "FAILED"), strict=True):
        run["state"] = state
    run["finished_at"] = "2026-11-01T03:00:00Z"
    run["error"] = {"code": 1, "message": "step change-routes failed"}
    capsys.readouterr()
    assert main(["status", "--host", host]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("  ")}
    assert rows["simulate-shop"][:3] == ["SUCCEEDED", "2026-11-01", "00:00"]
    assert rows["change-routes"][0] == "FAILED", "the newest one counts"
    assert rows["change-routes"][4:6] == ["2026-11-01", "03:00"]
    assert "change-routes: step change-routes failed" in lines
    assert rows["shop-simulate-shop"] == ["0", "0", "3", "*", "*", "*", "enabled"]


def test_without_an_experiment_nothing_was_submitted(
    host: str, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--host", host]) == 2
    assert "nothing was submitted to it yet" in capsys.readouterr().err
    assert main(["status", "--gateway", host]) == 2
    assert "answers HTTP 404; is it a gateway of this version?" in capsys.readouterr().err
    port = host.rpartition(":")[2]
    assert main(["status", "--gateway", f"http://127.0.0.1:{port}/apis/v2beta1/runs?page_size=1&x="]) == 2
    assert "not as a gateway of ours" in capsys.readouterr().err
