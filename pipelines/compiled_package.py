"""A compiled pipeline package: read, identified by its content, and checked against the arguments of a run.

A cluster reports a bad argument only after the run has been created. Large ones it truncates or refuses,
naming neither argument nor limit. So all that can be known here is checked here.
"""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from contracts.digests import digest_file
from contracts.errors import UserError

COMPILED_FOLDER = Path(__file__).parent / "compiled"
"""The committed packages."""
MAX_PACKAGE_BYTES = 3_000_000
"""Larger specs are refused by the API server's database column and by etcd."""
MAX_ARGUMENT_CHARS = 10_000
"""Longer parameter values fail on the backend; pass a path to a file instead."""

# The C loader is ten times as fast, where PyYAML was built with it; it is as safe.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_ENVIRONMENTS = ("secretAsEnv", "configMapAsEnv")
_CHANNEL_PREFIX = "pipelinechannel--"
_CONDITION_ARGUMENT = re.compile(rf"parameter_values\['{_CHANNEL_PREFIX}(\w+)'\]")
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "STRING": (str,),
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}


@dataclass(frozen=True, kw_only=True)
class CompiledPackage:
    """What a compiled package says about itself."""

    path: Path
    name: str
    """The pipeline's name inside the package."""
    version: str
    """First 12 hex digits of the file's digest: the same file is the same version."""
    parameters: Mapping[str, Mapping[str, Any]]
    """KFP's input definitions by parameter name."""
    spec: Mapping[str, Any]
    """KFP's pipeline specification."""
    pods: Mapping[str, Mapping[str, Any]]
    """Executor -> what its pod is given: volumes, secrets, places (KFP's Kubernetes platform)."""
    oldest_backend: tuple[int, int]
    """First version of Kubeflow Pipelines whose backend understands the package."""


def read_package(path: Path) -> CompiledPackage:
    """Reads a compiled pipeline.

    Raises:
        UserError: the file is missing, too large for a cluster, or not a compiled pipeline.
    """
    if not path.is_file():
        raise UserError(f"pipeline package '{path}' not found; `reaseq compile` writes the packages.")
    if path.suffix not in {".yaml", ".yml"}:
        raise UserError(f"pipeline package '{path}' must be a compiled .yaml file.")
    num_bytes = path.stat().st_size
    if num_bytes > MAX_PACKAGE_BYTES:
        raise UserError(
            f"pipeline package '{path}' has {num_bytes} bytes; a cluster takes {MAX_PACKAGE_BYTES}."
        )
    pipeline_spec, platform_spec = _read_specs(path)
    try:
        return _describe_package(path, pipeline_spec, platform_spec)
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(
            f"'{path}' is not a compiled pipeline ({type(error).__name__}: {error}); `reaseq compile` "
            "writes one."
        ) from error


def _describe_package(
    path: Path, pipeline_spec: Mapping[str, Any], platform_spec: Mapping[str, Any]
) -> CompiledPackage:
    kubernetes = platform_spec.get("platforms", {}).get("kubernetes", {})
    pods = kubernetes.get("deploymentSpec", {}).get("executors", {})
    input_definitions = pipeline_spec["root"].get("inputDefinitions", {})
    return CompiledPackage(
        path=path,
        name=pipeline_spec["pipelineInfo"]["name"],
        version=digest_file(path)[:12],
        parameters=dict(input_definitions.get("parameters", {}).items()),
        spec=pipeline_spec,
        pods=pods,
        oldest_backend=_tell_oldest_backend(pods.values()),
    )


def _tell_oldest_backend(pods: Collection[Mapping[str, Any]]) -> tuple[int, int]:
    """By the youngest field: backends refuse fields that they do not know."""
    if any("securityContext" in pod for pod in pods):
        return (2, 16)
    sources = [source for pod in pods for field in _ENVIRONMENTS for source in pod.get(field, ())]
    return (2, 15) if any("optional" in source for source in sources) else (2, 0)


def _read_specs(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        # A second document, where there is one, holds the Kubernetes platform spec.
        documents = iter(yaml.load_all(path.read_text(encoding="utf-8"), Loader=_LOADER))
        pipeline_spec = next(documents, None)
        platform_spec: dict[str, Any] = next(documents, {}) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"pipeline package '{path}' is not valid YAML: {error}") from error
    if not isinstance(pipeline_spec, dict) or not {"root", "pipelineInfo"} <= pipeline_spec.keys():
        raise UserError(
            f"'{path}' is not a compiled pipeline (no root or pipelineInfo); `reaseq compile` writes one."
        )
    return pipeline_spec, platform_spec


def count_steps(package: CompiledPackage, arguments: Mapping[str, Any]) -> int:
    """Counts the containers that a run with these arguments starts: a shard is a step, an importer is none.

    Steps whose condition only the run can know are counted, too.
    """
    components = package.spec["components"]

    def count_dag(dag: Mapping[str, Any]) -> int:
        return sum(count_task(task) for task in dag["tasks"].values())

    def count_task(task: Mapping[str, Any]) -> int:
        condition = task.get("triggerPolicy", {}).get("condition", "")
        if any(arguments.get(name) is False for name in _CONDITION_ARGUMENT.findall(condition)):
            return 0
        component = components[task["componentRef"]["name"]]
        if "dag" not in component:
            return 0 if component["executorLabel"].startswith("exec-importer") else 1
        loop_items = task.get("parameterIterator", {}).get("items", {}).get("inputParameter", "")
        num_rounds = len(arguments[loop_items.removeprefix(_CHANNEL_PREFIX)]) if loop_items else 1
        return num_rounds * count_dag(component["dag"])

    return count_dag(package.spec["root"]["dag"])


def check_arguments(package: CompiledPackage, arguments: Mapping[str, Any]) -> None:
    """Checks names, presence, types and sizes of a run's arguments.

    Raises:
        UserError: lists every wrong argument at once.
    """
    problems = [f"{name}: unknown" for name in arguments if name not in package.parameters]
    for name, definition in package.parameters.items():
        if name in arguments:
            problems += _list_value_problems(name, arguments[name], definition["parameterType"])
        elif "defaultValue" not in definition and not definition.get("isOptional", False):
            problems.append(f"{name}: missing")
    if problems:
        allowed_names = ", ".join(sorted(package.parameters)) or "none"
        raise UserError(
            f"arguments of pipeline '{package.name}': {'; '.join(problems)}. It takes: {allowed_names}."
        )


def _list_value_problems(name: str, value: Any, kind: str) -> list[str]:
    allowed_types = _PYTHON_TYPES.get(kind, (object,))
    # bool is an int to Python, but not to KFP.
    if not isinstance(value, allowed_types) or (
        isinstance(value, bool) and bool not in allowed_types and object not in allowed_types
    ):
        return [f"{name}: {type(value).__name__} given, {kind} expected"]
    if isinstance(value, float) and not math.isfinite(value):
        return [f"{name}: {value} is no number that JSON can hold"]
    if isinstance(value, str) and len(value) > MAX_ARGUMENT_CHARS:
        return [
            f"{name}: {len(value)} characters, at most {MAX_ARGUMENT_CHARS}; pass a path to a file instead"
        ]
    return []
