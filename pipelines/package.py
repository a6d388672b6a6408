"""A compiled pipeline package: read, identified by its content, and checked against the arguments of a run.

A cluster reports a bad argument only after the run has been created, and truncates or refuses large ones in ways that
name neither the argument nor the limit; so everything that can be known here is checked here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from contracts.digests import digest_file
from contracts.errors import UserError

MAX_PACKAGE_BYTES = 3_000_000
"""Larger specs are refused by the API server's database column and by etcd."""
MAX_ARGUMENT_CHARS = 10_000
"""Longer parameter values fail on the backend; pass a path to a file instead."""

_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "STRING": (str,),
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}


@dataclass(frozen=True, kw_only=True)
class Package:
    """What a compiled package says about itself."""

    path: Path
    name: str
    """The pipeline's name inside the package."""
    version: str
    """First 12 hex digits of the file's digest: the same file is the same version."""
    parameters: Mapping[str, Mapping[str, Any]]
    """KFP's input definitions by parameter name."""


def read_package(path: Path) -> Package:
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
        raise UserError(f"pipeline package '{path}' has {num_bytes} bytes; a cluster takes {MAX_PACKAGE_BYTES}.")
    spec = _read_spec(path)
    inputs = spec["root"].get("inputDefinitions", {})
    return Package(
        path=path,
        name=spec["pipelineInfo"]["name"],
        version=digest_file(path)[:12],
        parameters=inputs.get("parameters", {}),
    )


def _read_spec(path: Path) -> dict[str, Any]:
    try:
        # A second document, where there is one, holds the Kubernetes platform spec.
        spec = next(iter(yaml.safe_load_all(path.read_text(encoding="utf-8"))), None)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"pipeline package '{path}' is not valid YAML: {error}") from error
    if not isinstance(spec, dict) or not {"root", "pipelineInfo"} <= spec.keys():
        raise UserError(f"'{path}' is not a compiled pipeline (no root or pipelineInfo); `reaseq compile` writes one.")
    return spec


def check_arguments(package: Package, arguments: Mapping[str, Any]) -> None:
    """Checks names, presence, types and sizes of a run's arguments.

    Raises:
        UserError: lists every wrong argument at once.
    """
    problems = [f"{name}: unknown" for name in arguments if name not in package.parameters]
    for name, definition in package.parameters.items():
        if name in arguments:
            problems += _value_problems(name, arguments[name], definition["parameterType"])
        elif "defaultValue" not in definition and not definition.get("isOptional", False):
            problems.append(f"{name}: missing")
    if problems:
        allowed = ", ".join(sorted(package.parameters)) or "none"
        raise UserError(f"arguments of pipeline '{package.name}': {'; '.join(problems)}. It takes: {allowed}.")


def _value_problems(name: str, value: Any, kind: str) -> list[str]:
    allowed = _PYTHON_TYPES.get(kind, (object,))
    # bool is an int to Python, but not to KFP.
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed and object not in allowed):
        return [f"{name}: {type(value).__name__} given, {kind} expected"]
    if isinstance(value, str) and len(value) > MAX_ARGUMENT_CHARS:
        return [f"{name}: {len(value)} characters, at most {MAX_ARGUMENT_CHARS}; pass a path to a file instead"]
    return []
