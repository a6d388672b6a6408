"""The pods that Kubeflow makes of a compiled package's steps, as far as policies see them."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from infra.reachability.cluster import Manifest

_LABELS = {"pipeline/runid": "any", "pipelines.kubeflow.org/v2_component": "true"}
# The launcher and Argo's own container; how they are confined is the installation's matter.
_LAUNCHER: Manifest = {"name": "kfp-launcher"}
_EXECUTOR: Manifest = {"name": "wait"}


@cache
def build_step_pods(folder: Path) -> tuple[Manifest, ...]:
    """A pod for each executor of each package of a folder, named PIPELINE/STEP."""
    return tuple(
        _build_pod(f"{package.stem}/{label.removeprefix('exec-')}", executor["container"], pods[label])
        for package in sorted(folder.glob("*.yaml"))
        for executors, pods in [_read_executors(package)]
        for label, executor in executors.items()
        if "container" in executor
    )


def build_any_step() -> Manifest:
    """A pod with what all steps have in common: to network policies they are one."""
    return _build_pod("step", {}, {})


def _read_executors(package: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    # Safe, and ten times faster than the loader in Python: a package has thousands of lines.
    text = package.read_text(encoding="utf-8")
    spec, platform = yaml.load_all(text, Loader=yaml.CSafeLoader)
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return spec["deploymentSpec"]["executors"], pods


def _build_pod(name: str, container: Manifest, policy: Manifest) -> Manifest:
    volumes = [{"name": m["volumeName"], "emptyDir": {}} for m in policy.get("emptyDirMounts", ())]
    volumes += [
        {"name": f"claim-{i}", "persistentVolumeClaim": {}} for i, _ in enumerate(policy.get("pvcMount", ()))
    ]
    main = {
        "name": "main",
        "resources": container.get("resources", {}),
        "securityContext": policy.get("securityContext", {}),
    }
    return {
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": _LABELS,
            # Kubeflow Pipelines sets it on each of its pods.
            "annotations": {"sidecar.istio.io/inject": "false"},
        },
        "spec": {
            "serviceAccountName": "default-editor",
            "initContainers": [_LAUNCHER],
            "containers": [main, _EXECUTOR],
            "volumes": volumes,
        },
    }
