"""What Istio's proxies let through: AuthorizationPolicy and PeerAuthentication.

Only a target with a proxy of its own is guarded. A caller without one has no certificate, so no rule that
asks who it is can match.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from contracts.errors import UserError
from infra.reachability.cluster import Cluster, Manifest, Peer, matches_labels

_RULE_FIELDS = {"from", "to", "when"}
_SOURCE_FIELDS = {"principals", "namespaces"}
_OPERATION_FIELDS = {"ports", "paths", "methods"}


@dataclass(frozen=True)
class Call:
    """A connection, and the request on it where it is HTTP."""

    source: Peer
    target: Peer
    port: int
    path: str | None = None
    """None: not HTTP. Rules that ask for paths or methods then never match."""
    method: str = "GET"


def explain_mesh_refusal(cluster: Cluster, call: Call) -> str | None:
    """Why the target's proxy refuses a call; None where it lets it through."""
    if not cluster.has_proxy(call.target):
        return None
    is_known = cluster.has_proxy(call.source)
    for authentication in _select(cluster, "PeerAuthentication", call.target):
        if authentication["spec"].get("mtls", {}).get("mode") == "STRICT" and not is_known:
            name = authentication["metadata"]["name"]
            return f"PeerAuthentication {name} is STRICT, and {call.source.name} has no proxy"
    policies = _select(cluster, "AuthorizationPolicy", call.target)
    for policy in policies:
        if _action(policy) == "DENY" and _matches_policy(policy, call, is_known=is_known):
            return f"AuthorizationPolicy {policy['metadata']['name']} denies it"
    allowing = [policy for policy in policies if _action(policy) == "ALLOW"]
    if not allowing or any(_matches_policy(policy, call, is_known=is_known) for policy in allowing):
        return None
    names = ", ".join(policy["metadata"]["name"] for policy in allowing)
    reason = "" if is_known else f", and {call.source.name} has no proxy that could say who it is"
    return f"no rule of AuthorizationPolicy {names} at {call.target.name} allows it{reason}"


def _select(cluster: Cluster, kind: str, peer: Peer) -> list[Manifest]:
    return [
        policy
        for policy in cluster.list_policies(kind, peer.namespace)
        if matches_labels(policy["spec"].get("selector"), peer.labels)
    ]


def _action(policy: Manifest) -> str:
    action = policy["spec"].get("action", "ALLOW")
    if action not in {"ALLOW", "DENY"}:
        raise UserError(f"AuthorizationPolicy {policy['metadata']['name']}: {action} is not evaluated")
    return str(action)


def _matches_policy(policy: Manifest, call: Call, *, is_known: bool) -> bool:
    name = policy["metadata"]["name"]
    return any(_matches_rule(name, rule, call, is_known) for rule in policy["spec"].get("rules", ()))


def _matches_rule(name: str, rule: Manifest, call: Call, is_known: bool) -> bool:
    _require_known(name, rule, _RULE_FIELDS)
    identity = _identify(call.source) if is_known else {}
    sources = [entry["source"] for entry in rule.get("from", ())]
    operations = [entry["operation"] for entry in rule.get("to", ())]
    for source in sources:
        _require_known(name, source, _SOURCE_FIELDS)
    for operation in operations:
        _require_known(name, operation, _OPERATION_FIELDS)
    return (
        (not sources or any(_matches_fields(source, identity) for source in sources))
        and (not operations or any(_matches_fields(o, _describe(call)) for o in operations))
        and all(_matches_condition(condition, identity) for condition in rule.get("when", ()))
    )


def _identify(source: Peer) -> dict[str, str]:
    account = source.spec.get("serviceAccountName", "default")
    principal = f"cluster.local/ns/{source.namespace}/sa/{account}"
    return {"principals": principal, "namespaces": str(source.namespace)}


def _describe(call: Call) -> dict[str, str]:
    request = {} if call.path is None else {"paths": call.path, "methods": call.method}
    return {"ports": str(call.port), **request}


def _matches_fields(wanted: dict[str, Any], values: dict[str, str]) -> bool:
    return all(
        field in values and any(fnmatchcase(values[field], str(pattern)) for pattern in patterns)
        for field, patterns in wanted.items()
    )


def _matches_condition(condition: Manifest, identity: dict[str, str]) -> bool:
    fields = {"source.namespace": "namespaces", "source.principal": "principals"}
    # Callers here set no header of a user, and so meet no condition that asks for one.
    value = identity.get(fields.get(condition["key"], ""))
    return value is not None and any(fnmatchcase(value, pattern) for pattern in condition["values"])


def _require_known(name: str, entry: Manifest, known: set[str]) -> None:
    if unknown := entry.keys() - known:
        raise UserError(f"AuthorizationPolicy {name}: '{min(unknown)}' is not evaluated")
