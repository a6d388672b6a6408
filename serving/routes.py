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

ROUTES_FILE: Final = "routes.json"
_HISTORY: Final = "routes"


class Arm(Config):
    """One arm of the experiment."""

    model: str
    """Ranker that answers: its name in the model repository."""
    share: float = Field(gt=0, le=1)
    """Share of the users."""


class Routes(Config):
    """What the gateway goes by."""

    revision: int = Field(ge=1)
    """Grows by one with every change."""
    experiment: str
    salt: str
    arms: dict[str, Arm] = Field(min_length=1)
    champion: str | None = None
    """Ranker that won its experiment; the next challengers are measured against it. None until one was promoted."""
    created_at: AwareDatetime
    note: str = ""
    """Why it was written."""

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Self:
        total = sum(arm.share for arm in self.arms.values())
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the arms' shares sum to {total:g}, not to 1")
        return self

    @property
    def models(self) -> set[str]:
        """Every ranker in use."""
        return {arm.model for arm in self.arms.values()}

    @property
    def shares(self) -> dict[str, float]:
        """Arm -> share."""
        return {name: arm.share for name, arm in self.arms.items()}


def read_routes(state: Path) -> Routes:
    """Reads the routes that hold now.

    Raises:
        UserError: nothing was deployed yet.
    """
    path = state / ROUTES_FILE
    if not path.is_file():
        raise UserError(f"no ranker is deployed in {state} (no {ROUTES_FILE}); run the deploy step first.")
    return Routes.model_validate_json(path.read_text(encoding="utf-8"))


def write_routes(
    state: Path, arms: dict[str, Arm], *, experiment: str, salt: str, note: str, champion: str | None = None
) -> Routes:
    """Puts new routes into effect and keeps them in the history."""
    routes = Routes(
        revision=max(_revisions(state), default=0) + 1,
        experiment=experiment,
        salt=salt,
        arms=arms,
        champion=champion,
        created_at=datetime.now(UTC),
        note=note,
    )
    (state / _HISTORY).mkdir(parents=True, exist_ok=True)
    # History first: a crash between the two writes leaves a revision that never held, not one that is lost.
    write_text(_path(state, routes.revision), routes.model_dump_json(indent=1))
    write_text(state / ROUTES_FILE, routes.model_dump_json(indent=1))
    return routes


def previous_routes(state: Path) -> Routes:
    """The newest routes of the history with other arms than now.

    Raises:
        UserError: there are none.
    """
    current = read_routes(state)
    for revision in sorted(_revisions(state), reverse=True):
        routes = Routes.model_validate_json(_path(state, revision).read_text(encoding="utf-8"))
        if revision < current.revision and routes.arms != current.arms:
            return routes
    raise UserError(f"there is nothing to roll back to in {state}: no earlier routes differ from the current ones.")


def _revisions(state: Path) -> list[int]:
    return [int(path.stem) for path in (state / _HISTORY).glob("*.json") if path.stem.isdigit()]


def _path(state: Path, revision: int) -> Path:
    return state / _HISTORY / f"{revision:06d}.json"
