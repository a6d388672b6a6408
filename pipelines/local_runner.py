"""Runs a compiled package on this machine with `kfp.local`: no cluster, one subprocess a step.

Finished steps are cached by their inputs: no run does anything twice, and a killed one goes on where it
stopped.
"""

import builtins
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import yaml
from kfp import components, local

from pipelines.compiled_package import count_steps, read_package
from pipelines.step_log import StepLog


def run_package(
    package: Path, arguments: dict[str, Any], *, home: Path, runner: local.DockerRunner | None = None
) -> dict[str, Path]:
    """Runs a compiled pipeline.

    Args:
        package: the compiled YAML.
        arguments: the pipeline's arguments.
        home: folder for artifacts (`steps/`), the step cache (`step_cache/`) and the whole log (`run.log`).
        runner: runs each step in its image; a subprocess of this environment by default.

    Returns:
        The pipeline's output artifacts: name -> folder.

    Raises:
        UserError: the package is missing, an argument is wrong, or a step failed on the user's input.
        StepFailedError: a step failed for another reason; the message shows the end of its log.
    """
    num_steps = count_steps(read_package(package), arguments)
    # Steps share the cores with whatever else runs here: threads that spin while they wait would take all.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    pipeline_component = components.load_component_from_text(_read_for_local_run(package))
    home.mkdir(parents=True, exist_ok=True)
    step_log = StepLog(home / "run.log", screen=sys.stdout, num_steps=num_steps)
    with warnings.catch_warnings(), step_log, redirect_stdout(step_log), _restore_print():
        # kfp.local warns that images, volumes and display names mean nothing to it: so it is meant here.
        warnings.simplefilter("ignore")
        local.init(
            runner or local.SubprocessRunner(use_venv=False),
            pipeline_root=str(home / "steps"),
            workspace_root=str(home / "kfp_workspace"),
            enable_caching=True,
            cache_root=str(home / "step_cache"),
        )
        try:
            pipeline_task = pipeline_component(**arguments)
        except RuntimeError as error:
            raise step_log.explain_failure(error) from error
    return {name: Path(artifact.path) for name, artifact in pipeline_task.outputs.items()}


@contextmanager
def _restore_print() -> Iterator[None]:
    """Puts `print` back: steps that kfp runs side by side each indent it, and may leave it so."""
    original_print = builtins.print
    try:
        yield
    finally:
        builtins.print = original_print


def _read_for_local_run(package: Path) -> str:
    """The package's text as it is run here.

    It is without retries: here a failure is the user's or a bug, and both want to be seen at once.
    """
    documents = list(yaml.safe_load_all(package.read_text(encoding="utf-8")))
    pipeline = documents[0]
    components_with_dags = [c for c in pipeline.get("components", {}).values() if "dag" in c]
    for holder in [pipeline["root"], *components_with_dags]:
        for task in holder["dag"]["tasks"].values():
            task.pop("retryPolicy", None)
    # kfp takes a whole pipeline for the one step that has the same name, and then knows no other argument.
    name = pipeline["pipelineInfo"]["name"]
    if f"exec-{name}" in pipeline.get("deploymentSpec", {}).get("executors", {}):
        pipeline["pipelineInfo"]["name"] = f"{name}-pipeline"
    return yaml.safe_dump_all(documents)
