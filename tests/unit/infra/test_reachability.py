"""Who reaches whom under each overlay; and each rule that is taken away is noticed."""

import copy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import UserError
from infra.reachability.__main__ import OVERLAYS, read_cluster
from infra.reachability.cluster import Manifest, read_manifests, render_overlay
from infra.reachability.matrix import (
    Need,
    explain_unreachable,
    find_faults,
    find_security_faults,
    list_servers,
    read_needs,
)
from infra.reachability.pod_security import find_level

ROOT = Path(__file__).parents[3]
NEEDS = read_needs()
PROFILE = "kubeflow-profile"

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


@cache
def _render(overlay: str) -> tuple[Manifest, ...]:
    return tuple(render_overlay(ROOT / "infra/k8s/overlays" / overlay))


def render(overlay: str) -> list[Manifest]:
    return copy.deepcopy(list(_render(overlay)))


def judge(overlay: str, manifests: list[Manifest], extra: str = "") -> list[str]:
    cluster, steps = read_cluster(overlay, manifests, read_manifests(extra))
    return [*find_faults(cluster, NEEDS), *find_security_faults(cluster, steps)]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_all_that_is_needed_is_open_and_nothing_that_is_forbidden(overlay: str) -> None:
    assert judge(overlay, render(overlay)) == []


def test_every_need_is_met_by_some_overlay() -> None:
    """A name that is nobody's would be passed over for ever."""
    peers = {name for overlay in OVERLAYS for name in read_cluster(overlay, render(overlay))[0].peers}
    assert {name for need in NEEDS for name in (need.source, need.target)} <= peers


def list_rules(policy: Manifest) -> Iterator[tuple[str, int]]:
    for direction in ("ingress", "egress"):
        yield from ((direction, index) for index in range(len(policy["spec"].get(direction, ()))))


def list_removals() -> Iterator[tuple[str, Callable[[dict[str, Manifest]], None]]]:
    """Each way to take one rule, one port or one peer out of a network policy."""

    def remove(name: str, *path: Any) -> Callable[[dict[str, Manifest]], None]:
        def mutate(policies: dict[str, Manifest]) -> None:
            place: Any = policies[name]["spec"]
            for key in path[:-1]:
                place = place[key]
            del place[path[-1]]

        return mutate

    if shutil.which("kubectl") is None:
        return
    for policy in (m for m in _render(PROFILE) if m["kind"] == "NetworkPolicy"):
        name = policy["metadata"]["name"]
        for direction, index in list_rules(policy):
            yield f"{name}-{direction}-{index}", remove(name, direction, index)
            rule = policy["spec"][direction][index]
            for field in ("from", "to", "ports"):
                # The last one would open the rule to all; that is another mutation.
                for entry in range(len(rule.get(field, ())) if len(rule.get(field, ())) > 1 else 0):
                    path = (direction, index, field, entry)
                    yield "-".join(map(str, (name, *path))), remove(name, *path)


REMOVALS = dict(list_removals())


@pytest.mark.parametrize("mutation", REMOVALS)
def test_a_rule_port_or_peer_that_is_removed_is_noticed(mutation: str) -> None:
    manifests = render(PROFILE)
    REMOVALS[mutation]({m["metadata"]["name"]: m for m in manifests if m["kind"] == "NetworkPolicy"})
    assert judge(PROFILE, manifests) != []


