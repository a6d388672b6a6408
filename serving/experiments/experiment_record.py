"""The record of an experiment: what was planned, before anything was seen.

It lies in `experiments/<id>.json` of serving's folder. The routes carry the id while the experiment runs, and
the gateway writes it beside each exposure. Any other change of the routes drops it, and so ends the
experiment: from then on the arms are no longer those that were planned.
"""

from pathlib import Path
from typing import Final

from pydantic import AwareDatetime, Field

from contracts.artifacts import write_text
from contracts.config import Config
from contracts.errors import UserError
from serving.deployment.routes import ROUTES_FILE, Arm, read_routes

_RECORDS_FOLDER: Final = "experiments"


class ExperimentRecord(Config):
    """An experiment as it was started, and how it ended."""

    experiment_id: str
    """Names it in routes, exposures and audit log; it also salts the draw of the arms."""
    arms: dict[str, Arm]
    """Arm -> ranker and share."""
    started_at: AwareDatetime
    started_by: str
    """Who started it."""
    planned_days: float = Field(gt=0)
    """How long it is meant to run."""
    planned_users: int | None = Field(default=None, ge=1)
    """How many users it is meant to see, all arms together."""
    deciding_metric: str
    """Named beforehand, so that nobody picks the one that won."""
    is_aa: bool = False
    """The same ranker in all arms: a test of the test itself."""
    interleaving: bool = False
    """Both rankers on each page, by team draft."""
    note: str = ""
    """Why."""
    ended_at: AwareDatetime | None = None
    ended_by: str | None = None
    """Who ended it."""
    outcome: str | None = None
    """What was kept, and why."""

    def __str__(self) -> str:
        arm_texts = ", ".join(f"{name}: {arm}" for name, arm in self.arms.items())
        users = "" if self.planned_users is None else f" and {self.planned_users:,} users"
        kind = "A/A test" if self.is_aa else "interleaving" if self.interleaving else "experiment"
        return (
            f"{kind} {self.experiment_id} by {self.started_by} since {self.started_at:%Y-%m-%d %H:%M} UTC, "
            f"planned for {self.planned_days:g} days{users}, decided by {self.deciding_metric}; {arm_texts}"
        )


def read_running_record(state: Path) -> ExperimentRecord | None:
    """The record of the experiment that the routes carry now; None where none runs."""
    if not (state / ROUTES_FILE).is_file():
        return None
    experiment_id = read_routes(state).experiment_id
    return None if experiment_id is None else read_record(state, experiment_id)


def read_record(state: Path, experiment_id: str) -> ExperimentRecord:
    """One experiment's record.

    Raises:
        UserError: there is none.
    """
    record_path = _locate_record(state, experiment_id)
    if not record_path.is_file():
        raise UserError(f"no record of experiment '{experiment_id}' in {record_path.parent}")
    return ExperimentRecord.model_validate_json(record_path.read_text(encoding="utf-8"))


def list_records(state: Path) -> list[ExperimentRecord]:
    """All records, oldest first."""
    records = [
        ExperimentRecord.model_validate_json(path.read_text(encoding="utf-8"))
        for path in (state / _RECORDS_FOLDER).glob("*.json")
    ]
    return sorted(records, key=lambda record: record.started_at)


def write_record(state: Path, record: ExperimentRecord) -> None:
    """Writes or replaces a record."""
    record_path = _locate_record(state, record.experiment_id)
    record_path.parent.mkdir(parents=True, exist_ok=True)
    write_text(record_path, record.model_dump_json(indent=1))


def _locate_record(state: Path, experiment_id: str) -> Path:
    return state / _RECORDS_FOLDER / f"{experiment_id}.json"
