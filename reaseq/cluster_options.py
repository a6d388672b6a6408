"""The options by which verbs name a cluster."""

import argparse


def add_cluster_options(
    parser: argparse._ActionsContainer, *, is_required: bool = True, with_experiment: bool = True
) -> None:
    """Adds `--host`, `--namespace` and `--experiment`."""
    parser.add_argument("--host", required=is_required, metavar="URL", help="address of the Pipelines API")
    parser.add_argument("--namespace", help="your profile's namespace, on a multi-user cluster")
    if with_experiment:
        parser.add_argument("--experiment", default="reaseq", help="experiment to run in (default: reaseq)")
