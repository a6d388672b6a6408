"""Experiment arms: who sees what, by a salted hash of the user, the same on every gateway and after every restart.

Each experiment hashes with its own name and salt, so experiments split independently of one another (layers, as in Tang
et al., "Overlapping Experiment Infrastructure", KDD 2010).
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Annotated, Final

from pydantic import Field, StringConstraints, field_validator

from contracts.config import Config

CONTROL: Final = "control"
"""Arm that the others are compared with, and that a holdout sees."""


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$")]


class Layer(Config):
    """An experiment on something that the gateway does not decide, say the page around the ranking: it tells each
    caller, and the log, which arm the user is in."""

    shares: dict[Name, float] = Field(min_length=2)
    """Arm -> share of the users."""
    salt: str = "1"
    """Change it to draw the arms anew."""

    @field_validator("shares")
    @classmethod
    def _sum_to_one(cls, shares: dict[str, float]) -> dict[str, float]:
        require_shares(shares)
        return shares


def require_shares(shares: Mapping[str, float]) -> None:
    """Checks shares.

    Raises:
        ValueError: they do not sum to one, or one is not positive.
    """
    total = sum(shares.values())
    if abs(total - 1) > 1e-6 or min(shares.values()) <= 0:
        raise ValueError(f"the arms' shares must be above 0 and sum to 1; they are {dict(shares)}, {total:g} in all")


def require_independent(experiment: str, layers: Mapping[str, Layer]) -> None:
    """Checks that no two experiments share a name, and so a draw.

    Raises:
        ValueError: a layer is named like the ranker experiment.
    """
    if experiment in layers:
        raise ValueError(f"'{experiment}' names the ranker experiment and a layer; rename the layer")


def require_controls(arms: Mapping[str, Iterable[str]]) -> None:
    """Checks that every experiment has something to show to a holdout.

    Args:
        arms: experiment -> its arms.

    Raises:
        ValueError: an experiment of several arms has no control.
    """
    lacking = [name for name, of in arms.items() if CONTROL not in of and len(set(of)) > 1]
    if lacking:
        raise ValueError(f"a holdout needs an arm '{CONTROL}' in each experiment; {', '.join(lacking)} has none")


def assign_arm(user_id: str, shares: Mapping[str, float], *, experiment: str, salt: str) -> str:
    """Returns the user's arm.

    Args:
        user_id: the unit of the experiment.
        shares: arm -> share of the users; they sum to one. Their order matters.
        experiment: name of the experiment, so that two experiments split independently.
        salt: change it to draw the arms anew.
    """
    place = bucket(user_id, experiment=experiment, salt=salt)
    reached = 0.0
    for arm, share in shares.items():
        reached += share
        if place < reached:
            return arm
    # Shares that sum to a hair below one.
    return arm


def bucket(user_id: str, *, experiment: str, salt: str) -> float:
    """The user's place in [0, 1)."""
    digest = hashlib.sha256(f"{experiment}\0{salt}\0{user_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
