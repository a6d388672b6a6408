"""`reaseq rollback`: puts the previous rankers back into service."""

import argparse

from reaseq.cluster_routes import add_route_options, change_cluster_routes
from reaseq.config_options import add_config_options, load_run_config

EXAMPLES = {
    "reaseq rollback": "undo the last deployment, canary or promotion",
    "reaseq rollback --config configs/cluster.yaml --host https://kubeflow.example/pipeline --namespace me": (
        "on a cluster"
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    add_route_options(parser)


def run_verb(arguments: argparse.Namespace) -> int:
    """Checks that the previous rankers still answer as they did, then switches the routes back."""
    if arguments.host:
        return change_cluster_routes(arguments, "rollback")
    from serving.deployment.deploy_rankers import roll_back_routes

    run_config = load_run_config(arguments)
    print(roll_back_routes(run_config.serving, state=run_config.home / "serving"))
    return 0
