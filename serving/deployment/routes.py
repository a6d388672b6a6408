"""The routes say which arm is answered by which ranker.

`routes/<revision>.json` is written once and never changed; the highest revision is what holds.
`routes.json` is a copy of it for readers, replaced atomically. Going back writes a new revision with the
content of an old one, so the history only grows. Of two writers one gets the next revision, and the other is
told.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from pydantic import AwareDatetime, Field, model_validator

from contracts.artifacts import create_text, write_text
from contracts.config import Config
from contracts.config_text import check_json_keys
from contracts.errors import UserError
from serving.experiments.experiment_layers import (
    ExperimentLayer,
    require_control_arms,
    require_distinct_names,
    require_valid_shares,
)

ROUTES_FILE: Final = "routes.json"
_HISTORY_FOLDER: Final = "routes"


class Canary(Config):
    """A new version of an arm's ranker, tried on a part of the arm's users."""

    model: str
    """Ranker that answers them."""
    share: float = Field(gt=0, lt=1)
    """Share of the arm's users."""


class Arm(Config):
    """One arm of the ranker experiment."""

    model: str
    """Ranker that answers: its name in the model repository."""
    share: float = Field(gt=0, le=1)
    """Share of the users."""
    canary: Canary | None = None
    """Its next ranker, while that is tried."""
    interleaved: str | None = None
    """Ranker that shares each page of the arm with `model`, by team draft."""

    def __str__(self) -> str:
        if self.interleaved:
            return f"{self.model} interleaved with {self.interleaved} ({self.share:.0%} of the users)"
        canary_text = f", {self.canary.share:.0%} of them {self.canary.model}" if self.canary else ""
        return f"{self.model} ({self.share:.0%} of the users{canary_text})"

    @property
    def model_names(self) -> set[str]:
        """Every ranker that answers the arm."""
        others = {self.canary.model if self.canary else None, self.interleaved} - {None}
        return {self.model} | {model for model in others if model is not None}


class ExperimentPlan(Config):
    """Who sees what."""

    experiment: str
    """Name of the ranker experiment."""
    salt: str
    """Change it to draw the arms anew."""
    arms: dict[str, Arm] = Field(min_length=1)
    """Arms of the ranker experiment."""
    layers: dict[str, ExperimentLayer] = {}
    """Other experiments on the same users."""
    holdout: float = Field(default=0, ge=0, lt=1)
    """Share of the users that see `control` in every experiment."""
    champion: str | None = None
    """Ranker that won its experiment, and the next ones must beat. None until one was promoted."""

    @model_validator(mode="after")
    def _require_consistent_plan(self) -> Self:
        require_valid_shares(self.arm_shares)
        require_distinct_names(self.experiment, self.layers)
        if self.holdout:
            require_control_arms(self.shares_by_experiment)
        return self

    @property
    def shares_by_experiment(self) -> dict[str, dict[str, float]]:
        """Experiment -> arm -> share, the ranker experiment first."""
        layer_shares = {name: layer.shares for name, layer in self.layers.items()}
        return {self.experiment: self.arm_shares} | layer_shares

    @property
    def model_names(self) -> set[str]:
        """Every ranker in use."""
        return set[str]().union(*(arm.model_names for arm in self.arms.values()))

    @property
    def arm_shares(self) -> dict[str, float]:
        """Arm -> share."""
        return {name: arm.share for name, arm in self.arms.items()}


class Routes(ExperimentPlan):
    """What the gateway goes by."""

    revision: int = Field(ge=1)
    """Grows by one with every change."""
    created_at: AwareDatetime
    note: str = ""
    """Why it was written."""
    experiment_id: str | None = None
    """The experiment that was started with these routes (`experiment_record.py`). Not of the plan: whatever
    changes the routes otherwise, ends it."""

    def __str__(self) -> str:
        arm_texts = (f"{name}: {arm}" for name, arm in self.arms.items())
        return f"revision {self.revision} ({self.note}): {', '.join(arm_texts)}"

    @property
    def as_plan(self) -> ExperimentPlan:
        """Without when and why."""
        return ExperimentPlan.model_validate(self.model_dump(include=set(ExperimentPlan.model_fields)))


def read_routes(state: Path) -> Routes:
    """Reads the routes that hold now.

    Raises:
        UserError: nothing was deployed yet, or a key stands twice in the file.
    """
    routes_path = state / ROUTES_FILE
    if not routes_path.is_file():
        raise UserError(f"no ranker is deployed in {state} (no {ROUTES_FILE}); run the deploy step first.")
    text = routes_path.read_text(encoding="utf-8")
    check_json_keys(text, origin=f"'{routes_path}'")
    return Routes.model_validate_json(text)


def read_revision(state: Path) -> int:
    """Revision of the routes that hold now; 0 where nothing is deployed."""
    return read_routes(state).revision if (state / ROUTES_FILE).is_file() else 0


def find_routes_file(state: Path, revision: int) -> Path:
    """The file of a revision: it is written once, so its time is that of the routes."""
    return state / _HISTORY_FOLDER / f"{revision:06d}.json"


def write_routes(
    state: Path,
    plan: ExperimentPlan,
    *,
    note: str,
    after: int | None = None,
    experiment_id: str | None = None,
) -> Routes:
    """Puts a plan into effect and keeps it in the history.

    Args:
        state: serving's folder.
        plan: who sees what.
        note: why.
        after: revision that the plan was made from; None where it stands whatever held before.
        experiment_id: experiment that starts with it.

    Raises:
        UserError: other routes were written since `after`.
    """
    (state / _HISTORY_FOLDER).mkdir(parents=True, exist_ok=True)
    while True:
        last_revision = max(_list_revisions(state), default=0) if after is None else after
        new_routes = Routes(
            **plan.model_dump(include=set(ExperimentPlan.model_fields)),
            revision=last_revision + 1,
            created_at=datetime.now(UTC),
            note=note,
            experiment_id=experiment_id,
        )
        is_written = create_text(
            find_routes_file(state, new_routes.revision), new_routes.model_dump_json(indent=1)
        )
        # Also for a writer that died between its two files.
        _copy_newest(state)
        if is_written:
            return new_routes
        if after is not None:
            raise UserError(
                f"the routes were changed meanwhile, now they are {read_routes(state)}; nothing was written, "
                "say it again if it is still right"
            )


def _copy_newest(state: Path) -> None:
    """Brings `routes.json` up to the history. Whoever copies last looks once more, so no older one stays."""
    copied = 0
    while (newest := max(_list_revisions(state))) != copied:
        write_text(state / ROUTES_FILE, find_routes_file(state, newest).read_text(encoding="utf-8"))
        copied = newest


def read_previous_routes(state: Path) -> Routes:
    """The newest routes of the history that differ from those of now, experiments by plan aside.

    The routes of such an experiment mean nothing without its plan: `reaseq experiment start` begins another.

    Raises:
        UserError: there are none.
    """
    current_routes = read_routes(state)
    for revision in sorted(_list_revisions(state), reverse=True):
        earlier = Routes.model_validate_json(find_routes_file(state, revision).read_text(encoding="utf-8"))
        is_earlier = revision < current_routes.revision and earlier.experiment_id is None
        if is_earlier and earlier.as_plan != current_routes.as_plan:
            return earlier
    raise UserError(f"there is nothing to roll back to in {state}: no earlier routes differ")


def _list_revisions(state: Path) -> list[int]:
    return [int(path.stem) for path in (state / _HISTORY_FOLDER).glob("*.json") if path.stem.isdigit()]
