"""The compiled pipeline with every step in its image: what it measures, and what a failing step does."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import docker
import pytest
from kfp import compiler, dsl
from step_containers import make_runner

from contracts.artifacts import read_lineage
from pipelines.compiled_package import COMPILED_FOLDER
from pipelines.config import RunConfig
from pipelines.local_runner import run_package
from pipelines.run_arguments import build_local_arguments
from pipelines.step_log import StepFailedError

pytestmark = pytest.mark.containers
# So small a shop proves nothing: what is tested is that containers and subprocesses do the same.
SMALL = {
    "shop": {"num_items": 300, "num_users": 300, "num_days": 20},
    "behavior": {"training": {"epochs": 1}},
    "ranker": {"max_epochs": 1, "min_steps": 1},
    "evaluation": {"min_gain_over_baseline": -1.0, "max_ece": 1.0, "min_effective_lists": 0},
}
Record = Callable[[str, object], None]


@dsl.container_component
def end_with(image_command: str) -> dsl.ContainerSpec:
    return dsl.ContainerSpec(image="set by the test", command=["sh", "-c"], args=[image_command])


def test_a_failing_step_fails_the_run(main_image: str, tmp_path: Path) -> None:
    end_with.component_spec.implementation.container.image = main_image

    @dsl.pipeline(name="two-ends")
    def two_ends() -> None:
        well = end_with(image_command="echo well; exit 0")
        end_with(image_command="echo badly; exit 3").after(well)

    compiler.Compiler().compile(two_ends, str(tmp_path / "two_ends.yaml"))
    home = tmp_path / "home"
    home.mkdir()
    with pytest.raises(StepFailedError, match=r"step 'end-with-2' failed(.|\n)*badly"):
        run_package(tmp_path / "two_ends.yaml", {}, home=home, runner=make_runner(home))
    assert "well" in (home / "run.log").read_text()


def read_measures(artifact: Path) -> dict[str, float]:
    """The metrics of an artifact without those that measure time."""
    metrics = read_lineage(artifact).metrics
    return {name: value for name, value in metrics.items() if not name.endswith("_s")}


def test_images_measure_what_subprocesses_measure(
    main_image: str, tmp_path: Path, record_property: Record
) -> None:
    measured = {}
    for name in ("subprocesses", "containers"):
        home = tmp_path / name
        home.mkdir()
        config = RunConfig.model_validate(SMALL | {"name": "small", "workspace": str(home)})
        config.home.mkdir(parents=True, exist_ok=True)
        package = COMPILED_FOLDER / "train_and_deploy.yaml"
        arguments = build_local_arguments(package, config, choices={"deploy": False})
        started_s = time.monotonic()
        runner = make_runner(config.home) if name == "containers" else None
        artifacts = run_package(package, arguments, home=config.home, runner=runner)
        record_property(f"{name}_seconds", round(time.monotonic() - started_s))
        measured[name] = {artifact: read_measures(folder) for artifact, folder in artifacts.items()}
        assert all(folder.stat().st_uid == os.getuid() for folder in artifacts.values())
    record_property("equal_metrics", int(measured["containers"] == measured["subprocesses"]))
    assert measured["containers"] == measured["subprocesses"]


def test_steps_bring_the_commit_that_their_image_was_built_from(
    engine: docker.DockerClient, main_image: str
) -> None:
    labels = engine.images.get(main_image).labels
    assert len(labels["org.opencontainers.image.revision"].removesuffix("-changed")) == 40
