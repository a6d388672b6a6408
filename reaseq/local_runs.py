"""Running a pipeline on this machine, and what its last run left behind."""

import json
from pathlib import Path

from contracts.artifacts import write_json
from contracts.digests import LINEAGE_FILE
from contracts.errors import UserError
from pipelines.compiled_package import COMPILED_FOLDER
from pipelines.config import RunConfig
from pipelines.local_runner import run_package
from pipelines.run_arguments import build_local_arguments

DEPLOYED_FILE = "deployed.json"
"""The artifacts in service, from which monitoring and refreshes go on."""
_TRAINING = "train_and_deploy"
_DISTILLATION = "distill_teacher"
"""It makes a teacher, and nothing that is put into service."""
_MAKERS = {
    "dataset": ("ingest",),
    "knowledge": ("merge-knowledge",),
    "item_embeddings": ("embed-items", "embed-new-items"),
}
"""Artifact -> the steps that make it."""


def run_pipeline(config: RunConfig, pipeline: str, **choices: bool) -> dict[str, Path]:
    """Runs a compiled pipeline and remembers its artifacts, from which other pipelines go on.

    Args:
        config: the run configuration.
        pipeline: `train_and_deploy`, `refresh_users`, `refresh_catalogue`, `distill_teacher` or `monitor`.
        choices: the pipeline's switches.

    Returns:
        The artifacts: name -> folder.

    Raises:
        UserError: what the user gave is wrong.
        StepFailedError: a step failed, not on the user's input.
    """
    is_from_scratch = pipeline in (_TRAINING, _DISTILLATION)
    former_artifacts = {} if is_from_scratch else read_deployed_artifacts(config)
    package_path = COMPILED_FOLDER / f"{pipeline}.yaml"
    run_arguments = build_local_arguments(package_path, config, choices=choices)
    new_artifacts = run_package(package_path, run_arguments, home=config.home)
    is_in_service = (
        choices.get("deploy") and pipeline == _TRAINING and is_promoted(new_artifacts["evaluation"])
    )
    if is_in_service or not is_from_scratch:
        artifact_paths = {name: str(folder) for name, folder in (former_artifacts | new_artifacts).items()}
        write_json(config.home / DEPLOYED_FILE, artifact_paths)
    return new_artifacts


def read_deployed_artifacts(config: RunConfig) -> dict[str, Path]:
    """The artifacts in service: name -> folder.

    Raises:
        UserError: nothing was deployed yet.
    """
    deployed_path = config.home / DEPLOYED_FILE
    if not deployed_path.is_file():
        raise UserError(f"nothing was deployed in {config.home} yet; `reaseq run` trains and deploys")
    return {
        name: Path(folder) for name, folder in json.loads(deployed_path.read_text(encoding="utf-8")).items()
    }


def find_artifact(config: RunConfig, name: str) -> Path:
    """The artifact in service or, before any deployment, the one that was made last.

    Raises:
        UserError: there is none.
    """
    if (config.home / DEPLOYED_FILE).is_file():
        return read_deployed_artifacts(config)[name]
    artifact_folders = [
        lineage_path.parent
        for step in _MAKERS[name]
        for lineage_path in config.home.glob(f"steps/*/{step}/{name}/{LINEAGE_FILE}")
    ]
    if not artifact_folders:
        raise UserError(f"no {name.replace('_', ' ')} in {config.home} yet; `reaseq run` makes it")
    return max(artifact_folders, key=lambda folder: (folder / LINEAGE_FILE).stat().st_mtime_ns)


def is_promoted(evaluation: Path) -> bool:
    """Did the gate let the challenger of this evaluation pass?"""
    return bool(json.loads((evaluation / "decision.json").read_text(encoding="utf-8"))["promote"])
