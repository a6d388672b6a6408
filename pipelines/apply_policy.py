"""Writes the policy of steps into a compiled package, in the fields of KFP's protos.

As `kfp` and `kfp-kubernetes` would write them from the calls of their own; here they come from one table.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from pipelines.step_policy import EnvironmentSource, PodPolicy, StepPolicy

_LONGEST_RETRY_PAUSE_S: Final = 600
_UNITS: Final = {"": 1, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_NUMBERED = re.compile(r"-\d+$")
Json = dict[str, Any]


def apply_policy(documents: list[Json], policy: PodPolicy) -> list[Json]:
    """Gives each step its resources, time limit, retries, `/dev/shm`, environment and place.

    Args:
        documents: the pipeline specification and, where it has one, its platform specification.
        policy: what steps get.

    Returns:
        Both documents.
    """
    spec = documents[0]
    platform = documents[1] if len(documents) > 1 else {}
    kubernetes: Json = platform.setdefault("platforms", {}).setdefault("kubernetes", {})
    pods: Json = kubernetes.setdefault("deploymentSpec", {}).setdefault("executors", {})
    for label, executor in spec["deploymentSpec"]["executors"].items():
        if "container" not in executor:
            continue
        step = name_step(label)
        step_policy = policy.get_step_policy(step)
        executor["container"].setdefault("resources", {}).update(_describe_resources(step_policy))
        _confine_pod(pods.setdefault(label, {}), step, step_policy, policy)
    for task in _list_tasks(spec):
        component = spec["components"][task["componentRef"]["name"]]
        executor = spec["deploymentSpec"]["executors"].get(component.get("executorLabel"), {})
        if "container" in executor:
            task["retryPolicy"] = _describe_retries(
                policy.get_step_policy(name_step(component["executorLabel"]))
            )
    return [spec, platform]


def name_step(executor_label: str) -> str:
    """The step of an executor: a second task of it bears a number."""
    return _NUMBERED.sub("", executor_label.removeprefix("exec-"))


def _list_tasks(spec: Json) -> Iterator[Json]:
    dags = [spec["root"]["dag"], *(c["dag"] for c in spec["components"].values() if "dag" in c)]
    for dag in dags:
        yield from dag["tasks"].values()


def _describe_resources(step: StepPolicy) -> Json:
    # Older backends read the plain numbers (processors, gigabytes), newer ones the quantities.
    return {
        "cpuRequest": _measure(step.cpu),
        "memoryRequest": _measure(step.memory) / 1e9,
        "memoryLimit": _measure(step.memory_limit) / 1e9,
        "resourceCpuRequest": step.cpu,
        "resourceMemoryRequest": step.memory,
        "resourceMemoryLimit": step.memory_limit,
    }


def _measure(quantity: str) -> float:
    number = quantity.rstrip("mKiMGT")
    return float(number) * _UNITS[quantity.removeprefix(number)]


def _describe_retries(step: StepPolicy) -> Json:
    return {
        "maxRetryCount": step.retries,
        "backoffDuration": f"{step.retry_pause_s}s",
        "backoffFactor": 2.0,
        "backoffMaxDuration": f"{_LONGEST_RETRY_PAUSE_S}s",
    }


def _confine_pod(pod: Json, step: str, step_policy: StepPolicy, policy: PodPolicy) -> None:
    pod["activeDeadlineSeconds"] = str(step_policy.timeout_s)
    if step_policy.shared_memory:
        pod["emptyDirMounts"] = [
            {
                "volumeName": "shared-memory",
                "mountPath": "/dev/shm",  # noqa: S108 - a mount of the pod's own
                "medium": "Memory",
                "sizeLimit": step_policy.shared_memory,
            }
        ]
    if policy.run_as_user is not None:
        user = str(policy.run_as_user)
        pod["securityContext"] = {"runAsNonRoot": True, "runAsUser": user, "runAsGroup": user}
    if policy.node_selector:
        pod["nodeSelector"] = {"labels": dict(policy.node_selector)}
    if policy.tolerations:
        pod["tolerations"] = [t.model_dump(exclude_none=True) for t in policy.tolerations]
    if policy.image_pull_secrets:
        pod["imagePullSecret"] = [_refer_to(name, "secret") for name in policy.image_pull_secrets]
    for kind, field, sources in (
        ("secret", "secretAsEnv", policy.secrets),
        ("configMap", "configMapAsEnv", policy.config_maps),
    ):
        seen = [source for source in sources if source.steps is None or step in source.steps]
        if seen:
            pod[field] = [*pod.get(field, ()), *(_describe_environment(source, kind) for source in seen)]


def _describe_environment(source: EnvironmentSource, kind: str) -> Json:
    keys = [{f"{kind}Key": key, "envVar": variable} for key, variable in source.keys.items()]
    return _refer_to(source.name, kind) | {"keyToEnv": keys, "optional": source.optional}


def _refer_to(name: str, kind: str) -> Json:
    return {f"{kind}Name": name, f"{kind}NameParameter": {"runtimeValue": {"constant": name}}}
