"""Are the compiled packages those of this code?"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from contracts.errors import UserError
from pipelines.compiled_package import CompiledPackage, read_package
from pipelines.doctor.check import Check
from pipelines.step_policy import PodPolicy, Webhook

# What `reaseq compile` sets by its options; all else comes from the code.
_EXIT_STEP: Final = "exec-post-outcome"
_OF_OPTIONS: Final = ("image", "resources", "retryPolicy")


def check_packages(folder: Path, names: Sequence[str]) -> tuple[list[CompiledPackage], list[Check]]:
    """Compiles the pipelines anew and compares; images, sizes and policies may differ.

    Returns:
        The packages that could be read, and one check each.
    """
    from pipelines.compile_pipelines import compile_pipelines  # 3 s to import

    packages, checks = [], []
    with tempfile.TemporaryDirectory() as scratch:
        compile_pipelines(Path(scratch))
        for name in names:
            subject = f"package {name}"
            try:
                package = read_package(folder / f"{name}.yaml")
            except UserError as error:
                checks.append(Check(subject, "missing", str(error), f"reaseq compile --out {folder}"))
                continue
            packages.append(package)
            if _strip_options(package.spec) == _strip_options(_find_fresh(package, name, Path(scratch)).spec):
                checks.append(Check(subject, "ok", f"as the code, image {', '.join(_list_images(package))}"))
            else:
                remedy = f"reaseq compile --out {folder}, with the options that it was compiled with"
                checks.append(Check(subject, "missing", "compiled from other code", remedy))
    return packages, checks


def _find_fresh(package: CompiledPackage, name: str, scratch: Path) -> CompiledPackage:
    """The package of this code; with an exit handler where the other one has it."""
    from pipelines.compile_pipelines import compile_pipelines

    if _EXIT_STEP not in package.spec["deploymentSpec"]["executors"]:
        return read_package(scratch / f"{name}.yaml")
    folder = scratch / "with-exit-handler"
    if not folder.is_dir():
        compile_pipelines(folder, policy=PodPolicy(webhook=Webhook(secret="any")))  # noqa: S106 - a name
    return read_package(folder / f"{name}.yaml")


def _strip_options(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strip_options(part) for key, part in value.items() if key not in _OF_OPTIONS}
    return [_strip_options(part) for part in value] if isinstance(value, list) else value


def _list_images(package: CompiledPackage) -> Iterator[str]:
    executors = package.spec["deploymentSpec"]["executors"].values()
    yield from sorted({e["container"]["image"] for e in executors if "container" in e})
