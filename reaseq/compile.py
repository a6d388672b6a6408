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


def run(args: argparse.Namespace) -> int:
    """Writes one YAML file per pipeline."""
    from pipelines.compile import compile_pipelines

    for path in compile_pipelines(args.out, image=args.image):
        print(path)
    return 0