def find(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    return next(m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name)


def drop(kind: str, name: str) -> Callable[[list[Manifest]], None]:
    return lambda manifests: manifests.remove(find(manifests, kind, name))


def edit_pod(name: str, change: Callable[[Manifest], Any]) -> Callable[[list[Manifest]], None]:
    def mutate(manifests: list[Manifest]) -> None:
        template = next(m for m in manifests if m["metadata"]["name"] == name and "template" in m["spec"])
        change(template["spec"]["template"])

    return mutate


def edit_rule(
    name: str, direction: str, change: Callable[[Manifest], Any]
) -> Callable[[list[Manifest]], None]:
    return lambda manifests: change(find(manifests, "NetworkPolicy", name)["spec"][direction][0])


def edit_container(name: str, **fields: Any) -> Callable[[list[Manifest]], None]:
    return edit_pod(name, lambda pod: pod["spec"]["containers"][0]["securityContext"].update(fields))


MUTATIONS: dict[str, tuple[Callable[[list[Manifest]], None], str]] = {
    "policy of redis gone": (drop("NetworkPolicy", "redis"), "step -> redis:6379/tcp is needed"),
    "policy of dns gone": (drop("NetworkPolicy", "dns"), "no name is resolved"),
    "ports of a rule gone": (
        edit_rule("triton", "ingress", lambda rule: rule.pop("ports")),
        "step -> triton:8002/tcp is open",
    ),
    "peers of a rule gone": (
        edit_rule("redis", "ingress", lambda rule: rule.pop("from")),
        "site -> redis:6379/tcp is open",
    ),
    "the wrong port": (
        edit_rule("redis", "ingress", lambda rule: rule["ports"][0].update(port=6380)),
        "gateway -> redis:6379/tcp is needed",
    ),
    "the wrong protocol": (
        edit_rule("redis", "ingress", lambda rule: rule["ports"][0].update(protocol="UDP")),
        "gateway -> redis:6379/tcp is needed",
    ),
    "any namespace may ask triton": (
        edit_rule("triton", "ingress", lambda rule: rule["from"].append({"namespaceSelector": {}})),
        "site -> triton:8001/tcp is open",
    ),
    "any pod of the namespace may ask redis": (
        edit_rule("redis", "ingress", lambda rule: rule["from"].append({"podSelector": {}})),
        "stranger -> redis:6379/tcp is open",
    ),
    "another label of steps": (
        edit_rule(
            "redis",
            "ingress",
            lambda rule: rule["from"][1]["podSelector"]["matchExpressions"][0].update(key="pipeline/run"),
        ),
        "step -> redis:6379/tcp is needed",
    ),
    "a label of the gateway gone": (
        edit_pod("gateway", lambda pod: pod["metadata"]["labels"].pop("app.kubernetes.io/name")),
        "gateway -> triton:8001/tcp is needed",
    ),
    "vllm may ask private networks": (
        edit_rule("vllm", "egress", lambda rule: rule["to"][0]["ipBlock"].pop("except")),
        "vllm -> private-net:443/tcp is open",
    ),
    "triton with a proxy": (
        edit_pod("triton", lambda pod: pod["metadata"]["labels"].pop("sidecar.istio.io/inject")),
        "step -> triton:8001/tcp is needed, but the proxy of triton does not start",
    ),
    "the gateway as root": (edit_container("gateway", runAsUser=0), "gateway runs as root"),
    "redis is privileged": (edit_container("redis", privileged=True), "redis is privileged"),
    "triton may escalate": (
        edit_container("triton", allowPrivilegeEscalation=True),
        "triton may escalate privileges",
    ),
    "a path of the node": (
        edit_pod("triton", lambda pod: pod["spec"]["volumes"].append({"name": "n", "hostPath": {}})),
        "volume n is a path of the node",
    ),
    "capabilities": (
        edit_container("redis", capabilities={"drop": ["ALL"], "add": ["NET_ADMIN"]}),
        "redis adds capabilities NET_ADMIN",
    ),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutation_is_noticed_for_what_it_is(mutation: str) -> None:
    manifests = render(PROFILE)
    mutate, fault = MUTATIONS[mutation]
    mutate(manifests)
    assert any(fault in found for found in judge(PROFILE, manifests)), judge(PROFILE, manifests)


ISTIOD = """
kind: NetworkPolicy
metadata: {name: istiod}
spec:
  podSelector: {matchLabels: {app.kubernetes.io/part-of: reaseq}}
  policyTypes: [Egress]
  egress:
    - to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: istio-system}}}]
      ports: [{port: 15012}]
"""
STRICT = """
kind: PeerAuthentication
metadata: {name: strict}
spec: {mtls: {mode: STRICT}}
"""


def with_proxies() -> list[Manifest]:
    manifests = render(PROFILE)
    for name in ("gateway", "triton", "redis", "vllm"):
        edit_pod(name, lambda pod: pod["metadata"]["labels"].pop("sidecar.istio.io/inject"))(manifests)
    return manifests


def test_with_proxies_the_profile_refuses_steps_and_admits_pods_of_its_namespace() -> None:
    """Why the overlay does without: a step has no proxy, and the profile asks who calls."""
    faults = judge(PROFILE, with_proxies(), ISTIOD)
    refused = [fault for fault in faults if "is needed" in fault]
    assert any(
        fault.startswith("step -> redis:6379") and "ns-owner-access-istio" in fault for fault in refused
    )
    assert not any(fault.startswith("gateway -> ") for fault in refused), "it is of the namespace"
    assert not any(fault.startswith("prometheus -> ") for fault in refused), "/metrics is open to all"
    assert any(fault.startswith("site -> gateway") for fault in refused)


def test_strict_certificates_refuse_callers_without_a_proxy() -> None:
    faults = judge(PROFILE, with_proxies(), f"{ISTIOD}\n---\n{STRICT}")
    assert any(fault.startswith("prometheus -> triton:8002") and "STRICT" in fault for fault in faults)
    assert judge(PROFILE, render(PROFILE), STRICT) == [], "without proxies nobody asks for certificates"


def test_an_allow_rule_by_port_and_a_deny_rule_are_followed() -> None:
    allow = """
kind: AuthorizationPolicy
metadata: {name: redis}
spec:
  selector: {matchLabels: {app.kubernetes.io/name: redis}}
  rules: [{to: [{operation: {ports: ["6379"]}}]}]
"""
    deny = allow.replace("name: redis}\nspec:", "name: no-redis}\nspec:\n  action: DENY", 1)
    step = Need("step", "redis", 6379, is_needed=True)
    allowed, _ = read_cluster(PROFILE, with_proxies(), read_manifests(f"{ISTIOD}\n---\n{allow}"))
    assert explain_unreachable(allowed, step) is None
    denied, _ = read_cluster(PROFILE, with_proxies(), read_manifests(f"{ISTIOD}\n---\n{allow}\n---\n{deny}"))
    assert explain_unreachable(denied, step) == "AuthorizationPolicy no-redis denies it"


def test_a_policy_of_the_cluster_on_steps_is_seen() -> None:
    """The namespace's own rules may shut steps in."""
    shut = """
kind: NetworkPolicy
metadata: {name: no-egress}
spec: {podSelector: {matchExpressions: [{key: pipeline/runid, operator: Exists}]}, policyTypes: [Egress]}
"""
    faults = judge("local", render("local"), shut)
    assert any("step -> redis:6379/tcp is needed" in fault and "no-egress" in fault for fault in faults)


@pytest.mark.parametrize(
    "extra",
    [
        "{kind: NetworkPolicy, metadata: {name: n}, spec: {podSelector: {}, profile: x}}",
        "{kind: AuthorizationPolicy, metadata: {name: n}, spec: {action: CUSTOM, rules: [{}]}}",
        "{kind: AuthorizationPolicy, metadata: {name: n},"
        " spec: {rules: [{from: [{source: {ipBlocks: []}}]}]}}",
        "{kind: NetworkPolicy, metadata: {name: n}, spec: {podSelector: {matchNames: []}}}",
        "{kind: Pod, metadata: {name: n, namespace: nowhere}}",
    ],
)
def test_what_is_not_evaluated_is_refused_and_not_passed_over(extra: str) -> None:
    with pytest.raises(UserError):
        judge(PROFILE, with_proxies(), f"{ISTIOD}\n---\n{extra}")


def test_servers_meet_restricted_and_steps_baseline() -> None:
    cluster, steps = read_cluster("production", render("production"))
    assert {find_level(pod.spec) for pod in list_servers(cluster)} == {"restricted"}
    assert {find_level(pod.spec) for pod in steps} == {"baseline"}
    assert len(steps) > 20


def test_the_command_prints_the_matrix() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "infra.reachability", "local"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "redis:6379" in done.stdout
    assert "why not:" in done.stdout
    assert "Everything needed is open" in done.stdout
