"""Deployment records: which artifacts stand behind the rankers in service.

Each deployment writes one before its routes. Refreshes and the monitor ask the records each time they run.
A schedule that held the addresses itself would go on with the models of the day on which it was made.

A file is never changed: `000007.json` is how deployment 7 began, `000007.0002.json` how its second refresh
left it. Whoever writes the next one learns by its name whether another was quicker, and then begins anew.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import AwareDatetime

from contracts.artifacts import create_text
from contracts.config import Config
from contracts.errors import UserError
from models.ranker.inputs.ranker_spec import SPEC_FILE, RankerSpec
from serving.config import ServingConfig
from serving.deployment.routes import read_routes

_RECORDS_FOLDER: Final = "deployments"
_REMEDY: Final = "run train_and_deploy, which writes one when it deploys"


class DeployedArtifacts(Config):
    """Address of each artifact that a deployment works with: a path, or a URI of the pipelines' store."""

    dataset: str
    """Catalogue and log."""
    knowledge: str
    """What is known of the items."""
    item_embeddings: str
    """Vectors of the items, in the space that the rankers read."""
    behavior_model: str
    """Infers the users' behaviors."""
    features: str
    """Offline feature tables."""
    evaluation: str
    """How the ranker was measured; its lists are the first reference of drift."""


class DeploymentRecord(Config):
    """What was put into service together."""

    deployment: str
    """Its name: a number that grows."""
    models: tuple[str, ...]
    """Rankers that came into service with it."""
    space: str | None
    """Embedding space of its artifacts."""
    artifacts: DeployedArtifacts
    """As deployed. A refresh of the catalogue starts from these: if it started from what the former refresh
    made, its inputs would be new each night, and no night could come from the cache."""
    refreshed: dict[str, str] = {}
    """Artifact -> its address since the last refresh that made it anew."""
    created_at: AwareDatetime

    @property
    def current_artifacts(self) -> DeployedArtifacts:
        """As the last refreshes left them."""
        return DeployedArtifacts(**(self.artifacts.model_dump() | self.refreshed))


def record_deployment(rankers: list[Path], artifacts: DeployedArtifacts, *, state: Path) -> DeploymentRecord:
    """Writes the record of a deployment that is about to be routed; the same once more changes nothing.

    Args:
        rankers: the ranker artifacts that come into service.
        artifacts: what they work with.
        state: serving's folder.
    """
    specs = [RankerSpec.read(ranker) for ranker in rankers]
    models = tuple(sorted({spec.model_name for spec in specs}))
    while True:
        records = _read_records(state)
        if records and (records[-1].models, records[-1].artifacts) == (models, artifacts):
            return records[-1]
        record = DeploymentRecord(
            deployment=f"{int(records[-1].deployment) + 1 if records else 1:06d}",
            models=models,
            space=next((spec.space for spec in specs if spec.space is not None), None),
            artifacts=artifacts,
            created_at=datetime.now(UTC),
        )
        if _write_generation(record, 0, state):
            return record


def find_deployment(state: Path) -> DeploymentRecord:
    """Finds the deployment that is in service, by the rankers that the routes name.

    The record of most routed rankers counts, the newest among equals. Where no record names one (a canary
    was brought in by hand), the newest of a routed ranker's space does.

    Raises:
        UserError: nothing is deployed, or no record fits.
    """
    routed_models = read_routes(state).model_names
    records = _read_records(state)
    covered = [(len(routed_models & set(record.models)), record.deployment, record) for record in records]
    most, _, best = max(covered, default=(0, "", None))
    if best is not None and most:
        return best
    routed_spaces = _read_spaces(routed_models, state)
    of_space = [record for record in records if record.space is not None and record.space in routed_spaces]
    if not of_space:
        named = ", ".join(sorted(routed_models))
        raise UserError(f"no deployment record in {state} fits the rankers in service ({named}); {_REMEDY}")
    return of_space[-1]


def require_in_service(deployment: str, *, state: Path) -> None:
    """Refuses to go on for a deployment that was replaced meanwhile.

    Raises:
        UserError: another one is in service.
    """
    current = find_deployment(state).deployment
    if current != deployment:
        raise UserError(
            f"deployment {deployment}, for which this refresh began, is no longer in service ({current} is); "
            "nothing was written, and the next refresh works for the new one"
        )


def record_refresh(deployment: str, new_uris: dict[str, str], *, state: Path) -> DeploymentRecord:
    """Notes in a record what a refresh made; where an address is empty, the former one stays.

    Refreshes that end at the same time each keep what the other wrote.

    Args:
        deployment: name of the deployment.
        new_uris: artifact -> its new address.
        state: serving's folder.

    Raises:
        UserError: there is no such record.
    """
    changes = {name: uri for name, uri in new_uris.items() if uri}
    while True:
        generation = _find_generations(state).get(deployment)
        if generation is None:
            raise UserError(f"no deployment record '{deployment}' in {state}; {_REMEDY}")
        record = _read_generation(deployment, generation, state)
        changed_record = record.model_copy(update={"refreshed": record.refreshed | changes})
        if changed_record == record or _write_generation(changed_record, generation + 1, state):
            return changed_record


def _read_records(state: Path) -> list[DeploymentRecord]:
    """All records as the last refreshes left them, the oldest first."""
    return [_read_generation(name, last, state) for name, last in sorted(_find_generations(state).items())]


def _find_generations(state: Path) -> dict[str, int]:
    """Deployment -> number of its last generation."""
    generations: dict[str, int] = {}
    for path in (state / _RECORDS_FOLDER).glob("[0-9]*.json"):
        deployment, _, generation = path.stem.partition(".")
        generations[deployment] = max(generations.get(deployment, 0), int(generation or 0))
    return generations


def _read_generation(deployment: str, generation: int, state: Path) -> DeploymentRecord:
    path = _locate_generation(deployment, generation, state)
    return DeploymentRecord.model_validate_json(path.read_text(encoding="utf-8"))


def _write_generation(record: DeploymentRecord, generation: int, state: Path) -> bool:
    """Writes it unless somebody was quicker; whether it was written."""
    path = _locate_generation(record.deployment, generation, state)
    path.parent.mkdir(parents=True, exist_ok=True)
    return create_text(path, record.model_dump_json(indent=1))


def _locate_generation(deployment: str, generation: int, state: Path) -> Path:
    suffix = f".{generation:04d}" if generation else ""
    return state / _RECORDS_FOLDER / f"{deployment}{suffix}.json"


def _read_spaces(models: set[str], state: Path) -> set[str]:
    rankers = ServingConfig().in_folders(state).rankers_folder
    specs = [RankerSpec.read(rankers / name) for name in models if (rankers / name / SPEC_FILE).is_file()]
    return {spec.space for spec in specs if spec.space is not None}
