"""Experiments beside the ranker's own, and what makes a set of experiments sound.

Each experiment hashes with its own name and salt, so experiments split independently of one another (layers,
as in Tang et al., "Overlapping Experiment Infrastructure", KDD 2010).
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Final

from pydantic import Field, StringConstraints, field_validator

from contracts.config import Config

CONTROL: Final = "control"
"""Arm that the others are compared with, and that a holdout sees."""
PlainName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$")]
"""Name of an experiment or of an arm."""


class ExperimentLayer(Config):
    """An experiment on something that the gateway does not decide, say the page around the ranking.

    The gateway tells each caller, and the log, which arm the user is in.
    """

    shares: dict[PlainName, float] = Field(min_length=2)
    """Arm -> share of the users."""
    salt: str = "1"
    """Change it to draw the arms anew."""

    @field_validator("shares")
    @classmethod
    def _check_shares(cls, shares: dict[str, float]) -> dict[str, float]:
        require_valid_shares(shares)
        return shares


def require_valid_shares(shares: Mapping[str, float]) -> None:
    """Checks shares.

    Raises:
        ValueError: they do not sum to one, or one is not positive.
    """
    total_share = sum(shares.values())
    if abs(total_share - 1) > 1e-6 or min(shares.values()) <= 0:
        raise ValueError(
            f"the arms' shares must be above 0 and sum to 1: {dict(shares)}, {total_share:g} in all"
        )


def require_distinct_names(experiment: str, layers: Mapping[str, ExperimentLayer]) -> None:
    """Checks that no two experiments share a name, and so a draw.

    Raises:
        ValueError: a layer is named like the ranker experiment.
    """
    if experiment in layers:
        raise ValueError(f"'{experiment}' names the ranker experiment and a layer; rename the layer")


def require_control_arms(arms: Mapping[str, Iterable[str]]) -> None:
    """Checks that every experiment has something to show to a holdout.

    Args:
        arms: experiment -> its arms.

    Raises:
        ValueError: an experiment of several arms has no control.
    """
    without_control = [name for name, of in arms.items() if CONTROL not in of and len(set(of)) > 1]
    if without_control:
        names = ", ".join(without_control)
        raise ValueError(f"a holdout needs an arm '{CONTROL}' in each experiment; {names} has none")
