"""The doctor names what a cluster lacks, with the remedy, and makes nothing."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from kfp_server import Cluster, serve_cluster
from kubernetes.config import kube_config
from kubernetes_server import Namespace, serve_kubernetes

from pipelines.compile_pipelines import PIPELINES, compile_pipelines
from pipelines.compiled_package import COMPILED_FOLDER
from pipelines.doctor import check_packages
from pipelines.step_policy import PodPolicy
from reaseq.cli import main

pytestmark = pytest.mark.integration

CONFIG = Path(__file__).parents[3] / "configs/cluster.yaml"
PASSWORD = "never-print-me"


@pytest.fixture(scope="session")
def fresh_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled once; each doctor would take seconds over it."""
    folder = tmp_path_factory.mktemp("fresh")
    for name in PIPELINES:
        shutil.copy(COMPILED_FOLDER / f"{name}.yaml", folder)
    return folder


@pytest.fixture(autouse=True)
def _compile_at_once(fresh_packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def copy_packages(out: Path, policy: PodPolicy | None = None) -> list[Path]:
        if policy is not None:
            return compile_pipelines(out, policy=policy)
        return [Path(shutil.copy(path, out)) for path in sorted(fresh_packages.glob("*.yaml"))]

    monkeypatch.setattr("pipelines.compile_pipelines.compile_pipelines", copy_packages)


@pytest.fixture
def namespace() -> Namespace:
    """All that configs/cluster.yaml needs."""
    whole = Namespace()
    whole.label({"pod-security.kubernetes.io/enforce": "baseline"})
    whole.add_claim("reaseq-state")
    whole.add_secret("reaseq-pipelines", REASEQ_REDIS=f"redis:6379,password={PASSWORD}")
    for service, num_ready in {"triton": 1, "redis": 1, "gateway": 0}.items():
        whole.add_service(service, num_ready)
    return whole


@pytest.fixture
def kubeconfig(namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv("REASEQ_REDIS", raising=False)
    with serve_kubernetes(namespace, tmp_path) as path:
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(path))
        yield path


@pytest.fixture
def ask(cluster: Cluster, host: str, kubeconfig: Path, capsys: pytest.CaptureFixture[str]) -> "Doctor":
    cluster.multi_user = True
    cluster.create_experiment({"display_name": "reaseq", "namespace": "me"})
    return Doctor(host, capsys)


class Doctor:
    def __init__(self, host: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._host, self._capsys = host, capsys

    def __call__(self, *options: str, exit_code: int, config: Path = CONFIG) -> dict[str, str]:
        """Runs the verb; returns state and detail by subject."""
        words = ["doctor", "--config", str(config), "--host", self._host, "--namespace", "me"]
        assert main([*words, *options]) == exit_code
        output = self._capsys.readouterr().out
        assert PASSWORD not in output
        *lines, _ = output.splitlines()
        return {line[15:].partition(": ")[0]: line for line in lines}


def find(checks: dict[str, str], subject: str) -> str:
    (line,) = (line for name, line in checks.items() if name.startswith(subject))
    return line


def test_a_whole_cluster_lacks_nothing_and_is_left_as_it_was(
    ask: Doctor, cluster: Cluster, namespace: Namespace
) -> None:
    checks = ask(exit_code=0)
    states = {line[:13].strip() for line in checks.values()}
    assert states == {"ok"}, checks
    assert "Kubeflow Pipelines 2.17.0" in find(checks, "backend")
    assert not cluster.runs
    assert not cluster.pipelines
    assert len(cluster.experiments) == 1
    assert all(request.startswith("GET") for request in namespace.requests)
    assert [r for r in cluster.requests if not r.startswith("GET")] == ["POST /runs"], "refused by the server"


@pytest.mark.parametrize(
    ("request_", "subject"),
    [
        ("GET /runs", "token lists runs"),
        ("GET /recurringruns", "token lists schedules"),
        ("POST /runs", "token creates"),
    ],
)
def test_a_right_that_the_token_lacks(ask: Doctor, cluster: Cluster, request_: str, subject: str) -> None:
    cluster.forbidden = frozenset({request_})
    line = find(ask(exit_code=2), subject)
    assert line.startswith("missing")
    assert "kubeflow-edit" in line


def test_without_an_experiment_the_right_cannot_be_asked(ask: Doctor, cluster: Cluster) -> None:
    line = find(ask("--experiment", "other", exit_code=0), "token creates")
    assert line.startswith("could not ask")
    assert "kubectl auth can-i create runs.pipelines.kubeflow.org -n me" in line


def test_an_old_backend_and_none_at_all(ask: Doctor, cluster: Cluster) -> None:
    cluster.tag_name = "2.14.0"
    assert "runs Kubeflow Pipelines 2.14.0" in find(ask(exit_code=2), "backend")
    with serve_cluster(Cluster()) as closed_host:
        pass
    assert "port-forward" in find(ask("--host", closed_host, exit_code=2), "backend")


@pytest.mark.parametrize(
    ("kind", "name", "subject", "remedy"),
    [
        ("persistentvolumeclaims", "reaseq-state", "claim reaseq-state", "apply -k infra"),
        ("secrets", "reaseq-pipelines", "secret reaseq-pipelines", "--from-literal=REASEQ_REDIS=..."),
        ("services", "triton", "Triton triton:8001", "apply -k infra"),
    ],
)
def test_what_the_namespace_lacks(
    ask: Doctor, namespace: Namespace, kind: str, name: str, subject: str, remedy: str
) -> None:
    del namespace.objects[f"/api/v1/namespaces/me/{kind}/{name}"]
    line = find(ask(exit_code=2), subject)
    assert line.startswith("missing")
    assert remedy in line


def test_a_namespace_that_refuses_pods_of_steps(ask: Doctor, namespace: Namespace) -> None:
    assert "enforces `baseline`" in find(ask(exit_code=0), "namespace me")
    namespace.label({"pod-security.kubernetes.io/enforce": "restricted"})
    line = find(ask(exit_code=2), "namespace me")
    assert "kubectl label --overwrite namespace me pod-security.kubernetes.io/enforce=baseline" in line
    del namespace.objects["/api/v1/namespaces/me"]
    assert "kubectl create namespace me" in find(ask(exit_code=2), "namespace me")


def test_a_key_that_the_secret_lacks(ask: Doctor, namespace: Namespace) -> None:
    namespace.add_secret("reaseq-pipelines", OTHER="x")
    line = find(ask(exit_code=2), "secret reaseq-pipelines")
    assert "without REASEQ_REDIS" in line


def test_a_claim_that_waits_for_a_class_that_is_not_there(ask: Doctor, namespace: Namespace) -> None:
    namespace.add_claim("reaseq-state", phase="Pending", storage_class="fast", mode="ReadWriteOnce")
    checks = ask(exit_code=2)
    assert "all pods must share one node" in find(checks, "claim reaseq-state")
    assert "the cluster has no 'fast'" in find(checks, "storage class")
    namespace.add_storage_class("fast")
    assert find(ask(exit_code=0), "storage class").startswith("ok")


def test_servers_without_a_ready_pod(ask: Doctor, namespace: Namespace) -> None:
    namespace.add_service("triton", 0)
    assert "no pod of Service triton is ready" in find(ask(exit_code=2), "Triton")


def test_what_may_not_be_read_is_told_with_the_command_that_does(ask: Doctor, namespace: Namespace) -> None:
    namespace.refused = frozenset({"secrets", "services"})
    checks = ask(exit_code=0)
    assert "kubectl -n me describe secret reaseq-pipelines" in find(checks, "secret")
    assert find(checks, "Redis").startswith("could not ask")
    assert "nc -zw5 triton 8001" in find(checks, "Triton")


@pytest.mark.parametrize("page", [b"<html>log in</html>", b"null", b"[]", b"{}"])
def test_what_answers_for_the_kubernetes_api_is_not_taken_for_it(
    ask: Doctor, namespace: Namespace, page: bytes
) -> None:
    namespace.page = page
    checks = ask(exit_code=0)
    for subject in ("namespace me", "claim reaseq-state", "secret reaseq-pipelines", "Triton"):
        line = find(checks, subject)
        assert line.startswith("could not ask")
        assert "look at your kubeconfig" in line


def test_no_kubeconfig(ask: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", "/nowhere")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    line = find(ask(exit_code=0), "claim reaseq-state")
    assert line.startswith("could not ask")
    assert "kubectl -n me get pvc reaseq-state" in line


def test_settings_of_a_laptop_are_named(ask: Doctor) -> None:
    checks = ask("--set", "serving.triton.host=localhost", exit_code=2)
    assert "set the Service's name: triton" in find(checks, "settings")


def test_a_server_that_can_be_reached_is_reached(ask: Doctor, host: str) -> None:
    port = host.rpartition(":")[2]
    address = f"serving.triton.addresses=['127.0.0.1:{port}']"
    checks = ask("--set", address, "--gateway", host, exit_code=2)
    assert "answers from here" in find(checks, f"Triton 127.0.0.1:{port}")
    assert "answers HTTP 404" in find(checks, "gateway")


def test_the_policys_secrets_and_maps_are_asked_for(
    ask: Doctor, namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = PodPolicy.model_validate(
        {
            "size": "large",
            "secrets": [{"name": "store", "keys": {"access": "ACCESS"}}],
            "config_maps": [{"name": "proxy", "keys": {"https": "HTTPS_PROXY"}, "optional": True}],
            "image_pull_secrets": ["registry"],
            "webhook": {"secret": "reaseq-webhook"},
        }
    )
    compile_pipelines(tmp_path, image="registry.example/main@sha256:1", policy=policy)
    namespace.add_secret("store", other="x")
    checks = ask("--packages", str(tmp_path), exit_code=2)
    assert find(checks, "package monitor").startswith("ok"), "options do not make it other code"
    assert "without access" in find(checks, "secret store")
    assert find(checks, "secret registry").startswith("missing")
    assert "nothing in this configuration needs it" in find(checks, "config map proxy")


def test_packages_of_other_code(fresh_packages: Path, tmp_path: Path) -> None:
    shutil.copytree(fresh_packages, tmp_path, dirs_exist_ok=True)
    changed = tmp_path / "monitor.yaml"
    changed.write_text(changed.read_text().replace("report_drift(", "report_drift2(", 1))
    (tmp_path / "refresh_users.yaml").unlink()
    _, checks = check_packages.check_packages(tmp_path, list(PIPELINES))
    states = {check.subject: check.state for check in checks}
    assert states.pop("package monitor") == "missing"
    assert states.pop("package refresh_users") == "missing"
    assert set(states.values()) == {"ok"}
