"""Submitting and scheduling with the real `kfp.Client` against a server that checks every request."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kfp import compiler, dsl
from kfp_server import Cluster, serve_cluster

from contracts.errors import UserError
from pipelines.cluster.cluster_client import TOKEN_FILE_VARIABLE, TOKEN_VARIABLE
from pipelines.cluster.recurring_run import schedule_pipeline
from pipelines.cluster.submit_run import SubmittedRun, submit_pipeline

pytestmark = pytest.mark.integration


@dsl.component(base_image="reaseq:test", install_kfp_package=False)
def add(a: int, b: int, note: str) -> int:
    return a + b + len(note)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    @dsl.pipeline(name="tiny")
    def tiny(config: str, top: int = 3) -> None:
        add(a=top, b=1, note=config)

    path = tmp_path_factory.mktemp("compiled") / "tiny.yaml"
    compiler.Compiler().compile(tiny, str(path))
    return path


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    monkeypatch.delenv(TOKEN_FILE_VARIABLE, raising=False)
    return Cluster()


@pytest.fixture
def host(cluster: Cluster) -> Iterator[str]:
    with serve_cluster(cluster) as address:
        yield address


def send_package(
    package: Path,
    host: str,
    *,
    wait: bool = False,
    namespace: str | None = None,
    pipeline_name: str | None = "tiny",
) -> SubmittedRun:
    return submit_pipeline(
        package,
        {"config": "{}", "top": 5},
        host=host,
        namespace=namespace,
        experiment="shop",
        run_name="first",
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


@pytest.mark.parametrize("end", ["FAILED", "CANCELED"])
def test_waiting_on_a_run_that_ends_badly_is_an_error(
    package: Path, host: str, cluster: Cluster, end: str
) -> None:
    cluster.run_states = ("PENDING", "RUNNING", end)
    with pytest.raises(UserError, match=f"ended {end}.*#/runs/details/"):
        send_package(package, host, wait=True)


def test_token_from_variable_and_from_a_rotating_file(
    package: Path, host: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster.token = "first"
    with pytest.raises(UserError, match=r"refuses the credentials.*REASEQ_KFP_TOKEN"):
        send_package(package, host)
    monkeypatch.setenv(TOKEN_VARIABLE, "first")
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


def test_a_server_error_names_what_failed(package: Path, host: str, cluster: Cluster) -> None:
    cluster.fail_on = "/runs"
    with pytest.raises(UserError, match=r"could not submit the run.*HTTP 500"):
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


def test_schedule_replaces_the_older_one_of_its_name_only(package: Path, host: str, cluster: Cluster) -> None:
    def plan(name: str, cron: str) -> tuple[str, tuple[str, ...]]:
        new_schedule = schedule_pipeline(
            package,
            {"config": "{}"},
            host=host,
            experiment="shop",
            schedule_name=name,
            cron=cron,
            pipeline_name="tiny",
        )
        return new_schedule.recurring_run_id, new_schedule.replaced

    other_id, _ = plan("weekly", "0 0 4 * * 1")
    first_id, replaced_ids = plan("nightly", "0 30 3 * * *")
    assert replaced_ids == ()
    second_id, replaced_ids = plan("nightly", "0 0 5 * * *")
    assert replaced_ids == (first_id,)
    assert set(cluster.recurring_runs) == {other_id, second_id}
    stored_schedule = cluster.recurring_runs[second_id]
    assert stored_schedule["trigger"] == {"cron_schedule": {"cron": "0 0 5 * * *"}}
    assert (stored_schedule["mode"], stored_schedule["no_catchup"], stored_schedule["max_concurrency"]) == (
        "ENABLE",
        True,
        1,
    )
    with pytest.raises(UserError, match="six fields"):
        plan("nightly", "30 3 * * *")


def test_the_old_schedule_survives_when_the_new_one_cannot_be_made(
    package: Path, host: str, cluster: Cluster
) -> None:
    arguments = {"config": "{}"}
    first = schedule_pipeline(
        package, arguments, host=host, experiment="shop", schedule_name="nightly", cron="0 0 5 * * *"
    )
    cluster.fail_on = "/recurringruns"
    with pytest.raises(UserError, match="HTTP 500"):
        schedule_pipeline(
            package, arguments, host=host, experiment="shop", schedule_name="nightly", cron="0 0 6 * * *"
        )
    assert set(cluster.recurring_runs) == {first.recurring_run_id}
