"""No executor of any package lacks a part of its policy; and a part that is taken away is noticed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.step_coverage import NOT_REPEATED, find_gaps, measure_coverage
from pipelines.compiled_package import COMPILED_FOLDER

Json = dict[str, Any]
LABEL = "exec-train-ranker"


def test_every_executor_of_every_package_is_covered() -> None:
    covered, everything = measure_coverage(COMPILED_FOLDER)
    assert covered == everything > 50
    gaps = {p.stem: find_gaps(p) for p in COMPILED_FOLDER.glob("*.yaml")}
    assert [(name, label, lacks) for name, g in gaps.items() for label, lacks in g.items() if lacks] == []
    assert {"decide", "change-routes", "run-experiment"} == NOT_REPEATED


def read_documents() -> tuple[Json, Json]:
    text = (COMPILED_FOLDER / "train_and_deploy.yaml").read_text()
    spec, platform = yaml.load_all(text, Loader=yaml.CSafeLoader)
    return spec, platform


def container(spec: Json, _: Json) -> Json:
    found: Json = spec["deploymentSpec"]["executors"][LABEL]["container"]
    return found


def pod(platform: Json) -> Json:
    pods: Json = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return pods


def task(spec: Json) -> Json:
    dags = [spec["root"]["dag"], *(c["dag"] for c in spec["components"].values() if "dag" in c)]
    return next(dag["tasks"]["train-ranker"] for dag in dags if "train-ranker" in dag["tasks"])


MUTATIONS: dict[str, tuple[Callable[[Json, Json], Any], str]] = {
    "no limit": (
        lambda spec, p: container(spec, p)["resources"].pop("resourceMemoryLimit"),
        "resourceMemoryLimit",
    ),
    "no request": (
        lambda spec, p: container(spec, p)["resources"].pop("resourceCpuRequest"),
        "resourceCpuRequest",
    ),
    "no time limit": (lambda _, p: pod(p)[LABEL].pop("activeDeadlineSeconds"), "a time limit"),
    "no user": (lambda _, p: pod(p)[LABEL].pop("securityContext"), "a user that is not root"),
    "root": (lambda _, p: pod(p)[LABEL]["securityContext"].update(runAsUser="0"), "a user that is not root"),
    "no shared memory": (lambda _, p: pod(p)[LABEL].pop("emptyDirMounts"), "/dev/shm"),
    "shared memory on disk": (
        lambda _, p: pod(p)[LABEL]["emptyDirMounts"][0].pop("medium"),
        "/dev/shm",
    ),
    "no retries": (lambda spec, _: task(spec).pop("retryPolicy"), "retries"),
    "no pauses": (
        lambda spec, _: task(spec)["retryPolicy"].update(backoffFactor=1.0),
        "longer and longer pauses between retries",
    ),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_part_that_is_missing_is_named(tmp_path: Path, mutation: str) -> None:
    spec, platform = read_documents()
    mutate, gap = MUTATIONS[mutation]
    mutate(spec, platform)
    package = tmp_path / "package.yaml"
    package.write_text(yaml.dump_all([spec, platform], Dumper=yaml.CSafeDumper))
    gaps = find_gaps(package)
    assert gap in gaps.pop(LABEL)
    assert not any(gaps.values()), "no other executor is blamed"
    covered, everything = measure_coverage(tmp_path)
    assert covered == everything - 1
