"""`reaseq run`: runs a pipeline on this machine and prints what came of it."""

import argparse
from pathlib import Path

from reaseq.options import add_config_options, config_of

_PIPELINES = ("train_and_deploy", "refresh_users", "refresh_catalogue")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    parser.add_argument(
        "--pipeline", default=_PIPELINES[0], choices=_PIPELINES, help="which one (default: %(default)s)"
    )
    parser.add_argument("--no-deploy", dest="deploy", action="store_false", help="train and evaluate only")


def run(args: argparse.Namespace) -> int:
    """Runs the pipeline; prints the evaluation."""
    config = config_of(args)
    print(f"{args.pipeline} of '{config.name}' in {config.home} (whole log: {config.home / 'run.log'})", flush=True)
    from reaseq.running import run_pipeline

    artifacts = run_pipeline(config, args.pipeline, deploy=args.deploy)
    if "evaluation" in artifacts:
        print_evaluation(artifacts["evaluation"])
    return 0


def print_evaluation(evaluation: Path) -> None:
    """Prints the evaluation's report."""
    print("\n" + (evaluation / "report.md").read_text(encoding="utf-8"))
