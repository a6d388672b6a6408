"""Runs a compiled package on this machine with `kfp.local`: no cluster, no container, one subprocess a step.

Finished steps are cached by their inputs, so a second run does nothing twice and a killed run goes on where it stopped.
"""

import os
import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from kfp import components, local

from contracts.errors import UserError
from pipelines.step_log import StepLog


def run_package(package: Path, arguments: dict[str, Any], *, home: Path) -> dict[str, Path]:
    """Runs a compiled pipeline with the subprocess runner.

    Args:
        package: the compiled YAML.
        arguments: the pipeline's arguments.
        home: folder for artifacts (`steps/`), the step cache (`step_cache/`) and the whole log (`run.log`).

    Returns:
        The pipeline's output artifacts: name -> folder.

    Raises:
        UserError: the package is missing, an argument is wrong, or a step failed on the user's input.
        RuntimeError: a step failed for another reason; the message shows the end of its log.
    """
    if not package.is_file():
        raise UserError(f"no compiled pipeline at '{package}'; `reaseq compile` makes it")
    # Steps share the cores with whatever else runs here; threads that spin while they wait would take them all.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    pipeline = components.load_component_from_file(str(package))
    home.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), StepLog(home / "run.log", screen=sys.stdout) as log, redirect_stdout(log):
        # kfp.local warns that images, volumes and display names mean nothing to it: so it is meant here.
        warnings.simplefilter("ignore")
        local.init(
            local.SubprocessRunner(use_venv=False),
            pipeline_root=str(home / "steps"),
            workspace_root=str(home / "kfp_workspace"),
            enable_caching=True,
            cache_root=str(home / "step_cache"),
        )
        try:
            task = pipeline(**arguments)
        except RuntimeError as error:
            raise log.explain(error) from error
    return {name: Path(artifact.path) for name, artifact in task.outputs.items()}
