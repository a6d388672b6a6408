"""The committed packages are what the code compiles to, and keep the house's rules for clusters."""

import json
from pathlib import Path

import pytest
import yaml

from components.images import MAIN_IMAGE
from pipelines.compile_pipelines import PIPELINES, TeacherHost, compile_pipelines
from pipelines.compiled_package import COMPILED_FOLDER, MAX_PACKAGE_BYTES
from pipelines.step_settings import WORKSPACE_CLAIM, WORKSPACE_MOUNT

ROOT = Path(__file__).parents[3]

SIDE_EFFECTS = {
    "collect-log",
    "materialize-features",
    "deploy-ranker",
    "find-champion",
    "simulate-shop",
    "decide",
    "digest-sources",
    "change-routes",
    "run-experiment",
    "find-deployment",
    "record-refresh",
    "collect-traffic",
}


def load_documents(name: str) -> list[dict]:
    return list(yaml.safe_load_all((COMPILED_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")))


def list_tasks(spec: dict):
    dags = [spec["root"]["dag"], *(c["dag"] for c in spec["components"].values() if "dag" in c)]
    for dag in dags:
        yield from dag["tasks"].values()


def test_the_committed_packages_are_current(tmp_path):
    for compiled_path in compile_pipelines(tmp_path):
        committed_text = (COMPILED_FOLDER / compiled_path.name).read_text(encoding="utf-8")
        assert compiled_path.read_text(encoding="utf-8") == committed_text, (
            f"{compiled_path.name} is stale: run `reaseq compile`"
        )


def test_an_image_pinned_by_digest_reaches_every_task(tmp_path):
    pinned_image = "registry.example/reaseq-main@sha256:" + "0" * 64
    compile_pipelines(tmp_path, image=pinned_image)

    for pipeline_name in PIPELINES:
        pipeline_spec = next(
            iter(yaml.safe_load_all((tmp_path / f"{pipeline_name}.yaml").read_text(encoding="utf-8")))
        )
        executors = [
            e["container"] for e in pipeline_spec["deploymentSpec"]["executors"].values() if "container" in e
        ]
        assert {executor["image"] for executor in executors} == {pinned_image}


def test_steps_with_a_teacher_in_process_get_its_image_and_gpus(tmp_path):
    compile_pipelines(tmp_path, teacher_host=TeacherHost("reaseq-vllm@sha256:1", num_gpus=2))

    for pipeline_name, step_name in {
        "train_and_deploy": "distill-knowledge",
        "distill_teacher": "distill-knowledge",
        "refresh_catalogue": "distill-changed-items",
    }.items():
        pipeline_spec = next(
            iter(yaml.safe_load_all((tmp_path / f"{pipeline_name}.yaml").read_text(encoding="utf-8")))
        )
        executors = {
            n: e["container"]
            for n, e in pipeline_spec["deploymentSpec"]["executors"].items()
            if "container" in e
        }
        teacher = executors.pop(f"exec-{step_name}")
        assert teacher["image"] == "reaseq-vllm@sha256:1"
        assert teacher["resources"]["accelerator"]["resourceType"] == "nvidia.com/gpu"
        assert teacher["resources"]["accelerator"]["resourceCount"] == "2"
        assert {executor["image"] for executor in executors.values()} == {MAIN_IMAGE}
        assert not any("accelerator" in executor.get("resources", {}) for executor in executors.values())


def test_the_steps_that_train_large_models_get_gpus(tmp_path):
    compile_pipelines(tmp_path, training_gpus=4)
    trained_in = {
        "train_and_deploy": {"exec-train-behavior-model": "4"},
        "monitor": {"exec-train-behavior-model": "4"},
        "distill_teacher": {"exec-distill-teacher": "4"},
    }
    for pipeline_name in PIPELINES:
        pipeline_spec = next(
            iter(yaml.safe_load_all((tmp_path / f"{pipeline_name}.yaml").read_text(encoding="utf-8")))
        )
        gpu_counts = {
            step_name: executor["container"]["resources"]["accelerator"]["resourceCount"]
            for step_name, executor in pipeline_spec["deploymentSpec"]["executors"].items()
            if "accelerator" in executor.get("container", {}).get("resources", {})
        }
        assert gpu_counts == trained_in.get(pipeline_name, {})


@pytest.mark.parametrize("name", ["train_and_deploy", "refresh_users", "refresh_catalogue"])
def test_users_are_inferred_in_shards_at_once_and_merged(name):
    pipeline_spec = load_documents(name)[0]
    loop_tasks = [
        task for task in pipeline_spec["root"]["dag"]["tasks"].values() if "parameterIterator" in task
    ]
    step_names = [
        set(pipeline_spec["components"][loop_task["componentRef"]["name"]]["dag"]["tasks"])
        for loop_task in loop_tasks
    ]
    assert {"infer-behaviors"} in step_names
    assert pipeline_spec["root"]["inputDefinitions"]["parameters"]["user_shards"]["parameterType"] == "LIST"
    assert "merge-inferred" in pipeline_spec["root"]["dag"]["tasks"]


def test_shards_run_at_once_and_are_merged():
    for pipeline_name, step_name in {
        "train_and_deploy": "distill-knowledge",
        "refresh_catalogue": "distill-changed-items",
    }.items():
        pipeline_spec = load_documents(pipeline_name)[0]
        loop_task = next(
            task for task in pipeline_spec["root"]["dag"]["tasks"].values() if "parameterIterator" in task
        )
        assert set(pipeline_spec["components"][loop_task["componentRef"]["name"]]["dag"]["tasks"]) == {
            step_name
        }
        assert "iteratorPolicy" not in loop_task
        assert (
            pipeline_spec["root"]["inputDefinitions"]["parameters"]["knowledge_shards"]["parameterType"]
            == "LIST"
        )
        assert "merge-knowledge" in pipeline_spec["root"]["dag"]["tasks"]


@pytest.mark.parametrize("name", PIPELINES)
def test_packages_keep_the_rules_of_clusters(name):
    pipeline_spec = load_documents(name)[0]
    containers = [
        e["container"] for e in pipeline_spec["deploymentSpec"]["executors"].values() if "container" in e
    ]

    assert (COMPILED_FOLDER / f"{name}.yaml").stat().st_size < MAX_PACKAGE_BYTES
    assert {c["image"] for c in containers} == {MAIN_IMAGE}
    assert not any("pip install" in " ".join(c["command"]) for c in containers), (
        "no step installs anything at start"
    )
    for task in list_tasks(pipeline_spec):
        is_cached = task.get("cachingOptions", {}).get("enableCache", False)
        step_name = task["componentRef"]["name"].removeprefix("comp-")
        if step_name in SIDE_EFFECTS:
            assert not is_cached, f"{step_name} changes the world and must not be cached"


def test_steps_and_gateway_share_one_volume():
    volume_claim = yaml.safe_load(
        (ROOT / "infra" / "k8s" / "base" / "state.yaml").read_text(encoding="utf-8")
    )
    serving_config = json.loads(
        (ROOT / "infra" / "k8s" / "base" / "serving.json").read_text(encoding="utf-8")
    )

    assert volume_claim["metadata"]["name"] == WORKSPACE_CLAIM
    assert serving_config["state"] == f"{WORKSPACE_MOUNT}/serving"
    assert serving_config["feature_store"] == f"{WORKSPACE_MOUNT}/feature_store"


def test_every_cached_step_knows_the_code_version():
    for pipeline_name in PIPELINES:
        pipeline_spec = load_documents(pipeline_name)[0]
        for task in list_tasks(pipeline_spec):
            component = pipeline_spec["components"][task["componentRef"]["name"]]
            if "executorLabel" not in component or not task.get("cachingOptions", {}).get("enableCache"):
                continue
            if component["executorLabel"].startswith("exec-importer"):
                continue
            assert "code_version" in component["inputDefinitions"]["parameters"], task["taskInfo"]["name"]


def test_the_monitor_trains_anew_only_when_told_to_and_when_it_is_due():
    pipeline_spec, platform = load_documents("monitor")
    (told,) = (task for task in pipeline_spec["root"]["dag"]["tasks"].values() if "triggerPolicy" in task)
    assert "pipelinechannel--train'] == true" in told["triggerPolicy"]["condition"]
    (due,) = pipeline_spec["components"][told["componentRef"]["name"]]["dag"]["tasks"].values()
    assert "decide-retrain'] == true" in due["triggerPolicy"]["condition"]
    (training,) = pipeline_spec["components"][due["componentRef"]["name"]]["dag"]["tasks"].values()
    nested = pipeline_spec["components"][training["componentRef"]["name"]]["dag"]["tasks"]
    alone = load_documents("train_and_deploy")[0]["root"]["dag"]["tasks"]
    assert set(nested) == set(alone)
    assert training["inputs"]["parameters"]["deploy"]["runtimeValue"]["constant"] is True
    volumes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert "pvcMount" in volumes["exec-deploy-ranker"]
