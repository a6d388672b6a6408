"""Configuration of drift and lift reports and of the decision taken from them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from contracts.config import Config

LiftMetric = Literal["ctr", "orders_per_user", "gmv_per_user"]
Share = Annotated[float, Field(gt=0, lt=1)]


class MonitoringConfig(Config):
    """What is compared, and what counts as different."""

    project: str = Field(default="reaseq", min_length=1)
    """Name of the project in the Evidently workspace."""
    traffic_label: str = "simulated traffic"
    """Where the traffic came from; printed on every report."""
    seed: int = Field(default=0, ge=0)
    """Seed of sampling and of the domain classifier."""
    max_rows: int = Field(default=50_000, ge=1000, le=1_000_000)
    """Rows of either window a drift report looks at; larger windows are sampled."""
    min_requests: int = Field(default=100, ge=2)
    """Requests either window must hold for a drift report."""
    drift_threshold: float = Field(default=0.2, gt=0)
    """A column has drifted when its Wasserstein distance reaches this many reference standard deviations."""
    drifted_share: Share = 0.3
    """The window has drifted when at least this share of the columns has."""
    embedding_components: int = Field(default=16, ge=1, le=256)
    """Principal components of the item vectors, fitted on the reference, that the domain classifier sees."""
    embedding_auc_threshold: float = Field(default=0.65, gt=0.5, le=1)
    """Item vectors have drifted when a classifier tells the windows apart with this AUC (0.5 = cannot)."""
    control_arm: str = Field(default="control", min_length=1)
    """The arm the others are compared with."""
    arm_shares: dict[str, Annotated[float, Field(gt=0)]] = Field(default={})
    """Intended share of users by arm, for the sample-ratio check; empty = equal shares of the arms seen."""
    confidence: Share = 0.95
    """Level of all confidence intervals."""
    srm_alpha: Share = 0.001
    """Below this p-value the observed split of users is a sample-ratio mismatch: no lift is believed."""
    primary_metric: LiftMetric = "ctr"
    """The metric that decides; the others are guardrails."""
    guardrail_margin: Share = 0.1
    """Relative loss in a guardrail that must be ruled out before a promotion."""
    min_users_per_arm: int = Field(default=100, ge=2)
    """Below this many users in either arm the decision is to hold."""

    @model_validator(mode="after")
    def _control_has_a_share(self) -> "MonitoringConfig":
        if self.arm_shares and self.control_arm not in self.arm_shares:
            raise ValueError(f"arm_shares names {sorted(self.arm_shares)} but not control_arm '{self.control_arm}'")
        return self
