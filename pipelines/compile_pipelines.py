"""Compiles the DAGs to IR YAML."""

from pathlib import Path
from typing import Any, NamedTuple

import yaml
from kfp import compiler

from components.images import MAIN_IMAGE
from pipelines.apply_policy import apply_policy
from pipelines.change_routes import change_routes
from pipelines.compiled_package import COMPILED_FOLDER
from pipelines.distill_teacher import distill_teacher
from pipelines.exit_handler import add_exit_handler
from pipelines.monitor import monitor
from pipelines.refresh_pipelines import refresh_catalogue, refresh_users
from pipelines.run_experiment import run_experiment
from pipelines.simulate_shop import simulate_shop
from pipelines.step_policy import PodPolicy
from pipelines.train_and_deploy import train_and_deploy

PIPELINES = {
    "simulate_shop": simulate_shop,
    "change_routes": change_routes,
    "run_experiment": run_experiment,
    "train_and_deploy": train_and_deploy,
    "distill_teacher": distill_teacher,
    "refresh_catalogue": refresh_catalogue,
    "refresh_users": refresh_users,
    "monitor": monitor,
}
DISTILLATION_EXECUTORS = ("exec-distill-knowledge", "exec-distill-changed-items")
"""Executors of the steps in which the teacher runs."""
TRAINING_EXECUTORS = ("exec-train-behavior-model", "exec-distill-teacher")
"""Executors of the steps that can train on GPUs."""
TABLE_ALONE = PodPolicy()
"""The policy of the committed packages."""
GPU_RESOURCE = "nvidia.com/gpu"
"""Kubernetes' name of the resource."""


class TeacherHost(NamedTuple):
    """Where steps with a teacher in process (`vllm`, `transformers`) run."""

    image: str
    """Image of the environment `vllm`."""
    num_gpus: int = 1


def compile_pipelines(
    out: Path = COMPILED_FOLDER,
    *,
    image: str = MAIN_IMAGE,
    teacher_host: TeacherHost | None = None,
    training_gpus: int = 0,
    policy: PodPolicy = TABLE_ALONE,
) -> list[Path]:
    """Compiles every pipeline into `out/<name>.yaml`.

    Args:
        out: folder to write into.
        image: image of the `main` environment; on a cluster pin it by digest: the cache key holds it.
        teacher_host: for the distillation steps, when the teacher runs in process.
        training_gpus: GPUs of the steps that train the behavior model or a student; the image's torch must
            know GPUs.
        policy: what the cluster wants of pods, beside the table of `step_policy.py`.
    """
    out.mkdir(parents=True, exist_ok=True)
    return [_compile_pipeline(name, out, image, teacher_host, training_gpus, policy) for name in PIPELINES]


def _compile_pipeline(
    name: str,
    out: Path,
    image: str,
    teacher_host: TeacherHost | None,
    training_gpus: int,
    policy: PodPolicy,
) -> Path:
    package_path = out / f"{name}.yaml"
    pipeline = PIPELINES[name]
    if policy.webhook is not None:
        pipeline = add_exit_handler(pipeline, policy.webhook)
    compiler.Compiler().compile(pipeline, str(package_path))
    documents = apply_policy(list(yaml.safe_load_all(package_path.read_text(encoding="utf-8"))), policy)
    executors = documents[0]["deploymentSpec"]["executors"]
    containers = {
        key: executor["container"] for key, executor in executors.items() if "container" in executor
    }
    _set_images(containers, image, teacher_host)
    for executor_name in TRAINING_EXECUTORS if training_gpus else ():
        if executor_name in containers:
            _set_gpus(containers[executor_name], training_gpus)
    package_path.write_text(yaml.safe_dump_all(documents, sort_keys=True), encoding="utf-8")
    return package_path


def _set_images(containers: dict[str, dict[str, Any]], image: str, teacher_host: TeacherHost | None) -> None:
    for executor_name, container in containers.items():
        container["image"] = image
        if teacher_host and executor_name in DISTILLATION_EXECUTORS:
            container["image"] = teacher_host.image
            _set_gpus(container, teacher_host.num_gpus)


def _set_gpus(container: dict[str, Any], num_gpus: int) -> None:
    # As kfp's own set_accelerator_type writes it: under the old names and the new ones.
    names = dict.fromkeys(("type", "resourceType"), GPU_RESOURCE)
    counts = dict.fromkeys(("count", "resourceCount"), str(num_gpus))
    container.setdefault("resources", {})["accelerator"] = names | counts
