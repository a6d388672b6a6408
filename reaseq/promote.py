"""`reaseq promote`: makes an arm's ranker the champion, which answers everybody."""

import argparse

from reaseq.cluster_routes import add_route_options, change_cluster_routes
from reaseq.config_options import add_config_options, load_run_config

EXAMPLES = {
    "reaseq promote --arm treatment": "end the experiment: the challenger has won",
    "reaseq promote --arm treatment --config configs/cluster.yaml --host https://kubeflow.example/pipeline "
    "--namespace me": "on a cluster",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    parser.add_argument("--arm", default="treatment", help="arm that won (default: %(default)s)")
    add_route_options(parser)


def run_verb(arguments: argparse.Namespace) -> int:
    """Switches the routes. Running gateways follow with their next request."""
    if arguments.host:
        return change_cluster_routes(arguments, "promote", arm=arguments.arm)
    from serving.experiments.champion import promote_arm

    print(promote_arm(arguments.arm, state=load_run_config(arguments).home / "serving"))
    return 0
