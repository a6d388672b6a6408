"""Configuration of drift and lift reports and of the decision taken from them."""

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from contracts.bots import BotRuleConfig
from contracts.config import Config

LiftMetric = Literal["ipv_per_user", "ctr", "orders_per_user", "conversion", "gmv_per_user"]
"""IPV: item page views, the clicks that open one (the paper's first metric). Conversion: who ordered."""
METRIC_TITLES: Final[dict[str, str]] = {
    "ipv_per_user": "Item page views per user",
    "ctr": "Click-through rate",
    "orders_per_user": "Orders per user",
    "conversion": "Users who ordered",
    "gmv_per_user": "GMV per user",
}
"""Metric -> its name on reports and dashboards."""
UserReading = Literal["robust", "without_bots", "raw"]
"""Which users count, and for how much: without bots and capped, without bots, or as they are logged."""
Share = Annotated[float, Field(gt=0, lt=1)]

SAMPLING_SEED: Final = 0
"""Of samples and of the domain classifier: a report that is made again comes out the same."""


class MonitoringConfig(Config):
    """What is compared, and what counts as different."""

    traffic_label: str = "simulated traffic"
    """Where the traffic came from; printed on every report."""
    max_rows: int = Field(default=50_000, ge=1000, le=1_000_000)
    """Rows of either window a drift report looks at; larger windows are sampled."""
    min_requests: int = Field(default=100, ge=2)
    """Requests either window must hold for a drift report."""
    reference_days: float = Field(default=7.0, gt=0, le=90)
    """What a ranker showed in so many first days is the reference of its drift; whole weeks are best."""
    window_days: float = Field(default=7.0, gt=0, le=90)
    """The last so many days are compared with it."""
    num_aa_windows: int = Field(default=300, ge=100, le=5000)
    """Pairs of windows drawn from the reference by user; what they differ by is luck, and no drift."""
    false_alarm_rate: float = Field(default=0.005, gt=0, lt=0.5)
    """Share of undisturbed windows that may be called drifted, over all columns and slices together."""
    smallest_drift: float = Field(default=0.1, gt=0)
    """Smaller changes do not matter: reference deviations of a number, share of rows in other categories."""
    min_slice_users: int = Field(default=50, ge=2)
    """A slice (category, scene, arm, new users) of fewer users is not compared by itself."""
    max_features_age_days: float = Field(default=30.0, gt=0)
    """Features or a catalogue to which nothing was added for so long are reported as stale."""
    control_arm: str = Field(default="control", min_length=1)
    """The arm the others are compared with."""
    arm_shares: dict[str, Annotated[float, Field(gt=0)]] = Field(default={})
    """Intended share of users by arm, for the sample-ratio check. Empty: in the pipeline the shares that
    serving draws by (`serving.shares`); for tables of your own, equal shares of the arms seen."""
    max_users_in_several_arms: Share = 0.02
    """From this share of users who saw several arms on, the split is broken: the decision is to hold."""
    bots: BotRuleConfig = BotRuleConfig()
    """Who is no shopper. Bots are found and told, and left out of what decides."""
    max_bots: Share = 0.05
    """From this share of bots among the users on, the rule or the log is wrong: the decision is to hold."""
    winsorize_quantile: Annotated[float, Field(ge=0.5, lt=1)] = 0.99
    """One user counts for no more than this quantile of the users who clicked, ordered or bought."""
    deciding_users: UserReading = "robust"
    """`robust`: without bots, each user capped. `without_bots` and `raw` decide by what is not capped."""
    confidence: Share = 0.95
    """Level of all confidence intervals."""
    decide_by: Literal["sequential", "fixed_horizon"] = "sequential"
    """`sequential` intervals hold however often one looks; `fixed_horizon` ones are narrower, and hold for
    one look at a day that was named beforehand."""
    primary_metric: LiftMetric = "ctr"
    """The metric that decides; the others are guardrails."""
    guardrail_margin: Share = 0.1
    """Relative loss in a guardrail that must be ruled out before a promotion."""
    min_users_per_arm: int = Field(default=100, ge=2)
    """Below this many users in either arm the decision is to hold."""
    min_hours: int = Field(default=24, ge=0)
    """Nothing is promoted or rolled back on fewer hours of traffic."""
    largest_detectable_lift: float = Field(default=0.5, gt=0)
    """A promotion needs a test that could have seen a lift of this size in the primary metric."""
    max_share_without_model: Share = 0.1
    """With more answers than this that its ranker did not give, an arm's lift says nothing of the ranker."""

    @model_validator(mode="after")
    def _require_share_of_control(self) -> "MonitoringConfig":
        if self.arm_shares and self.control_arm not in self.arm_shares:
            arms = sorted(self.arm_shares)
            raise ValueError(f"arm_shares names {arms} but not control_arm '{self.control_arm}'")
        return self
