"""Every executor of every package has a policy, in fields that Kubeflow's protos know."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2 as kubernetes_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from contracts.errors import UserError
from pipelines.apply_policy import name_step
from pipelines.compile_pipelines import PIPELINES, TeacherHost, compile_pipelines
from pipelines.compiled_package import COMPILED_FOLDER, read_package
from pipelines.step_policy import STEP_POLICIES, PodPolicy, read_pod_policy, scale_quantity

ROOT = Path(__file__).parents[3]
# Steps that use torch: its processes talk through shared memory.
TORCH_STEPS = {name for name, policy in STEP_POLICIES.items() if policy.shared_memory}
FULL_POLICY = read_pod_policy(ROOT / "configs/step-policy.yaml")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folder of the committed packages, of those with all that a policy can say, and of those with GPUs."""
    root = tmp_path_factory.mktemp("compiled")
    compile_pipelines(root / "full", policy=FULL_POLICY)
    compile_pipelines(root / "gpu", teacher_host=TeacherHost("reaseq-vllm@sha256:1"), training_gpus=2)
    compile_pipelines(root / "plain", policy=PodPolicy(run_as_user=None))
    return {"committed": COMPILED_FOLDER, **{name: root / name for name in ("full", "gpu", "plain")}}


def read(folder: Path, pipeline: str) -> tuple[dict[str, Any], dict[str, Any]]:
    spec, platform = yaml.safe_load_all((folder / f"{pipeline}.yaml").read_text())
    containers = {
        label: executor["container"]
        for label, executor in spec["deploymentSpec"]["executors"].items()
        if "container" in executor
    }
    return containers, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("kind", ["committed", "full", "gpu"])
def test_every_executor_is_bounded_and_confined(packages: dict[str, Path], kind: str, pipeline: str) -> None:
    containers, pods = read(packages[kind], pipeline)
    assert containers.keys() == pods.keys(), "no pod without a policy, no policy without a pod"
    for label, container in containers.items():
        resources, pod = container["resources"], pods[label]
        assert {"resourceCpuRequest", "resourceMemoryRequest", "resourceMemoryLimit"} <= resources.keys()
        assert resources["memoryRequest"] <= resources["memoryLimit"]
        assert int(pod["activeDeadlineSeconds"]) >= 60
        user = {"runAsNonRoot": True, "runAsUser": "10001", "runAsGroup": "10001"}
        assert pod["securityContext"] == user
        mounts = [mount["mountPath"] for mount in pod.get("emptyDirMounts", ())]
        assert mounts == (["/dev/shm"] if name_step(label) in TORCH_STEPS else [])


NOT_REPEATED = ("change-routes", "run-experiment", "decide")
"""A rollback twice is none, and a decision that was carried out is not carried out again."""


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_task_that_runs_a_container_is_retried_with_pauses(pipeline: str) -> None:
    spec, _ = yaml.safe_load_all((COMPILED_FOLDER / f"{pipeline}.yaml").read_text())
    dags = [spec["root"]["dag"], *(c["dag"] for c in spec["components"].values() if "dag" in c)]
    for task in (task for dag in dags for task in dag["tasks"].values()):
        label = spec["components"][task["componentRef"]["name"]].get("executorLabel", "exec-importer")
        is_container = "container" in spec["deploymentSpec"]["executors"].get(label, {})
        assert ("retryPolicy" in task) == is_container
        if is_container:
            policy = STEP_POLICIES[name_step(label)]
            assert task["retryPolicy"]["maxRetryCount"] == policy.retries
            assert policy.retries >= 2 or name_step(label) in NOT_REPEATED
            assert task["retryPolicy"]["backoffDuration"] == f"{policy.retry_pause_s}s"


@pytest.mark.parametrize("kind", ["committed", "full", "gpu", "plain"])
def test_the_protos_of_kubeflow_read_every_field(packages: dict[str, Path], kind: str) -> None:
    for pipeline in PIPELINES:
        spec, platform = yaml.safe_load_all((packages[kind] / f"{pipeline}.yaml").read_text())
        json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
        json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
        for pod in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
            json_format.ParseDict(pod, kubernetes_pb2.KubernetesExecutorConfig())


def test_the_table_names_the_steps_that_there_are() -> None:
    steps = {name_step(label) for pipeline in PIPELINES for label in read(COMPILED_FOLDER, pipeline)[0]}
    steps.add("post-outcome")  # where a policy names a webhook
    assert steps == STEP_POLICIES.keys()
    assert steps == {path.parent.name.replace("_", "-") for path in ROOT.glob("components/*/component.py")}


