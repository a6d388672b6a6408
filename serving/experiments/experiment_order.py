"""What is asked of an experiment, as one object: it travels to where the routes lie."""

from typing import Final, Literal

from pydantic import Field

from contracts.config import Config
from serving.experiments.experiment_layers import CONTROL

ARTIFACT: Final = "artifact"
"""Stands for the ranker that a pipeline fetched for the order."""


class ExperimentOrder(Config):
    """One change of an experiment, or a look at it."""

    action: Literal["start", "stop", "status"]
    by: str = Field(min_length=1)
    """Who asks for it, for the audit log."""
    note: str = ""
    """Why."""
    rankers: dict[str, str] = {}
    """Start: arm -> folder or name of its ranker, or `ARTIFACT`; arms that are routed keep theirs."""
    shares: dict[str, float] = {}
    """Start: arm -> share of the users."""
    planned_days: float = Field(default=14, gt=0)
    """Start: how long it is meant to run."""
    planned_users: int | None = Field(default=None, ge=1)
    """Start: how many users it is meant to see."""
    deciding_metric: str | None = None
    """Start: the metric that decides; monitoring's primary metric by default."""
    is_aa: bool = False
    """Start: the control's ranker in both arms."""
    interleaving: bool = False
    """Start: two rankers share each page."""
    keep: str = CONTROL
    """Stop: the arm whose ranker answers from now on."""
