"""`reaseq compile`: compiles the pipelines to KFP packages."""

import argparse
from pathlib import Path

from components.images import MAIN_IMAGE

EXAMPLES = {
    "reaseq compile": "the committed packages, after a change of a pipeline or component",
    "reaseq compile --image registry.example/reaseq-main@sha256:0123 --out compiled": "for a cluster",
    "reaseq compile --policy configs/step-policy.yaml --out compiled": "with a cluster's nodes and secrets",
    "reaseq compile --teacher-image registry.example/reaseq-vllm@sha256:4567 --out compiled": (
        "distillation with a language model on a GPU"
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument(
        "--out", type=Path, default=Path("pipelines/compiled"), help="folder to write the packages into"
    )
    parser.add_argument("--image", default=MAIN_IMAGE, help="image of the main environment, pinned by digest")
    parser.add_argument(
        "--teacher-image", help="image of the vllm environment: the distillation steps run in it, on a GPU"
    )
    parser.add_argument(
        "--teacher-gpus", type=int, default=1, metavar="N", help="GPUs of each distillation step"
    )
    parser.add_argument(
        "--policy",
        type=Path,
        metavar="FILE",
        help="what your cluster wants of the steps' pods: size, nodes, tolerations, secrets (YAML)",
    )
    parser.add_argument(
        "--training-gpus",
        type=int,
        default=0,
        metavar="N",
        help="GPUs of the behavior model's training (set behavior.training.num_processes to N, too)",
    )


def run_verb(arguments: argparse.Namespace) -> int:
    """Writes one YAML file per pipeline."""
    from pipelines.compile_pipelines import TABLE_ALONE, TeacherHost, compile_pipelines
    from pipelines.step_policy import read_pod_policy

    teacher_host = (
        TeacherHost(arguments.teacher_image, arguments.teacher_gpus) if arguments.teacher_image else None
    )
    for package_path in compile_pipelines(
        arguments.out,
        image=arguments.image,
        teacher_host=teacher_host,
        training_gpus=arguments.training_gpus,
        policy=read_pod_policy(arguments.policy) if arguments.policy else TABLE_ALONE,
    ):
        print(package_path)
    return 0
