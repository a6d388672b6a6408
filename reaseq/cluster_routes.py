"""Verbs that change what is served, where it lies on a cluster: a run of a pipeline does it."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from reaseq import submit
from reaseq.cluster_options import add_cluster_options


def add_route_options(parser: argparse.ArgumentParser, *, pipeline: str = "change_routes") -> None:
    """Adds the options that send the verb to a cluster."""
    on_cluster = parser.add_argument_group("on a cluster, where a pipeline does it")
    add_cluster_options(on_cluster, is_required=False)
    on_cluster.add_argument(
        "--package", type=Path, help=f"compiled `{pipeline}` (default: the one compiled with this version)"
    )


def change_cluster_routes(
    arguments: argparse.Namespace, action: str, *, arm: str = "", ranker: str = "", share: float = 0.0
) -> int:
    """Submits the change, waits for its end, and returns the exit code of `reaseq submit --wait`."""
    change = submit.describe_route_change(action, arm=arm, ranker=ranker, share=share)
    return run_on_cluster(arguments, "change_routes", change)


def run_on_cluster(
    arguments: argparse.Namespace, pipeline: str, choices: Mapping[str, bool | str | float]
) -> int:
    """Submits a pipeline, waits for its end, and returns the exit code of `reaseq submit --wait`."""
    words = {"pipeline": pipeline, "schedule": None, "wait": True}
    return submit.submit_choices(argparse.Namespace(**(vars(arguments) | words)), choices)
