"""`reaseq doctor`: asks a cluster for everything that a run will need, and submits nothing."""

import argparse
from pathlib import Path

from reaseq.cluster_options import add_cluster_options
from reaseq.config_options import add_config_options, load_run_config

EXAMPLES = {
    "reaseq doctor --config configs/cluster.yaml --host https://kubeflow.example/pipeline --namespace me": (
        "backend, rights, claims, secrets, servers, packages"
    ),
    "reaseq doctor --config configs/cluster-local.yaml --gateway http://127.0.0.1:3000": (
        "all but the backend; the gateway through a forwarded port"
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    add_config_options(parser)
    add_cluster_options(parser, is_required=False)
    parser.add_argument(
        "--packages", type=Path, metavar="FOLDER", help="compiled packages (default: the committed ones)"
    )
    parser.add_argument("--gateway", metavar="URL", help="where the gateway is reached from here")


def run_verb(arguments: argparse.Namespace) -> int:
    """Prints a line for each check; 2 where something is missing."""
    from pipelines.compiled_package import COMPILED_FOLDER
    from pipelines.doctor.examine_cluster import examine_cluster

    counts = {"ok": 0, "missing": 0, "could not ask": 0}
    for check in examine_cluster(
        load_run_config(arguments),
        host=arguments.host,
        namespace=arguments.namespace,
        experiment=arguments.experiment,
        packages_folder=arguments.packages or COMPILED_FOLDER,
        gateway_url=arguments.gateway,
    ):
        print(check, flush=True)
        counts[check.state] += 1
    print(", ".join(f"{count} {state}" for state, count in counts.items()))
    return 2 if counts["missing"] else 0
