"""Does the namespace admit steps, and are the claims, secrets and config maps there that they need?"""

from collections.abc import Iterator
from typing import Final

from pipelines.doctor.check import Check
from pipelines.doctor.kubernetes_api import CannotAskError, KubernetesApi
from pipelines.doctor.package_needs import NamespaceNeeds

_ENFORCED_LEVEL: Final = "pod-security.kubernetes.io/enforce"
_SHORT_NAMES: Final = {"secret": "secret", "config map": "configmap"}


def check_namespace(
    needs: NamespaceNeeds, *, namespace: str, api: KubernetesApi | None, no_api: str
) -> Iterator[Check]:
    """Asks for each object that steps need.

    Args:
        needs: the objects.
        namespace: where steps run.
        api: the Kubernetes API; None where nobody could ask it.
        no_api: why not.
    """
    yield _check_pod_security(namespace, api, no_api)
    for claim in sorted(needs.claims):
        yield from _check_claim(claim, namespace, api, no_api)
    for (kind, name), keys in sorted(needs.keys.items()):
        yield _check_keys(kind, name, keys, (kind, name) in needs.optional, namespace, api, no_api)


def _check_pod_security(namespace: str, api: KubernetesApi | None, no_api: str) -> Check:
    subject, ask = f"namespace {namespace}", f"kubectl get namespace {namespace} --show-labels"
    if api is None:
        return Check(subject, "could not ask", no_api, ask)
    try:
        labels = api.read_labels()
    except CannotAskError as error:
        return Check(subject, "could not ask", str(error), ask)
    if labels is None:
        return Check(subject, "missing", "the cluster has none", f"kubectl create namespace {namespace}")
    level = labels.get(_ENFORCED_LEVEL, "privileged")
    if level == "restricted":
        # Kubeflow adds containers of its own to a step's pod.
        remedy = f"kubectl label --overwrite namespace {namespace} {_ENFORCED_LEVEL}=baseline"
        return Check(subject, "missing", "it enforces `restricted`, which pods of steps do not meet", remedy)
    return Check(subject, "ok", f"admits pods of steps (it enforces `{level}`)")


def _check_claim(name: str, namespace: str, api: KubernetesApi | None, no_api: str) -> Iterator[Check]:
    subject, ask = f"claim {name}", f"kubectl -n {namespace} get pvc {name}"
    if api is None:
        yield Check(subject, "could not ask", no_api, f"{ask} && kubectl get storageclass")
        return
    try:
        claim = api.read_claim(name)
    except CannotAskError as error:
        yield Check(subject, "could not ask", str(error), ask)
        return
    if claim is None:
        yield Check(
            subject,
            "missing",
            f"namespace {namespace} has none",
            f"kubectl -n {namespace} apply -k infra/k8s/overlays/local makes it",
        )
        return
    phase, modes = claim.status.phase, claim.spec.access_modes or []
    if phase == "Lost":
        yield Check(subject, "missing", "its volume is gone", f"kubectl -n {namespace} describe pvc {name}")
    else:
        one_node = "" if "ReadWriteMany" in modes else "; not ReadWriteMany, so all pods must share one node"
        waits = ", it is bound when the first pod mounts it" if phase == "Pending" else ""
        yield Check(subject, "ok", f"{phase}{waits}, {', '.join(modes)}{one_node}")
    # Bound by hand, a claim needs no class.
    if phase == "Pending":
        yield _check_storage_class(name, claim.spec.storage_class_name, api)


def _check_storage_class(claim: str, storage_class: str | None, api: KubernetesApi) -> Check:
    subject, ask = f"storage class of {claim}", "kubectl get storageclass"
    if not storage_class:
        return Check(subject, "could not ask", "the claim names none, so the cluster's default counts", ask)
    try:
        found = api.read_storage_class(storage_class)
    except CannotAskError as error:
        return Check(subject, "could not ask", str(error), ask)
    if found is None:
        remedy = "name one of `kubectl get storageclass` in your overlay"
        return Check(subject, "missing", f"the cluster has no '{storage_class}'", remedy)
    return Check(subject, "ok", f"{storage_class} ({found.provisioner})")


def _check_keys(
    kind: str,
    name: str,
    keys: set[str],
    is_optional: bool,
    namespace: str,
    api: KubernetesApi | None,
    no_api: str,
) -> Check:
    subject = f"{kind} {name}"
    ask = f"kubectl -n {namespace} describe {_SHORT_NAMES[kind]} {name}"
    listed = ", ".join(sorted(keys))
    wanted = f"; it must hold {listed}" if keys else ""
    if api is None:
        return Check(subject, "could not ask", f"{no_api}{wanted}", ask)
    try:
        values = api.read_secret(name) if kind == "secret" else api.read_config_map(name)
    except CannotAskError as error:
        return Check(subject, "could not ask", f"{error}{wanted}", ask)
    if values is None and is_optional:
        return Check(subject, "ok", "not there, and nothing in this configuration needs it")
    absent = sorted(keys - set(values or {}))
    if values is None or absent:
        found = (
            f"namespace {namespace} has none{wanted}" if values is None else f"without {', '.join(absent)}"
        )
        return Check(subject, "missing", found, _name_creation(kind, name, sorted(keys), namespace))
    return Check(subject, "ok", f"holds {listed}" if keys else "is there")


def _name_creation(kind: str, name: str, keys: list[str], namespace: str) -> str:
    short_name = "secret generic" if kind == "secret" else "configmap"
    literals = "".join(f" --from-literal={key}=..." for key in keys)
    return f"kubectl -n {namespace} create {short_name} {name}{literals}"
