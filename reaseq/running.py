"""Running a pipeline on this machine, and what its last run left behind."""

import json
from pathlib import Path

from contracts.artifacts import write_json
from contracts.errors import UserError
from pipelines.arguments import local_arguments
from pipelines.config import RunConfig
from pipelines.local import run_package

RUN_FILE = "run.json"
PACKAGES = Path(__file__).parent.parent / "pipelines" / "compiled"


def run_pipeline(config: RunConfig, pipeline: str, **choices: bool) -> dict[str, Path]:
    """Runs a compiled pipeline; returns its artifacts by name and keeps them for the pipelines that go on from them.

    Args:
        config: the run configuration.
        pipeline: `train_and_deploy`, `refresh_users`, `refresh_catalogue` or `monitor`.
        choices: the pipeline's switches.

    Raises:
        UserError: what the user gave is wrong.
        RuntimeError: a step failed.
    """
    known = last_artifacts(config) if (config.home / RUN_FILE).is_file() else {}
    package = PACKAGES / f"{pipeline}.yaml"
    arguments = local_arguments(package, config, artifacts=known, choices=choices)
    made = run_package(package, arguments, home=config.home)
    write_json(config.home / RUN_FILE, {name: str(path) for name, path in (known | made).items()})
    return made


def last_artifacts(config: RunConfig) -> dict[str, Path]:
    """The artifacts that the last runs left: name -> folder.

    Raises:
        UserError: nothing was run yet.
    """
    path = config.home / RUN_FILE
    if not path.is_file():
        raise UserError(f"nothing was run in {config.home} yet; `reaseq run` does")
    return {name: Path(folder) for name, folder in json.loads(path.read_text(encoding="utf-8")).items()}
