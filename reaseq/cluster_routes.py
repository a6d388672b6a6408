"""Canary, promotion and rollback where the routes lie on a cluster: a run of `change_routes` does it."""

import argparse
from pathlib import Path

from reaseq import submit
from reaseq.cluster_options import add_cluster_options


def add_route_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that send a change of the routes to a cluster."""
    on_cluster = parser.add_argument_group("on a cluster, where a pipeline does it")
    add_cluster_options(on_cluster, is_required=False)
    on_cluster.add_argument(
        "--package", type=Path, help="compiled `change_routes` (default: the one compiled with this version)"
    )


def change_cluster_routes(
    arguments: argparse.Namespace, action: str, *, arm: str = "", ranker: str = "", share: float = 0.0
) -> int:
    """Submits the change, waits for its end, and returns the exit code of `reaseq submit --wait`."""
    words = {"pipeline": "change_routes", "schedule": None, "wait": True, "act": False, "deploy": False}
    change = {"action": action, "arm": arm, "ranker": ranker, "share": share}
    return submit.run_verb(argparse.Namespace(**(vars(arguments) | words | change)))
