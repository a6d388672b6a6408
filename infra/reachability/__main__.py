"""`python -m infra.reachability [OVERLAY ...]`: prints who reaches whom, and fails where that is wrong.

Nothing but `kubectl` is needed, and no cluster. What an overlay renders, the steps of the compiled packages
and the neighbors of neighbors.yaml are put into one namespace. `--neighbors FILE` adds objects of your
cluster: a NetworkPolicy of your own, other labels of a pod. An object of the same kind and name takes the
place of ours.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from contracts.errors import UserError
from infra.reachability.cluster import Cluster, Manifest, Peer, build_cluster, read_manifests, render_overlay
from infra.reachability.matrix import HERE, describe, find_faults, find_security_faults, read_needs
from infra.reachability.step_pods import build_any_step, build_step_pods

ROOT = HERE.parents[1]
NAMESPACE = "reaseq"
OVERLAYS = ("local", "production", "kubeflow-profile")


def read_cluster(
    overlay: str, manifests: Iterable[Manifest], extra: Iterable[Manifest] = ()
) -> tuple[Cluster, list[Peer]]:
    """The cluster of an overlay, and the pods of all steps."""
    files = ["neighbors.yaml", *(["profile.yaml"] if overlay == "kubeflow-profile" else [])]
    neighbors = [build_any_step()]
    for name in files:
        neighbors += read_manifests((HERE / name).read_text(encoding="utf-8"))
    by_name = {
        (m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]): m for m in [*neighbors, *extra]
    }
    cluster = build_cluster(manifests, by_name.values(), namespace=NAMESPACE)
    steps = build_step_pods(ROOT / "pipelines/compiled")
    step_peers = [
        Peer(m["metadata"]["name"], NAMESPACE, m["metadata"]["labels"], {}, m["spec"]) for m in steps
    ]
    return cluster, step_peers


def main() -> int:
    """Prints and judges; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.reachability", description=__doc__)
    parser.add_argument("overlays", nargs="*", default=list(OVERLAYS), metavar="OVERLAY")
    parser.add_argument("--neighbors", type=Path, help="objects of your cluster, as YAML")
    arguments = parser.parse_args()
    extra = read_manifests(arguments.neighbors.read_text()) if arguments.neighbors else []
    needs, faults = read_needs(), []
    for overlay in arguments.overlays:
        try:
            manifests = render_overlay(ROOT / "infra/k8s/overlays" / overlay)
            cluster, steps = read_cluster(overlay, manifests, extra)
            found = [*find_faults(cluster, needs), *find_security_faults(cluster, steps)]
            print(f"== {overlay}\n{describe(cluster, needs, steps)}\n")
        except UserError as error:
            print(f"reachability: {error}", file=sys.stderr)
            return 2
        faults += [f"{overlay}: {fault}" for fault in found]
    print("\n".join(faults) or "Everything needed is open, nothing forbidden is.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
