"""What each pod of a pipeline's step must bring along; which of it a compiled package lacks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from infra.reachability.pod_security import find_baseline_violations
from infra.reachability.step_pods import build_step_pods
from pipelines.apply_policy import name_step
from pipelines.step_policy import STEP_POLICIES

Json = dict[str, Any]
NOT_REPEATED = {name for name, policy in STEP_POLICIES.items() if policy.retries == 0}
"""Their policy says why: a rollback twice is none."""
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - a mount of the pod's own


def find_gaps(package: Path) -> dict[str, list[str]]:
    """Executor -> what it lacks; an empty list where all is there."""
    text = package.read_text(encoding="utf-8")
    spec, platform = yaml.load_all(text, Loader=yaml.CSafeLoader)
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    tasks = _list_tasks_by_executor(spec)
    return {
        label: list(_list_gaps(name_step(label), executor["container"], pods.get(label, {}), tasks[label]))
        for label, executor in spec["deploymentSpec"]["executors"].items()
        if "container" in executor
    }


def measure_coverage(folder: Path) -> tuple[int, int]:
    """Executors that lack nothing, and all, over every package of a folder."""
    gaps = [gap for package in sorted(folder.glob("*.yaml")) for gap in find_gaps(package).values()]
    refused = [pod for pod in build_step_pods(folder) if any(find_baseline_violations(pod["spec"]))]
    return sum(not gap for gap in gaps) - len(refused), len(gaps)


def _list_tasks_by_executor(spec: Json) -> dict[str, list[Json]]:
    tasks: dict[str, list[Json]] = {label: [] for label in spec["deploymentSpec"]["executors"]}
    for dag in [spec["root"]["dag"], *(c["dag"] for c in spec["components"].values() if "dag" in c)]:
        for task in dag["tasks"].values():
            label = spec["components"][task["componentRef"]["name"]].get("executorLabel")
            if label is not None:
                tasks[label].append(task)
    return tasks


def _list_gaps(step: str, container: Json, pod: Json, tasks: list[Json]) -> Iterator[str]:
    wanted = {"resourceCpuRequest", "resourceMemoryRequest", "resourceMemoryLimit"}
    yield from sorted(wanted - container.get("resources", {}).keys())
    if int(pod.get("activeDeadlineSeconds", 0)) < 60:
        yield "a time limit"
    user = pod.get("securityContext", {})
    if not user.get("runAsNonRoot") or int(user.get("runAsUser", 0)) == 0:
        yield "a user that is not root"
    if STEP_POLICIES[step].shared_memory and not any(
        mount["mountPath"] == _SHARED_MEMORY and mount.get("medium") == "Memory"
        for mount in pod.get("emptyDirMounts", ())
    ):
        yield _SHARED_MEMORY
    if not tasks:
        yield "a task"
    for task in tasks:
        retries = task.get("retryPolicy", {})
        if step not in NOT_REPEATED and not retries.get("maxRetryCount"):
            yield "retries"
        if step not in NOT_REPEATED and float(retries.get("backoffFactor", 0)) <= 1:
            yield "longer and longer pauses between retries"
