"""`reaseq canary`: lets a new ranker answer a share of an arm's users."""

import argparse

import shtab

from reaseq.cluster_routes import add_route_options, change_cluster_routes
from reaseq.config_options import add_config_options, load_run_config

EXAMPLES = {
    "reaseq canary new-ranker --share 0.05": "5 % of the control arm's users",
    "reaseq canary --share 1": "all of them: the trial of the arm's canary went well",
    "reaseq canary --share 0": "none: it went badly",
    "reaseq canary s3://mlpipeline/v2/artifacts/challenger --share 0.05 --config configs/cluster.yaml "
    "--host https://kubeflow.example/pipeline --namespace me": "on a cluster: an artifact of a run",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    ranker_argument = parser.add_argument(
        "ranker",
        nargs="?",
        default="",
        help="folder of the ranker artifact, its address on a cluster, or the name of a ranker that was "
        "deployed before (default: the arm's present canary)",
    )
    ranker_argument.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    parser.add_argument("--arm", default="control", help="whose users (default: %(default)s)")
    parser.add_argument(
        "--share", type=float, required=True, help="of the arm's users; 1 ends the trial well, 0 badly"
    )
    add_route_options(parser)


def run_verb(arguments: argparse.Namespace) -> int:
    """Checks the ranker on its golden rows, then changes the routes."""
    change = {"arm": arguments.arm, "ranker": arguments.ranker, "share": arguments.share}
    if arguments.host:
        return change_cluster_routes(arguments, "canary", **change)
    from serving.experiments.change_routes import change_routes

    run_config = load_run_config(arguments)
    state_folder = run_config.home / "serving"
    print(change_routes("canary", config=run_config.serving, state=state_folder, **change))
    return 0
