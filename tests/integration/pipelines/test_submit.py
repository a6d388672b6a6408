"""Submitting and scheduling with the real `kfp.Client` against a server that checks every request."""

from pathlib import Path

import pytest
from kfp_server import Cluster, serve_cluster

from contracts.errors import UserError
from pipelines.cluster.credentials import TOKEN_FILE_VARIABLE, TOKEN_VARIABLE
from pipelines.cluster.submit_run import SubmittedRun, submit_pipeline
from pipelines.compiled_package import COMPILED_FOLDER
from reaseq.cli import main

pytestmark = pytest.mark.integration


def send_package(
    package: Path,
    host: str,
    *,
    wait: bool = False,
    namespace: str | None = None,
    pipeline_name: str | None = "tiny",
    run_name: str = "first",
    top: int = 5,
) -> SubmittedRun:
    return submit_pipeline(
        package,
        {"config": "{}", "top": top},
        host=host,
        namespace=namespace,
        experiment="shop",
        run_name=run_name,
        pipeline_name=pipeline_name,
        wait=wait,
        poll_s=0.01,
    )


def test_run_is_created_from_an_uploaded_version(package: Path, host: str, cluster: Cluster) -> None:
    submitted_run = send_package(package, host)
    (stored_run,) = cluster.runs.values()
    assert submitted_run.run_id == stored_run["run_id"]
    assert submitted_run.url == f"{host}/#/runs/details/{submitted_run.run_id}"
    assert stored_run["runtime_config"]["parameters"] == {"config": "{}", "top": 5}
    assert stored_run["pipeline_version_reference"] == {
        "pipeline_id": submitted_run.pipeline_id,
        "pipeline_version_id": submitted_run.version_id,
    }
    assert [e["display_name"] for e in cluster.experiments.values()] == ["shop"]


def test_work_that_is_under_way_is_not_begun_twice(package: Path, host: str, cluster: Cluster) -> None:
    first_run = send_package(package, host)
    second_run = send_package(package, host, run_name="second")
    assert (second_run.run_id, second_run.is_adopted) == (first_run.run_id, True)
    cluster.runs[first_run.run_id]["state"] = "SUCCEEDED"
    third_run = send_package(package, host, run_name="third")
    assert third_run.run_id != first_run.run_id, "what has ended may be asked for again"
    other_run = send_package(package, host, run_name="other", top=6)
    assert len({third_run.run_id, other_run.run_id}) == len(cluster.runs) - 1


def test_same_package_is_uploaded_once_and_a_changed_one_as_new_version(
    package: Path, host: str, cluster: Cluster, tmp_path: Path
) -> None:
    first_run, second_run = send_package(package, host), send_package(package, host)
    assert (first_run.pipeline_id, first_run.version_id) == (second_run.pipeline_id, second_run.version_id)
    changed_package = tmp_path / "tiny.yaml"
    changed_package.write_text(package.read_text() + "\n# changed\n")
    third_run = send_package(changed_package, host)
    assert third_run.pipeline_id == first_run.pipeline_id
    assert third_run.version_id != first_run.version_id
    assert len(cluster.pipelines) == 1
    assert cluster.requests.count("POST /pipelines/upload_version") == 2


def test_package_travels_with_the_run_when_no_pipeline_is_named(
    package: Path, host: str, cluster: Cluster
) -> None:
    run = send_package(package, host, pipeline_name=None)
    assert run.pipeline_id is None
    assert not cluster.pipelines
    assert cluster.runs[run.run_id]["pipeline_spec"]["pipelineInfo"]["name"] == "tiny"


def test_waiting_returns_the_end_state(package: Path, host: str) -> None:
    assert send_package(package, host, wait=True).state == "SUCCEEDED"


