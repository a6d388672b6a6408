"""`reaseq compile`: compiles the pipelines to KFP packages."""

import argparse
from pathlib import Path

from components.images import MAIN_IMAGE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument(
        "--out", type=Path, default=Path("pipelines/compiled"), help="folder to write the packages into"
    )
    parser.add_argument("--image", default=MAIN_IMAGE, help="image of the main environment, pinned by digest")
    parser.add_argument(
        "--teacher-image", help="image of the vllm environment: the distillation steps run in it, on a GPU"
    )
    parser.add_argument("--teacher-gpus", type=int, default=1, metavar="N", help="GPUs of each distillation step")
    parser.add_argument(
        "--training-gpus",
        type=int,
        default=0,
        metavar="N",
        help="GPUs of the step that trains the behaviour model (set behavior.training.num_processes to N, too)",
    )


def run(args: argparse.Namespace) -> int:
    """Writes one YAML file per pipeline."""
    from pipelines.compile import TeacherHost, compile_pipelines

    host = TeacherHost(args.teacher_image, args.teacher_gpus) if args.teacher_image else None
    for path in compile_pipelines(args.out, image=args.image, teacher_host=host, training_gpus=args.training_gpus):
        print(path)
    return 0
