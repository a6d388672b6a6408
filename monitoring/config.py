"""Configuration of drift and lift reports and of the decision taken from them."""

from collections import Counter
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import Field, model_validator

from contracts.config import Config
from contracts.events.bots import BotRuleConfig

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
MetricRole = Literal["deciding", "guardrail", "watched"]
CountedEvent = Literal["click", "cart", "order", "return"]
Share = Annotated[float, Field(gt=0, lt=1)]

SAMPLING_SEED: Final = 0
"""Of samples and of the domain classifier: a report that is made again comes out the same."""


class MetricConfig(Config):
    """A metric of your own: what users did after they first saw a page of the experiment, per something."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")
    """Its name in reports and decisions."""
    title: str = Field(min_length=1, max_length=80)
    """Its name on dashboards."""
    event: CountedEvent
    """What is counted. A `return` is an order of which something came back; an order is one that was kept."""
    measure: Literal["count", "price"] = "count"
    """How often it happened, or the sum of price x units."""
    min_price: float | None = Field(default=None, ge=0)
    """Only events at this price or above it; one without a price is left out."""
    max_price: float | None = Field(default=None, gt=0)
    """Only events below this price; one without a price is left out."""
    per: Literal["users", "exposures", "click", "cart", "order"] = "users"
    """What it is divided by; the price filter does not touch it."""
    better: Literal["higher", "lower"] = "higher"
    """Which way is good."""
    role: MetricRole = "watched"
    """`deciding` makes it the primary metric. A `guardrail` must not get worse by `guardrail_margin`. What is
    `watched` is told and decides nothing."""

    @model_validator(mode="after")
    def _require_sound_metric(self) -> Self:
        if self.name in get_args(LiftMetric):
            raise ValueError(f"'{self.name}' is a metric of every report; choose another name")
        if self.min_price is not None and self.max_price is not None and self.min_price >= self.max_price:
            raise ValueError(f"no price lies from {self.min_price:g} up to {self.max_price:g}")
        return self


class RetrainingConfig(Config):
    """How often drift may start a training. Trainings that people start do not count."""

    cool_down_days: float = Field(default=7.0, ge=0)
    """After one was started, the next waits so long: a new ranker needs first days to be compared with."""
    max_runs: int = Field(default=4, ge=0)
    """So many in `budget_days`; 0 starts none."""
    budget_days: float = Field(default=28.0, gt=0)
    """Over how many days they are counted."""


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
    primary_metric: str = "ctr"
    """The metric that decides: `ipv_per_user`, `ctr`, `orders_per_user`, `conversion`, `gmv_per_user`, or one
    of `metrics`. CTR, orders and GMV are guardrails beside it."""
    metrics: tuple[MetricConfig, ...] = ()
    """Metrics of your own, beside those of every report."""
    cuped: Literal["off", "beside", "decides"] = "beside"
    """What users did before the experiment, taken into account. `beside` reports it and lets the plain
    estimate decide; `decides` lets it decide where 100 users of each arm have a history."""
    history_days: float = Field(default=28.0, gt=0, le=365)
    """So many days before the experiment are a user's history, and tell which items were cold."""
    cold_impressions: int = Field(default=10, ge=1)
    """An item that was seen less often in these days is cold."""
    guardrail_margin: Share = 0.1
    """Relative loss in a guardrail that must be ruled out before a promotion."""
    min_users_per_arm: int = Field(default=100, ge=2)
    """Below this many users in either arm the decision is to hold."""
    min_hours: int = Field(default=24, ge=0)
    """Nothing is promoted or rolled back on fewer hours of traffic."""
    largest_detectable_lift: float = Field(default=0.5, gt=0)
    """A promotion needs a test that could have seen a lift of this size in the primary metric."""
    retraining: RetrainingConfig = RetrainingConfig()
    """Cool-down and budget of trainings that drift starts (`--act`)."""
    max_share_without_model: Share = 0.1
    """With more answers than this that its ranker did not give, an arm's lift says nothing of the ranker."""

    @model_validator(mode="before")
    @classmethod
    def _take_deciding_metric(cls, values: object) -> object:
        """A metric whose role is to decide is the primary one."""
        if not isinstance(values, dict):
            return values
        metrics = values.get("metrics") or ()
        names = [
            metric.get("name") if isinstance(metric, dict) else getattr(metric, "name", None)
            for metric in (metrics if isinstance(metrics, list | tuple) else ())
            if (metric.get("role") if isinstance(metric, dict) else getattr(metric, "role", None))
            == "deciding"
        ]
        return (
            values | {"primary_metric": names[0]}
            if len(names) == 1 and "primary_metric" not in values
            else values
        )

    @model_validator(mode="after")
    def _require_known_metrics(self) -> Self:
        names = [metric.name for metric in self.metrics]
        if repeated := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"metrics names '{repeated[0]}' twice")
        allowed = [*get_args(LiftMetric), *names]
        if self.primary_metric not in allowed:
            raise ValueError(f"primary_metric '{self.primary_metric}' is none of {', '.join(allowed)}")
        deciding = [metric.name for metric in self.metrics if metric.role == "deciding"]
        if deciding and deciding != [self.primary_metric]:
            raise ValueError(
                f"one metric decides: {', '.join(deciding)} by their role, but primary_metric is "
                f"'{self.primary_metric}'; leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _require_share_of_control(self) -> Self:
        if self.arm_shares and self.control_arm not in self.arm_shares:
            arms = sorted(self.arm_shares)
            raise ValueError(f"arm_shares names {arms} but not control_arm '{self.control_arm}'")
        return self

    @property
    def titles(self) -> dict[str, str]:
        """Metric -> its name on reports and dashboards."""
        return METRIC_TITLES | {metric.name: metric.title for metric in self.metrics}

    @property
    def falling_metrics(self) -> frozenset[str]:
        """Metrics of which less is better."""
        return frozenset(metric.name for metric in self.metrics if metric.better == "lower")
