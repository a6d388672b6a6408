"""The Kubernetes manifests are valid, complete and keep to our rules."""

import itertools
import re
import shutil
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.images import MAIN_IMAGE
from infra.reachability.pod_security import find_level
from serving.config import CONFIG_ENV, KEEP_ALIVE_S, ServingConfig

ROOT = Path(__file__).parents[3]
FOLDERS = ("base", "overlays/local", "overlays/production", "overlays/kubeflow-profile")
Manifest = dict[str, Any]

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


@cache
def build(folder: str) -> tuple[Manifest, ...]:
    command = ["kubectl", "kustomize", str(ROOT / "infra/k8s" / folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return tuple(yaml.safe_load_all(done.stdout))


def pods(folder: str) -> dict[str, Manifest]:
    """Pod specs by workload name."""
    return {
        m["metadata"]["name"]: m["spec"]["template"]["spec"]
        for m in build(folder)
        if "template" in m.get("spec", {})
    }


def names(folder: str, kind: str) -> set[str]:
    return {m["metadata"]["name"] for m in build(folder) if m["kind"] == kind}


@pytest.mark.parametrize("folder", [*FOLDERS, "overlays/kserve", "monitoring", "training"])
def test_manifests_obey_the_strict_schema(folder: str) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    own_checks = {"InferenceService", "PodMonitor", "PrometheusRule", "PyTorchJob"}
    for manifest in build(folder):
        if manifest["kind"] not in own_checks:  # no kinds of Kubernetes itself: tests of their own are below
            validate.validate(manifest, validate.latest_version(), strict=True)


@pytest.mark.parametrize(
    ("folder", "workloads"),
    [
        ("base", {"gateway", "triton", "redis", "vllm"}),
        ("overlays/local", {"gateway", "triton", "redis"}),
        ("overlays/production", {"gateway", "triton", "redis", "vllm"}),
        ("overlays/kubeflow-profile", {"gateway", "triton", "redis", "vllm"}),
    ],
)
def test_each_workload_has_a_service_and_a_network_policy(folder: str, workloads: set[str]) -> None:
    assert set(pods(folder)) == workloads
    assert names(folder, "Service") == workloads
    assert names(folder, "NetworkPolicy") == workloads | {"default-deny", "dns"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_services_reach_ports_that_their_pods_open(folder: str) -> None:
    for service in (m for m in build(folder) if m["kind"] == "Service"):
        container = pods(folder)[service["metadata"]["name"]]["containers"][0]
        opened = {port["name"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= opened


@pytest.mark.parametrize("folder", FOLDERS)
def test_pods_are_confined_probed_and_bounded(folder: str) -> None:
    for name, pod in pods(folder).items():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
            assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys(), name
            assert "memory" in container["resources"]["limits"], name
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name


@pytest.mark.parametrize("folder", FOLDERS)
def test_an_empty_claim_gets_its_folders_before_anything_starts(folder: str) -> None:
    for name in ("gateway", "triton"):
        (init,) = pods(folder)[name]["initContainers"]
        made = init["command"][2:]
        config = serving_config(folder)
        assert init["command"][:2] == ["mkdir", "-p"]
        assert str(config.model_repository) in made
        assert str(config.feature_store) in made
        (mount,) = init["volumeMounts"]
        assert not mount.get("readOnly"), "folders are made here"
        assert init["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in init["resources"]["limits"]
        assert init["image"] == pods(folder)[name]["containers"][0]["image"], "no image more is pulled"


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_manifest_names_a_namespace(folder: str) -> None:
    """`kubectl apply -n` and `submit --namespace` do: in another one steps would find no claim."""
    assert not [m["metadata"]["name"] for m in build(folder) if "namespace" in m["metadata"]]
    assert not names(folder, "Namespace")


@pytest.mark.parametrize("folder", FOLDERS)
def test_images_are_pinned_and_ours_bear_the_version(folder: str) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for pod in pods(folder).values():
        for container in pod["containers"]:
            image, _, tag = container["image"].partition(":")
            assert tag not in {"", "latest"}, container["image"]
            if image.startswith("reaseq-"):
                assert tag == version


@pytest.mark.parametrize("folder", FOLDERS)
def test_secrets_are_referred_to_and_never_written(folder: str) -> None:
    assert not names(folder, "Secret")
    for pod in pods(folder).values():
        for variable in pod["containers"][0].get("env", []):
            if any(word in variable["name"] for word in ("PASSWORD", "TOKEN", "AUTH", "KEY")):
                assert "secretKeyRef" in variable["valueFrom"], variable["name"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_claims_and_config_maps_that_pods_mount_exist(folder: str) -> None:
    for pod in pods(folder).values():
        for volume in pod["volumes"]:
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in names(folder, "PersistentVolumeClaim")
            if "configMap" in volume:
                assert volume["configMap"]["name"] in names(folder, "ConfigMap")


@pytest.mark.parametrize("folder", ["overlays/production", "overlays/kubeflow-profile"])
def test_a_claim_is_mounted_by_as_many_nodes_as_its_mode_lets(folder: str) -> None:
    modes = {
        m["metadata"]["name"]: m["spec"]["accessModes"]
        for m in build(folder)
        if m["kind"] == "PersistentVolumeClaim"
    }
    for deployment in (m for m in build(folder) if m["kind"] == "Deployment"):
        volumes = deployment["spec"]["template"]["spec"]["volumes"]
        for claim in (
            v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v
        ):
            if modes[claim] != ["ReadWriteMany"]:
                # A second pod on another node, if only during a roll-out, would wait for the volume for ever.
                assert deployment["spec"]["replicas"] == 1
                assert deployment["spec"]["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_selectors_hold_nothing_that_an_upgrade_may_change(folder: str) -> None:
    """Kubernetes refuses to change one: the workload would have to be deleted."""
    for workload in (m for m in build(folder) if m["kind"] in {"Deployment", "StatefulSet"}):
        name = workload["metadata"]["name"]
        assert workload["spec"]["selector"]["matchLabels"] == {"app.kubernetes.io/name": name}


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_pods_read_from_config_maps_rolls_them_when_it_changes(folder: str) -> None:
    """A generated name ends with the digest of the content."""
    assert all(re.search(r"-[a-z0-9]{10}$", name) for name in names(folder, "ConfigMap"))
    for pod in pods(folder).values():
        for variable in pod["containers"][0].get("env", []):
            reference = variable.get("valueFrom", {}).get("configMapKeyRef")
            assert reference is None or reference["name"] in names(folder, "ConfigMap")


@pytest.mark.parametrize("folder", FOLDERS)
def test_redis_has_room_for_the_copy_that_it_makes_while_it_rewrites_its_log(folder: str) -> None:
    (redis,) = (m for m in build(folder) if (m["kind"], m["metadata"]["name"]) == ("StatefulSet", "redis"))
    container = redis["spec"]["template"]["spec"]["containers"][0]
    environment = {variable["name"]: variable.get("value") for variable in container["env"]}
    settings = container["args"][0]
    assert "maxmemory $MAX_MEMORY\n" in settings
    assert 'save ""\n' in settings, "snapshots beside the log would fork once more"
    max_memory = _read_bytes(str(environment["MAX_MEMORY"]))
    assert _read_bytes(container["resources"]["limits"]["memory"]) >= 2 * max_memory
    (volume,) = redis["spec"]["volumeClaimTemplates"]
    assert _read_bytes(volume["spec"]["resources"]["requests"]["storage"]) >= 3 * max_memory
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 600, "it reads its log before it answers"


def _read_bytes(size: str) -> float:
    """Of Kubernetes' and Redis' units, which mean the same here."""
    number, unit = re.fullmatch(r"(\d+)([a-zA-Z]+)", size).groups()  # type: ignore[union-attr]
    return float(number) * {"gi": 2**30, "gb": 2**30, "mi": 2**20, "mb": 2**20}[unit.lower()]


@pytest.mark.parametrize("name", ["gateway", "triton"])
def test_the_autoscaler_alone_decides_how_many_there_are(name: str) -> None:
    production = {(m["kind"], m["metadata"]["name"]): m for m in build("overlays/production")}
    autoscaler = production["HorizontalPodAutoscaler", name]["spec"]
    assert autoscaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    assert "replicas" not in production["Deployment", name]["spec"]
    budget = production["PodDisruptionBudget", name]["spec"]
    assert autoscaler["minReplicas"] > budget["maxUnavailable"] == 1
    # Before the first deployment no gateway is ready, and a drain would wait for ever.
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    (spread,) = production["Deployment", name]["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert spread["topologyKey"] == "kubernetes.io/hostname", "one node's end must not take all of them"
    assert spread["labelSelector"]["matchLabels"] == budget["selector"]["matchLabels"]
    labels = production["Deployment", name]["spec"]["template"]["metadata"]["labels"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()


def test_triton_is_scaled_by_the_metric_that_the_adapter_makes() -> None:
    (autoscaler,) = (
        m
        for m in build("overlays/production")
        if (m["kind"], m["metadata"]["name"]) == ("HorizontalPodAutoscaler", "triton")
    )
    values = yaml.safe_load((ROOT / "infra/prometheus/adapter_values.yaml").read_text())
    wanted = {m["pods"]["metric"]["name"] for m in autoscaler["spec"]["metrics"] if m["type"] == "Pods"}
    assert wanted == {rule["name"]["as"] for rule in values["rules"]["custom"]}


@pytest.mark.parametrize("folder", FOLDERS)
def test_clients_see_every_triton_and_find_new_ones(folder: str) -> None:
    """No virtual address, pods before they are ready, and connections that end: see serving/triton."""
    (service,) = (m for m in build(folder) if (m["kind"], m["metadata"]["name"]) == ("Service", "triton"))
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    (age,) = (a for a in pods(folder)["triton"]["containers"][0]["args"] if "max-connection-age=" in a)
    assert int(age.partition("=")[2]) <= 5 * 60_000


def test_the_operator_scrapes_ports_that_are_open_and_reads_the_very_rules() -> None:
    monitors = {m["metadata"]["name"]: m["spec"] for m in build("monitoring") if m["kind"] == "PodMonitor"}
    workloads = templates("overlays/production")
    assert monitors.keys() == {"gateway", "triton", "vllm"}
    for name, monitor in monitors.items():
        assert monitor["selector"]["matchLabels"].items() <= workloads[name]["metadata"]["labels"].items()
        (endpoint,) = monitor["podMetricsEndpoints"]
        ports = {p["name"]: p["containerPort"] for p in workloads[name]["spec"]["containers"][0]["ports"]}
        annotations = workloads[name]["metadata"]["annotations"]
        assert annotations["prometheus.io/port"] == str(ports[endpoint["port"]])
        assert annotations["prometheus.io/path"] == endpoint["path"]
        assert endpoint["honorLabels"] is True, "BentoML's label `endpoint` keeps its name"
    (rule,) = (m for m in build("monitoring") if m["kind"] == "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((ROOT / "infra/prometheus/rules.yaml").read_text())


def test_kserve_runs_the_very_pod_of_the_deployment() -> None:
    deployment = templates("overlays/production")["triton"]
    manifests = build("overlays/kserve")
    (service,) = (m for m in manifests if m["kind"] == "InferenceService")
    predictor = service["spec"]["predictor"]
    assert predictor["labels"] == deployment["metadata"]["labels"]
    assert predictor["containers"] == [deployment["spec"]["containers"][0] | {"name": "kserve-container"}]
    for field in deployment["spec"].keys() - {"containers", "topologySpreadConstraints"}:
        assert predictor[field] == deployment["spec"][field], field
    own = {(m["kind"], m["metadata"]["name"]) for m in manifests}
    assert not own & {("Deployment", "triton"), ("HorizontalPodAutoscaler", "triton")}
    assert predictor["minReplicas"] > 1


def test_the_training_job_is_two_pods_that_keep_to_the_rules() -> None:
    validate = pytest.importorskip("kubernetes_validate")
    (job,) = build("training")
    replicas = job["spec"]["pytorchReplicaSpecs"]
    assert replicas.keys() == {"Master", "Worker"}
    for replica in replicas.values():
        template = replica["template"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": template["spec"]}
        validate.validate(pod, validate.latest_version(), strict=True)
        assert find_level(template["spec"]) == "restricted"
        (container,) = template["spec"]["containers"]
        assert container["image"] == MAIN_IMAGE
        assert "memory" in container["resources"]["limits"]
        assert "/dev/shm" in {mount["mountPath"] for mount in container["volumeMounts"]}


def templates(folder: str) -> dict[str, Manifest]:
    """Pod templates by workload name."""
    workloads = [m for m in build(folder) if "template" in m.get("spec", {})]
    return {m["metadata"]["name"]: m["spec"]["template"] for m in workloads}


def serving_config(folder: str) -> ServingConfig:
    (config,) = [m for m in build(folder) if m["kind"] == "ConfigMap" and "serving.json" in m["data"]]
    return ServingConfig.model_validate_json(config["data"]["serving.json"])


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_serving_config_is_valid_and_agrees_with_the_manifests(folder: str) -> None:
    config = serving_config(folder)
    gateway, triton = (pods(folder)[name]["containers"][0] for name in ("gateway", "triton"))
    environment = {variable["name"]: variable.get("value") for variable in gateway["env"]}
    assert environment[CONFIG_ENV] == "/etc/reaseq/serving.json"
    arguments = dict(itertools.pairwise(gateway["args"]))
    assert arguments["--port"] == str(gateway["ports"][0]["containerPort"]) == str(config.gateway.port)
    assert arguments["--timeout-keep-alive"] == str(KEEP_ALIVE_S)
    assert f"--model-repository={config.model_repository}" in triton["args"]
    ports = {port["name"]: port["containerPort"] for port in triton["ports"]}
    assert ports == {
        "http": config.triton.http_port,
        "grpc": config.triton.grpc_port,
        "metrics": config.triton.metrics_port,
    }
    # Our own image carries the python backend only, NVIDIA's has onnxruntime.
    assert (config.triton.backend == "python") == triton["image"].startswith("reaseq-triton:")


@pytest.mark.skipif(
    not (ROOT / "serving/gateway/gateway_app.py").exists(), reason="the gateway is not there yet"
)
def test_the_gateway_that_is_started_exists() -> None:
    module, _, name = pods("base")["gateway"]["containers"][0]["args"][2].partition(":")
    source = (ROOT / (module.replace(".", "/") + ".py")).read_text()
    assert f"class {name}" in source
