"""What Kubernetes' network policies let through.

A pod that no policy selects for a direction may do anything in it. One that is selected may do what some rule
of some policy names. Both ends have a say: the caller's egress and the target's ingress.
"""

from ipaddress import ip_address, ip_network

from contracts.errors import UserError
from infra.reachability.cluster import Cluster, Manifest, Peer, matches_labels

_DIRECTIONS = {"Ingress": ("ingress", "from"), "Egress": ("egress", "to")}
_KNOWN_FIELDS = {"podSelector", "policyTypes", "ingress", "egress"}


def explain_refusal(
    cluster: Cluster, source: Peer, target: Peer, port: int, protocol: str = "TCP"
) -> str | None:
    """Why a connection is refused by network policies; None where it is let through."""
    for direction, subject, other in (("Egress", source, target), ("Ingress", target, source)):
        policies = _select_policies(cluster, subject, direction)
        if policies and not any(
            _permits(cluster, policy, direction, subject, other, target, port, protocol)
            for policy in policies
        ):
            names = ", ".join(policy["metadata"]["name"] for policy in policies)
            return f"{direction.lower()} of {subject.name} ({names}) has no rule for it"
    return None


def _select_policies(cluster: Cluster, peer: Peer, direction: str) -> list[Manifest]:
    return [
        policy
        for policy in cluster.list_policies("NetworkPolicy", peer.namespace)
        if peer.namespace is not None
        and direction in _list_directions(policy)
        and matches_labels(policy["spec"].get("podSelector"), peer.labels)
    ]


def _list_directions(policy: Manifest) -> list[str]:
    spec = policy["spec"]
    if unknown := spec.keys() - _KNOWN_FIELDS:
        raise UserError(f"NetworkPolicy {policy['metadata']['name']}: '{min(unknown)}' is not evaluated")
    default = ["Ingress", "Egress"] if "egress" in spec else ["Ingress"]
    return list(spec.get("policyTypes") or default)


def _permits(
    cluster: Cluster,
    policy: Manifest,
    direction: str,
    subject: Peer,
    other: Peer,
    target: Peer,
    port: int,
    protocol: str,
) -> bool:
    rules_field, peers_field = _DIRECTIONS[direction]
    for rule in policy["spec"].get(rules_field) or ():
        peers, ports = rule.get(peers_field), rule.get("ports")
        # A rule without peers means everybody, one without ports every port.
        is_peer = not peers or any(_is_chosen(cluster, entry, subject, other) for entry in peers)
        if is_peer and (not ports or any(_is_port(entry, target, port, protocol) for entry in ports)):
            return True
    return False


def _is_chosen(cluster: Cluster, entry: Manifest, subject: Peer, other: Peer) -> bool:
    if "ipBlock" in entry:
        # The addresses of pods are not known, and a rule that named them would not be kept.
        if other.address is None:
            return False
        address, block = ip_address(other.address), entry["ipBlock"]
        excluded = any(address in ip_network(cidr) for cidr in block.get("except", ()))
        return address in ip_network(block["cidr"]) and not excluded
    if other.namespace is None:
        return False
    if "namespaceSelector" in entry:
        if not matches_labels(entry["namespaceSelector"], cluster.namespaces[other.namespace]):
            return False
    elif other.namespace != subject.namespace:
        return False
    return matches_labels(entry.get("podSelector"), other.labels)


def _is_port(entry: Manifest, target: Peer, port: int, protocol: str) -> bool:
    if entry.get("protocol", "TCP") != protocol:
        return False
    named = entry.get("port")
    if named is None:
        return True
    first = named if isinstance(named, int) else target.find_port(named)
    return first is not None and first <= port <= entry.get("endPort", first)
