"""The routes: which arm is answered by which ranker. One small file, replaced atomically, with its whole history.

`routes.json` is what holds now; `routes/<revision>.json` is what held before. Going back writes a new revision with
the content of an old one, so the history only grows.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from pydantic import AwareDatetime, Field, model_validator

from contracts.artifacts import write_text
from contracts.config import Config
from contracts.errors import UserError
from serving.experiments import Layer, require_controls, require_independent, require_shares

ROUTES_FILE: Final = "routes.json"
_HISTORY: Final = "routes"


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

    def __str__(self) -> str:
        trial = f", {self.canary.share:.0%} of them {self.canary.model}" if self.canary else ""
        return f"{self.model} ({self.share:.0%} of the users{trial})"

    @property
    def models(self) -> set[str]:
        """Every ranker that answers the arm."""
        return {self.model} | ({self.canary.model} if self.canary else set())


class Plan(Config):
    """Who sees what."""

    experiment: str
    """Name of the ranker experiment."""
    salt: str
    """Change it to draw the arms anew."""
    arms: dict[str, Arm] = Field(min_length=1)
    """Arms of the ranker experiment."""
    layers: dict[str, Layer] = {}
    """Other experiments on the same users."""
    holdout: float = Field(default=0, ge=0, lt=1)
    """Share of the users that see `control` in every experiment."""
    champion: str | None = None
    """Ranker that won its experiment; the next challengers are measured against it. None until one was promoted."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        require_shares(self.shares)
        require_independent(self.experiment, self.layers)
        if self.holdout:
            require_controls(self.experiments)
        return self

    @property
    def experiments(self) -> dict[str, dict[str, float]]:
        """Experiment -> arm -> share, the ranker experiment first."""
        return {self.experiment: self.shares} | {name: layer.shares for name, layer in self.layers.items()}

    @property
    def models(self) -> set[str]:
        """Every ranker in use."""
        return set[str]().union(*(arm.models for arm in self.arms.values()))

    @property
    def shares(self) -> dict[str, float]:
        """Arm -> share."""
        return {name: arm.share for name, arm in self.arms.items()}


class Routes(Plan):
    """What the gateway goes by."""

    revision: int = Field(ge=1)
    """Grows by one with every change."""
    created_at: AwareDatetime
    note: str = ""
    """Why it was written."""

    def __str__(self) -> str:
        arms = (f"{name}: {arm}" for name, arm in self.arms.items())
        return f"revision {self.revision} ({self.note}): {', '.join(arms)}"

    @property
    def plan(self) -> Plan:
        """Without when and why."""
        return Plan.model_validate(self.model_dump(include=set(Plan.model_fields)))


def read_routes(state: Path) -> Routes:
    """Reads the routes that hold now.

    Raises:
        UserError: nothing was deployed yet.
    """
    path = state / ROUTES_FILE
    if not path.is_file():
        raise UserError(f"no ranker is deployed in {state} (no {ROUTES_FILE}); run the deploy step first.")
    return Routes.model_validate_json(path.read_text(encoding="utf-8"))


def write_routes(state: Path, plan: Plan, *, note: str) -> Routes:
    """Puts a plan into effect and keeps it in the history."""
    routes = Routes(
        **plan.model_dump(include=set(Plan.model_fields)),
        revision=max(_revisions(state), default=0) + 1,
        created_at=datetime.now(UTC),
        note=note,
    )
    (state / _HISTORY).mkdir(parents=True, exist_ok=True)
    # History first: a crash between the two writes leaves a revision that never held, not one that is lost.
    write_text(_path(state, routes.revision), routes.model_dump_json(indent=1))
    write_text(state / ROUTES_FILE, routes.model_dump_json(indent=1))
    return routes


def previous_routes(state: Path) -> Routes:
    """The newest routes of the history that differ from those of now.

    Raises:
        UserError: there are none.
    """
    current = read_routes(state)
    for revision in sorted(_revisions(state), reverse=True):
        routes = Routes.model_validate_json(_path(state, revision).read_text(encoding="utf-8"))
        if revision < current.revision and routes.plan != current.plan:
            return routes
    raise UserError(f"there is nothing to roll back to in {state}: no earlier routes differ from the current ones.")


def _revisions(state: Path) -> list[int]:
    return [int(path.stem) for path in (state / _HISTORY).glob("*.json") if path.stem.isdigit()]


def _path(state: Path, revision: int) -> Path:
    return state / _HISTORY / f"{revision:06d}.json"
