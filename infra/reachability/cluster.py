"""The pods, namespaces and policies that an evaluation looks at."""

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from contracts.errors import UserError

Manifest = dict[str, Any]
Labels = dict[str, str]
_INJECT = "sidecar.istio.io/inject"


@dataclass(frozen=True)
class Peer:
    """A pod, or a host outside the cluster, which has no namespace."""

    name: str
    namespace: str | None
    labels: Labels = field(default_factory=dict)
    annotations: Labels = field(default_factory=dict)
    spec: Manifest = field(default_factory=dict)
    address: str | None = None
    """IP address of a host; a pod's is not known before it runs."""

    def find_port(self, name: str) -> int | None:
        """Number of a named port."""
        ports = [port for c in self.spec.get("containers", ()) for port in c.get("ports", ())]
        return next((int(port["containerPort"]) for port in ports if port.get("name") == name), None)


@dataclass(frozen=True)
class Cluster:
    """All that is there."""

    namespaces: dict[str, Labels]
    peers: dict[str, Peer]
    policies: tuple[Manifest, ...]
    """NetworkPolicy, AuthorizationPolicy and PeerAuthentication objects, each with its namespace."""

    def list_policies(self, kind: str, namespace: str | None) -> list[Manifest]:
        """Policies of one kind in a namespace."""
        return [p for p in self.policies if p["kind"] == kind and p["metadata"]["namespace"] == namespace]

    def has_proxy(self, peer: Peer) -> bool:
        """Does Istio put its proxy beside this pod?

        Its label decides, then its namespace's. A pod of a pipeline's step bears an annotation instead.
        """
        if peer.namespace is None:
            return False
        if peer.labels.get("istio") == "ingressgateway":
            return True  # it is nothing but a proxy
        wish = peer.labels.get(_INJECT, peer.annotations.get(_INJECT))
        return self.namespaces[peer.namespace].get("istio-injection") == "enabled" and wish != "false"


def build_cluster(manifests: Iterable[Manifest], neighbors: Iterable[Manifest], *, namespace: str) -> Cluster:
    """Puts our manifests into a namespace among its neighbors.

    Raises:
        UserError: an object lies in a namespace that is not there.
    """
    neighbors = list(neighbors)
    namespaces = {m["metadata"]["name"]: _label_namespace(m) for m in neighbors if m["kind"] == "Namespace"}
    ours = [_place(m, namespace) for m in manifests]
    everything = [*ours, *(_place(m, namespace) for m in neighbors if m["kind"] != "Namespace")]
    for manifest in everything:
        if (place := manifest["metadata"]["namespace"]) not in namespaces:
            raise UserError(f"{manifest['kind']} {manifest['metadata']['name']}: no namespace '{place}'")
    peers = [peer for m in everything if (peer := _read_peer(m)) is not None]
    kinds = {"NetworkPolicy", "AuthorizationPolicy", "PeerAuthentication"}
    return Cluster(
        namespaces=namespaces,
        peers={peer.name: peer for peer in peers},
        policies=tuple(m for m in everything if m["kind"] in kinds),
    )


def render_overlay(folder: Path) -> list[Manifest]:
    """Renders an overlay as `kubectl apply -k` would.

    Raises:
        UserError: kubectl refuses it.
    """
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"kubectl kustomize {folder}: {done.stderr.strip()}")
    return read_manifests(done.stdout)


def read_manifests(text: str) -> list[Manifest]:
    """The documents of a YAML file."""
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


def matches_labels(selector: Manifest | None, labels: Labels) -> bool:
    """Does a label selector choose these labels? An empty one chooses all."""
    selector = selector or {}
    if unknown := selector.keys() - {"matchLabels", "matchExpressions"}:
        raise UserError(f"a label selector has no '{min(unknown)}'")
    wanted = selector.get("matchLabels") or {}
    expressions = selector.get("matchExpressions") or ()
    return wanted.items() <= labels.items() and all(_holds(e, labels) for e in expressions)


def _holds(expression: Manifest, labels: Labels) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values", ())
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    raise UserError(f"a label selector has no operator '{expression['operator']}'")


def _label_namespace(manifest: Manifest) -> Labels:
    # Kubernetes itself gives each namespace this label.
    labels: Labels = {"kubernetes.io/metadata.name": manifest["metadata"]["name"]}
    labels.update(manifest["metadata"].get("labels", {}))
    return labels


def _place(manifest: Manifest, namespace: str) -> Manifest:
    metadata = {"namespace": namespace} | manifest["metadata"]
    return manifest | {"metadata": metadata}


def _read_peer(manifest: Manifest) -> Peer | None:
    metadata, spec = manifest["metadata"], manifest.get("spec", {})
    if manifest["kind"] == "Host":
        return Peer(metadata["name"], None, address=spec["address"])
    if manifest["kind"] != "Pod":
        if "template" not in spec:
            return None
        pod_metadata, spec = spec["template"].get("metadata", {}), spec["template"]["spec"]
    else:
        pod_metadata = metadata
    labels, annotations = pod_metadata.get("labels", {}), pod_metadata.get("annotations", {})
    return Peer(metadata["name"], metadata["namespace"], labels, annotations, spec)
