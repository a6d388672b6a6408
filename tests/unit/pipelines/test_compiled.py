"""The committed packages are what the code compiles to, and keep the house's rules for clusters."""

import json
from pathlib import Path

import pytest
import yaml

from components.images import MAIN_IMAGE
from pipelines.compile import COMPILED, PIPELINES, TeacherHost, compile_pipelines
from pipelines.package import MAX_PACKAGE_BYTES
from pipelines.steps import WORKSPACE_CLAIM, WORKSPACE_MOUNT

ROOT = Path(__file__).parents[3]

SIDE_EFFECTS = {"materialize-features", "deploy-ranker", "find-champion", "simulate-shop", "decide", "apply-decision"}


def _load(name: str) -> list[dict]:
    return list(yaml.safe_load_all((COMPILED / f"{name}.yaml").read_text(encoding="utf-8")))


def _tasks(spec: dict):
    dags = [spec["root"]["dag"], *(c["dag"] for c in spec["components"].values() if "dag" in c)]
    for dag in dags:
        yield from dag["tasks"].values()


def test_the_committed_packages_are_current(tmp_path):
    for path in compile_pipelines(tmp_path):
        committed = (COMPILED / path.name).read_text(encoding="utf-8")
        assert path.read_text(encoding="utf-8") == committed, f"{path.name} is stale: run `reaseq compile`"


def test_an_image_pinned_by_digest_reaches_every_task(tmp_path):
    image = "registry.example/reaseq-main@sha256:" + "0" * 64
    compile_pipelines(tmp_path, image=image)

    for name in PIPELINES:
        spec = next(iter(yaml.safe_load_all((tmp_path / f"{name}.yaml").read_text(encoding="utf-8"))))
        executors = [e["container"] for e in spec["deploymentSpec"]["executors"].values() if "container" in e]
        assert {executor["image"] for executor in executors} == {image}


def test_steps_with_a_teacher_in_process_get_its_image_and_gpus(tmp_path):
    compile_pipelines(tmp_path, teacher_host=TeacherHost("reaseq-vllm@sha256:1", num_gpus=2))

    for name, step in {"train_and_deploy": "distill-knowledge", "refresh_catalogue": "distill-changed-items"}.items():
        spec = next(iter(yaml.safe_load_all((tmp_path / f"{name}.yaml").read_text(encoding="utf-8"))))
        executors = {n: e["container"] for n, e in spec["deploymentSpec"]["executors"].items() if "container" in e}
        teacher = executors.pop(f"exec-{step}")
        assert teacher["image"] == "reaseq-vllm@sha256:1"
        assert teacher["resources"]["accelerator"]["resourceType"] == "nvidia.com/gpu"
        assert teacher["resources"]["accelerator"]["resourceCount"] == "2"
        assert {executor["image"] for executor in executors.values()} == {MAIN_IMAGE}
        assert not any("accelerator" in executor.get("resources", {}) for executor in executors.values())


def test_the_step_that_trains_the_behaviour_model_gets_gpus(tmp_path):
    compile_pipelines(tmp_path, training_gpus=4)
    for name in PIPELINES:
        spec = next(iter(yaml.safe_load_all((tmp_path / f"{name}.yaml").read_text(encoding="utf-8"))))
        counts = {
            step: executor["container"]["resources"]["accelerator"]["resourceCount"]
            for step, executor in spec["deploymentSpec"]["executors"].items()
            if "accelerator" in executor.get("container", {}).get("resources", {})
        }
        assert counts == ({"exec-train-behavior-model": "4"} if name == "train_and_deploy" else {})


@pytest.mark.parametrize("name", ["train_and_deploy", "refresh_users", "refresh_catalogue"])
def test_users_are_inferred_in_shards_at_once_and_merged(name):
    spec = _load(name)[0]
    loops = [task for task in spec["root"]["dag"]["tasks"].values() if "parameterIterator" in task]
    steps = [set(spec["components"][loop["componentRef"]["name"]]["dag"]["tasks"]) for loop in loops]
    assert {"infer-behaviors"} in steps
    assert spec["root"]["inputDefinitions"]["parameters"]["user_shards"]["parameterType"] == "LIST"
    assert "merge-inferred" in spec["root"]["dag"]["tasks"]


def test_shards_run_at_once_and_are_merged():
    for name, step in {"train_and_deploy": "distill-knowledge", "refresh_catalogue": "distill-changed-items"}.items():
        spec = _load(name)[0]
        loop = next(task for task in spec["root"]["dag"]["tasks"].values() if "parameterIterator" in task)
        assert set(spec["components"][loop["componentRef"]["name"]]["dag"]["tasks"]) == {step}
        assert "iteratorPolicy" not in loop
        assert spec["root"]["inputDefinitions"]["parameters"]["knowledge_shards"]["parameterType"] == "LIST"
        assert "merge-knowledge" in spec["root"]["dag"]["tasks"]


@pytest.mark.parametrize("name", PIPELINES)
def test_packages_keep_the_rules_of_clusters(name):
    spec = _load(name)[0]
    containers = [e["container"] for e in spec["deploymentSpec"]["executors"].values() if "container" in e]

    assert (COMPILED / f"{name}.yaml").stat().st_size < MAX_PACKAGE_BYTES
    assert {c["image"] for c in containers} == {MAIN_IMAGE}
    assert not any("pip install" in " ".join(c["command"]) for c in containers), "no step installs anything at start"
    for task in _tasks(spec):
        cached = task.get("cachingOptions", {}).get("enableCache", False)
        kind = task["componentRef"]["name"].removeprefix("comp-")
        if kind in SIDE_EFFECTS:
            assert not cached, f"{kind} changes the world and must not be cached"


def test_steps_and_gateway_share_one_volume():
    claim = yaml.safe_load((ROOT / "infra" / "k8s" / "base" / "state.yaml").read_text(encoding="utf-8"))
    serving = json.loads((ROOT / "infra" / "k8s" / "base" / "serving.json").read_text(encoding="utf-8"))

    assert claim["metadata"]["name"] == WORKSPACE_CLAIM
    assert serving["state"] == f"{WORKSPACE_MOUNT}/serving"
    assert serving["feature_store"] == f"{WORKSPACE_MOUNT}/feature_store"


def test_every_cached_step_knows_the_code_version():
    for name in PIPELINES:
        spec = _load(name)[0]
        for task in _tasks(spec):
            component = spec["components"][task["componentRef"]["name"]]
            if "executorLabel" not in component or not task.get("cachingOptions", {}).get("enableCache"):
                continue
            if component["executorLabel"].startswith("exec-importer"):
                continue
            assert "code_version" in component["inputDefinitions"]["parameters"], task["taskInfo"]["name"]
