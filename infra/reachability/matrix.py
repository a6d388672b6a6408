"""The matrix: each caller against each port, what is refused and why, and what should be otherwise."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from infra.reachability.cluster import Cluster, Peer
from infra.reachability.mesh_policy import Call, explain_mesh_refusal
from infra.reachability.network_policy import explain_refusal
from infra.reachability.pod_security import (
    find_baseline_violations,
    find_level,
    find_restricted_violations,
)

HERE = Path(__file__).parent
_ISTIOD_PORT = 15012


@dataclass(frozen=True)
class Need:
    """A connection that must be there, or must not."""

    source: str
    target: str
    port: int
    is_needed: bool
    path: str | None = None
    protocol: Literal["TCP", "UDP"] = "TCP"

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}:{self.port}/{self.protocol.lower()}"


def read_needs(path: Path = HERE / "needs.yaml") -> list[Need]:
    """Reads what must be there and what must not."""
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [
        Need(
            source=row["from"],
            target=row["to"],
            port=row["port"],
            is_needed=kind == "needed",
            path=row.get("path"),
            protocol=row.get("protocol", "TCP"),
        )
        for kind in ("needed", "forbidden")
        for row in tree[kind]
    ]


def explain_unreachable(cluster: Cluster, need: Need) -> str | None:
    """Why the source does not reach the target; None where it does."""
    source, target = cluster.peers[need.source], cluster.peers[need.target]
    dns = cluster.peers["dns"]
    is_by_name = source.namespace is not None and target.namespace is not None and target is not dns
    if is_by_name and (reason := explain_refusal(cluster, source, dns, 53, "UDP")):
        return f"no name is resolved: {reason}"
    if reason := explain_refusal(cluster, source, target, need.port, need.protocol):
        return reason
    for peer in (source, target):
        if reason := _explain_dead_proxy(cluster, peer):
            return reason
    if need.protocol == "UDP":
        return None  # proxies see TCP alone
    return explain_mesh_refusal(cluster, Call(source, target, need.port, need.path))


def find_faults(cluster: Cluster, needs: Iterable[Need]) -> list[str]:
    """What should be otherwise: needed and refused, or forbidden and open.

    Connections of pods that an overlay leaves out are passed over.
    """
    faults = []
    for need in list_present(cluster, needs):
        reason = explain_unreachable(cluster, need)
        if need.is_needed and reason:
            faults.append(f"{need} is needed, but {reason}")
        if not need.is_needed and reason is None:
            faults.append(f"{need} is open, and should not be")
    return faults


def find_security_faults(cluster: Cluster, step_pods: Iterable[Peer]) -> list[str]:
    """Pods that the level of their namespace would refuse, and servers of ours below `restricted`."""
    faults = []
    for pod in [*list_servers(cluster), *step_pods]:
        assert pod.namespace is not None
        enforced = cluster.namespaces[pod.namespace].get("pod-security.kubernetes.io/enforce", "privileged")
        if enforced != "privileged":
            faults += [f"{pod.name}: {violation}" for violation in find_baseline_violations(pod.spec)]
        if enforced == "restricted" or pod in list_servers(cluster):
            faults += [f"{pod.name}: {violation}" for violation in find_restricted_violations(pod.spec)]
    return faults


def list_servers(cluster: Cluster) -> list[Peer]:
    """The pods of our manifests."""
    ours = "app.kubernetes.io/part-of"
    return [peer for peer in cluster.peers.values() if peer.labels.get(ours) == "reaseq"]


def list_present(cluster: Cluster, needs: Iterable[Need]) -> list[Need]:
    """The needs whose both ends are there."""
    return [need for need in needs if {need.source, need.target} <= cluster.peers.keys()]


def describe(cluster: Cluster, needs: Iterable[Need], step_pods: list[Peer]) -> str:
    """The matrix, the reasons of what is refused, and the level of each pod."""
    needs = list_present(cluster, needs)
    sources = list(dict.fromkeys(need.source for need in needs))
    # A port is one column, however many paths are asked for: the first stands for it.
    columns: dict[tuple[str, int, Literal["TCP", "UDP"]], str | None] = {}
    for need in needs:
        columns.setdefault((need.target, need.port, need.protocol), need.path)
    headings = [f"{target}:{port}" + ("/udp" * (protocol == "UDP")) for target, port, protocol in columns]
    lines = ["from \\ to".ljust(12) + "  ".join(headings)]
    reasons: dict[str, list[str]] = {}
    for source in sources:
        cells = []
        for heading, ((target, port, protocol), path) in zip(headings, columns.items(), strict=True):
            if source == target:
                cells.append("".ljust(len(heading)))
                continue
            need = Need(source, target, port, is_needed=True, path=path, protocol=protocol)
            reason = explain_unreachable(cluster, need)
            cells.append(("-" if reason else "yes").ljust(len(heading)))
            if reason:
                reasons.setdefault(reason, []).append(f"{source} -> {heading}")
        lines.append(source.ljust(12) + "  ".join(cells).rstrip())
    lines += ["", "why not:", *(f"  {', '.join(pairs)}: {reason}" for reason, pairs in reasons.items())]
    lines += ["", "Pod Security Standards:"]
    lines += [f"  {pod.name}: {find_level(pod.spec)}" for pod in list_servers(cluster)]
    levels = sorted({find_level(pod.spec) for pod in step_pods})
    lines.append(f"  {len(step_pods)} pods of steps: {', '.join(levels)}")
    return "\n".join(lines)


def _explain_dead_proxy(cluster: Cluster, peer: Peer) -> str | None:
    istiod = cluster.peers.get("istiod")
    if istiod is None or peer.labels.get("istio") == "ingressgateway" or not cluster.has_proxy(peer):
        return None
    reason = explain_refusal(cluster, peer, istiod, _ISTIOD_PORT)
    return reason and f"the proxy of {peer.name} does not start, for it cannot ask istiod: {reason}"
