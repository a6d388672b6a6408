"""Compiles the DAGs to IR YAML."""

from pathlib import Path
from typing import Any, NamedTuple

import yaml
from kfp import compiler

from components.images import MAIN_IMAGE
from pipelines.monitor import monitor
from pipelines.refresh import refresh_catalogue, refresh_users
from pipelines.simulate_shop import simulate_shop
from pipelines.train_and_deploy import train_and_deploy

COMPILED = Path(__file__).parent / "compiled"
PIPELINES = {
    "simulate_shop": simulate_shop,
    "train_and_deploy": train_and_deploy,
    "refresh_catalogue": refresh_catalogue,
    "refresh_users": refresh_users,
    "monitor": monitor,
}


DISTILLING = ("exec-distill-knowledge", "exec-distill-changed-items")
"""Executors of the steps in which the teacher runs."""


TRAINING = "exec-train-behavior-model"
"""Executor of the step that can train on GPUs."""
GPU = "nvidia.com/gpu"
"""Kubernetes' name of the resource."""


class TeacherHost(NamedTuple):
    """Where steps with a teacher in process (`vllm`, `transformers`) run."""

    image: str
    """Image of the environment `vllm`."""
    num_gpus: int = 1
    gpu: str = GPU
    """Kubernetes' name of the resource."""


def compile_pipelines(
    out: Path = COMPILED, *, image: str = MAIN_IMAGE, teacher_host: TeacherHost | None = None, training_gpus: int = 0
) -> list[Path]:
    """Compiles every pipeline into `out/<name>.yaml`.

    Args:
        out: folder to write into.
        image: image of the `main` environment; on a cluster, pin it by digest (the cache key holds this string).
        teacher_host: for the distillation steps, when the teacher runs in process.
        training_gpus: GPUs of the step that trains the behaviour model; the image's torch must know GPUs.
    """
    out.mkdir(parents=True, exist_ok=True)
    return [_compile(name, out, image, teacher_host, training_gpus) for name in PIPELINES]


def _compile(name: str, out: Path, image: str, teacher_host: TeacherHost | None, training_gpus: int) -> Path:
    path = out / f"{name}.yaml"
    compiler.Compiler().compile(PIPELINES[name], str(path))
    if image != MAIN_IMAGE or teacher_host or training_gpus:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
        executors = documents[0]["deploymentSpec"]["executors"]
        containers = {key: executor["container"] for key, executor in executors.items() if "container" in executor}
        _set_images(containers, image, teacher_host)
        if training_gpus and TRAINING in containers:
            _set_gpus(containers[TRAINING], GPU, training_gpus)
        path.write_text(yaml.safe_dump_all(documents, sort_keys=True), encoding="utf-8")
    return path


def _set_images(containers: dict[str, dict[str, Any]], image: str, teacher_host: TeacherHost | None) -> None:
    for name, container in containers.items():
        container["image"] = image
        if teacher_host and name in DISTILLING:
            container["image"] = teacher_host.image
            _set_gpus(container, teacher_host.gpu, teacher_host.num_gpus)


def _set_gpus(container: dict[str, Any], resource: str, number: int) -> None:
    # As kfp's own set_accelerator_type writes it: under the old names and the new ones.
    accelerator = {"type": resource, "resourceType": resource, "count": str(number), "resourceCount": str(number)}
    container["resources"] = {"accelerator": accelerator}
