"""Running a pipeline on this machine, and what its last run left behind."""

import json
from pathlib import Path

from contracts.artifacts import write_json
from contracts.digests import LINEAGE_FILE
from contracts.errors import UserError
from pipelines.arguments import local_arguments
from pipelines.config import RunConfig
from pipelines.local import run_package

DEPLOYED_FILE = "deployed.json"
"""The artifacts that are in service; monitoring and refreshes go on from these."""
PACKAGES = Path(__file__).parent.parent / "pipelines" / "compiled"
_TRAINING = "train_and_deploy"
_MAKERS = {
    "dataset": ("ingest",),
    "knowledge": ("merge-knowledge",),
    "item_embeddings": ("embed-items", "embed-new-items"),
}
"""Artifact -> the steps that make it."""


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
    in_service = {} if pipeline == _TRAINING else deployed_artifacts(config)
    package = PACKAGES / f"{pipeline}.yaml"
    arguments = local_arguments(package, config, artifacts=in_service, choices=choices)
    made = run_package(package, arguments, home=config.home)
    if pipeline != _TRAINING or (choices.get("deploy") and is_promoted(made["evaluation"])):
        kept = {name: str(folder) for name, folder in (in_service | made).items()}
        write_json(config.home / DEPLOYED_FILE, kept)
    return made


def deployed_artifacts(config: RunConfig) -> dict[str, Path]:
    """The artifacts in service: name -> folder.

    Raises:
        UserError: nothing was deployed yet.
    """
    path = config.home / DEPLOYED_FILE
    if not path.is_file():
        raise UserError(f"nothing was deployed in {config.home} yet; `reaseq run` trains and deploys")
    return {name: Path(folder) for name, folder in json.loads(path.read_text(encoding="utf-8")).items()}


def find_artifact(config: RunConfig, name: str) -> Path:
    """An artifact in service; before anything was deployed, the one that was made last.

    Raises:
        UserError: there is none.
    """
    if (config.home / DEPLOYED_FILE).is_file():
        return deployed_artifacts(config)[name]
    made = [
        found.parent for step in _MAKERS[name] for found in config.home.glob(f"steps/*/{step}/{name}/{LINEAGE_FILE}")
    ]
    if not made:
        raise UserError(f"no {name.replace('_', ' ')} in {config.home} yet; `reaseq run` makes it")
    return max(made, key=lambda folder: (folder / LINEAGE_FILE).stat().st_mtime_ns)


def is_promoted(evaluation: Path) -> bool:
    """Did the gate let the challenger of this evaluation pass?"""
    return bool(json.loads((evaluation / "decision.json").read_text(encoding="utf-8"))["promote"])