def test_a_policy_file_reaches_every_pod(packages: dict[str, Path]) -> None:
    containers, pods = read(packages["full"], "train_and_deploy")
    for label, pod in pods.items():
        assert pod["nodeSelector"] == {"labels": {"pool": "batch"}}
        assert [toleration["key"] for toleration in pod["tolerations"]] == ["dedicated"]
        secrets = [secret["secretName"] for secret in pod["secretAsEnv"]]
        assert secrets[-1] == "object-store"
        assert ("configMapAsEnv" in pod) == (name_step(label) == "distill-knowledge")
    assert containers["exec-train-ranker"]["resources"]["resourceMemoryLimit"] == "96Gi"
    assert containers["exec-ingest"]["resources"]["resourceMemoryLimit"] == "32Gi", (
        "medium is four times small"
    )
    assert pods["exec-train-ranker"]["activeDeadlineSeconds"] == "172800"
    assert "reaseq-pipelines" in {s["secretName"] for s in pods["exec-deploy-ranker"]["secretAsEnv"]}


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_webhook_is_told_of_the_end_of_every_pipeline(packages: dict[str, Path], pipeline: str) -> None:
    spec, _ = yaml.safe_load_all((packages["full"] / f"{pipeline}.yaml").read_text())
    tasks = spec["root"]["dag"]["tasks"]
    assert tasks.keys() == {"exit-handler-1", "post-outcome"}
    told = tasks["post-outcome"]
    assert told["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert told["inputs"]["parameters"]["status"]["taskFinalStatus"] == {"producerTask": "exit-handler-1"}
    name = pipeline.replace("_", "-")
    assert told["inputs"]["parameters"]["pipeline"] == {"runtimeValue": {"constant": name}}
    assert told["cachingOptions"] == {}
    _, pods = read(packages["full"], pipeline)
    (webhook, *_) = pods["exec-post-outcome"]["secretAsEnv"]
    assert (webhook["secretName"], webhook["optional"]) == ("reaseq-webhook", True)
    assert webhook["keyToEnv"] == [{"secretKey": "url", "envVar": "REASEQ_WEBHOOK"}]
    committed, _ = yaml.safe_load_all((COMPILED_FOLDER / f"{pipeline}.yaml").read_text())
    assert spec["root"]["inputDefinitions"] == committed["root"]["inputDefinitions"], "the same arguments"
    assert "exec-post-outcome" not in committed["deploymentSpec"]["executors"], "nobody asked for it"


def test_gpus_come_on_top_of_the_resources(packages: dict[str, Path]) -> None:
    containers, _ = read(packages["gpu"], "train_and_deploy")
    resources = containers["exec-train-behavior-model"]["resources"]
    assert resources["accelerator"]["resourceCount"] == "2"
    assert resources["resourceMemoryLimit"] == STEP_POLICIES["train-behavior-model"].memory_limit


@pytest.mark.parametrize(("kind", "oldest"), [("committed", (2, 16)), ("plain", (2, 15))])
def test_a_package_knows_the_oldest_backend(
    packages: dict[str, Path], kind: str, oldest: tuple[int, int]
) -> None:
    assert read_package(packages[kind] / "train_and_deploy.yaml").oldest_backend == oldest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: {train-rankers: {cpu: '1'}}", "unknown step.*train-rankers.*train-ranker"),
        ("steps: {train-ranker: {memory_limit: lots}}", r"steps.train-ranker.memory_limit: .*given: 'lots'"),
        ("steps: {ingest: {memory_limit: 1Mi}}", "steps.ingest: memory 4Gi is above memory_limit 1Mi"),
        ("steps: {train-ranker: {shared_memory: 1Ti}}", "shared_memory 1Ti is above memory_limit 16Gi"),
        ("secrets: [{name: s, keys: {a: no variable}}]", r"secrets.0.keys.a: .*given: 'no variable', line 1"),
        (
            "secrets: [{name: s, keys: {a: T}, steps: [ingest]}]\nconfig_maps: [{name: c, keys: {b: T}}]",
            "T comes from 's' and from 'c'; keep one",
        ),
        ("node_selector: {gpu: true}", r"node_selector.gpu: .*write it in quotes \(given: True, line 1"),
        ("steps: {train-ranker: {gpus: 1}}", "gpus"),
        ("secrets: [{name: s, keys: {}}]", "secrets.0.keys"),
        ("run_as_user: 0", "run_as_user"),
        ("sizes: large", "sizes"),
    ],
)
def test_a_wrong_policy_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_pod_policy(path)


def test_two_steps_may_see_different_values_under_one_name(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    one = "{name: a, keys: {k: T}, steps: [ingest]}"
    path.write_text(f"secrets: [{one}, {one.replace('ingest', 'decide')}]")
    assert len(read_pod_policy(path).secrets) == 2


@pytest.mark.parametrize(
    ("quantity", "factor", "scaled"), [("500m", 2, "1000m"), ("1.5Gi", 4, "6Gi"), ("2", 2, "4")]
)
def test_quantities_are_scaled_in_their_own_unit(quantity: str, factor: float, scaled: str) -> None:
    assert scale_quantity(quantity, factor) == scaled