@pytest.mark.parametrize(("end", "exit_code"), [("SUCCEEDED", 0), ("FAILED", 1), ("CANCELED", 3)])
def test_the_exit_code_tells_how_the_awaited_run_ended(
    host: str, cluster: Cluster, end: str, exit_code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.run_states = (end,)
    words = ["submit", "--host", host, "--pipeline", "simulate_shop"]
    assert main([*words, "--wait"]) == exit_code
    assert f"{end}: {host}/#/runs/details/" in capsys.readouterr().out
    cluster.run_states = ("PENDING",)
    assert main(words) == 0, "nobody waited"


def test_the_steps_are_told_while_waiting(
    package: Path, host: str, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    def task(name: str, state: str, ended: str = "1970-01-01T00:00:00Z", **more: object) -> dict[str, object]:
        times = {"start_time": "2026-11-01T00:00:00Z", "end_time": ended}
        return {"task_id": name, "display_name": name, "state": state, **times, **more}

    of_kubeflow = [task("root", "RUNNING"), task("ingest-driver", "SUCCEEDED")]
    cluster.run_states = ("PENDING", "RUNNING", "RUNNING", "RUNNING", "FAILED")
    done = task("ingest", "SUCCEEDED", "2026-11-01T00:01:23Z")
    error = {"code": 1, "message": "out of memory"}
    cluster.tasks = (
        [*of_kubeflow, task("ingest", "PENDING")],
        [*of_kubeflow, task("ingest", "RUNNING")],
        [*of_kubeflow, done, task("train-ranker", "RUNNING")],
        [*of_kubeflow, done, task("train-ranker", "FAILED", "2026-11-01T00:10:00Z", error=error)],
    )
    assert send_package(package, host, wait=True).state == "FAILED"
    assert capsys.readouterr().err.splitlines()[-6:] == [
        "run RUNNING",
        "ingest RUNNING",
        "ingest SUCCEEDED after 83 s",
        "train-ranker RUNNING",
        "train-ranker FAILED after 600 s: out of memory",
        "run FAILED",
    ]


def test_the_token_of_a_pod_is_taken(
    package: Path, host: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster.token = "of-the-pod"
    (tmp_path / "token").write_text("of-the-pod")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    assert send_package(package, host).run_id


def test_token_from_variable_and_from_a_rotating_file(
    package: Path, host: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster.token = "first"
    with pytest.raises(UserError, match=r"refuses the credentials.*REASEQ_KFP_TOKEN"):
        send_package(package, host)
    monkeypatch.setenv(TOKEN_VARIABLE, "se\ncret")
    with pytest.raises(UserError, match=r"REASEQ_KFP_TOKEN holds a line break") as refused:
        send_package(package, host)
    assert "cret" not in str(refused.value)
    monkeypatch.setenv(TOKEN_VARIABLE, "first\n")
    assert send_package(package, host).run_id
    monkeypatch.delenv(TOKEN_VARIABLE)
    token_file = tmp_path / "token"
    monkeypatch.setenv(TOKEN_FILE_VARIABLE, str(token_file))
    with pytest.raises(UserError, match="not a file"):
        send_package(package, host)
    for token in ("first", "second"):
        token_file.write_text(token + "\n")
        cluster.token = token
        assert send_package(package, host).run_id


def test_multi_user_cluster_needs_a_namespace(package: Path, host: str, cluster: Cluster) -> None:
    cluster.multi_user = True
    with pytest.raises(UserError, match="namespace"):
        send_package(package, host)
    send_package(package, host, namespace="team-a")
    assert [e["namespace"] for e in cluster.experiments.values()] == ["team-a"]


@pytest.mark.parametrize(
    ("tag", "is_new"), [("2.15.3", False), ("2.16.0", True), ("10.0.1", True), ("main", True)]
)
def test_the_backends_version_is_checked_first(
    host: str, cluster: Cluster, tag: str, is_new: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.tag_name = tag
    exit_code = main(["submit", "--host", host, "--pipeline", "simulate_shop"])
    assert (exit_code, bool(cluster.runs)) == ((0, True) if is_new else (2, False))
    if not is_new:
        assert cluster.requests == ["GET /healthz"]
        assert "runs Kubeflow Pipelines 2.15.3; the package needs 2.16 or newer" in capsys.readouterr().err


def test_a_server_error_names_what_failed(package: Path, host: str, cluster: Cluster) -> None:
    cluster.fail_on = "/runs"
    with pytest.raises(UserError, match=r"could not submit the run.*HTTP 400"):
        send_package(package, host)


def test_unreachable_and_foreign_hosts_are_told_apart(package: Path, host: str) -> None:
    with pytest.raises(UserError, match="must start with"):
        send_package(package, host.removeprefix("http://"))
    with pytest.raises(UserError, match="answers, but not as a Kubeflow"):
        send_package(package, host + "/elsewhere")
    with serve_cluster(Cluster()) as closed_host:
        pass
    with pytest.raises(UserError, match=r"no Kubeflow Pipelines API answers.*port-forward"):
        send_package(package, closed_host)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--pipeline", "monitor", "--package", str(COMPILED_FOLDER / "simulate_shop.yaml")],
            "simulate_shop.yaml holds 'simulate-shop', not 'monitor'; leave --pipeline out",
        ),
        (["--pipeline", "simulate_shop", "--act"], "--act means nothing to 'simulate-shop'"),
        (["--pipeline", "monitor", "--no-deploy"], "--no-deploy means nothing to 'monitor'"),
        (["--pipeline", "monitor", "--ranker", "r"], "--ranker means nothing to 'monitor'"),
        (
            ["--pipeline", "change_routes", "--action", "canary", "--share", "7"],
            "share 7 must lie between 0, nobody, and 1",
        ),
        (["--pipeline", "change_routes", "--action", "canary", "--share", "nan"], "share nan must lie"),
        (["--pipeline", "change_routes", "--action", "retire", "--arm", " "], "retire needs an arm"),
        (
            ["--pipeline", "change_routes", "--action", "canary", "--ranker", "a\nb"],
            "neither a name nor an address",
        ),
        (["--pipeline", "../elsewhere"], "not found; `reaseq compile` writes"),
    ],
)
def test_words_that_a_step_would_refuse_reach_no_cluster(
    host: str, cluster: Cluster, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = COMPILED_FOLDER.parents[1] / "configs/cluster-local.yaml"
    assert main(["submit", "--host", host, "--config", str(config), *words]) == 2
    assert message in capsys.readouterr().err
    assert not cluster.requests


def test_a_package_alone_says_which_pipeline_it_is(host: str, cluster: Cluster) -> None:
    words = ["submit", "--host", host, "--package", str(COMPILED_FOLDER / "simulate_shop.yaml")]
    assert main(words) == 0
    assert [pipeline["display_name"] for pipeline in cluster.pipelines.values()] == ["simulate-shop"]
    (run,) = cluster.runs.values()
    assert "simulate-shop" in run["display_name"]
