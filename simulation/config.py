"""Configuration of the embedded shop and of its traffic."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AwareDatetime, Field, model_validator

from contracts.config import Config

UnitShare = Annotated[float, Field(ge=0, le=1)]
PositiveCount = Annotated[int, Field(ge=1)]


class SimulationConfig(Config):
    """How large the embedded shop is and how its users behave."""

    seed: int = Field(default=7, ge=0)
    """Everything is drawn from this seed: the same config gives the same shop, byte for byte."""
    num_items: PositiveCount = 3000
    """Items in the catalogue."""
    num_users: PositiveCount = 2000
    """Users who ever come."""
    num_days: int = Field(default=60, ge=2, le=3650)
    """Length of the log, in days."""
    start: AwareDatetime = datetime(2025, 3, 1, tzinfo=UTC)
    """First moment of the log; the month decides which seasonal needs are common."""
    requests_per_user_day: float = Field(default=0.2, gt=0, le=50)
    """Mean number of recommendation pages a user opens a day; single users vary widely around it."""
    page_size: int = Field(default=10, ge=1, le=200)
    """Items a page shows: impressions a request."""
    new_item_share: UnitShare = 0.15
    """Share of the items that appear during the log."""
    coarse_category_share: UnitShare = 0.7
    """Share of the items that are filed under an aisle or a department only, as sellers do in real shops."""
    new_user_share: UnitShare = 0.2
    """Share of the users that come for the first time during the log."""
    exploration: UnitShare = 0.25
    """Share of shown items drawn at random; the rest is by popularity and by category or recent interest."""
    needs_per_user: float = Field(default=2.8, ge=0, le=20)
    """Mean number of life situations that begin around or during the log, a user."""
    elsewhere_factor: float = Field(default=1.0, ge=0, le=4)
    """Factor on the share of life that happens in other shops, unseen: 0 = all of it is in the log. What is
    bought elsewhere is wanted less here, and calls for other things here."""
    reserve_days: int = Field(default=60, ge=0, le=3650)
    """Days after the log for which new items, users and needs are drawn in reserve: so long can the shop
    live on (`simulation.living_shop`). The log does not depend on it."""


class TrafficConfig(Config):
    """Simulated visitors after the end of the log."""

    seed: int = Field(default=11, ge=0)
    """Seed of visits, candidates and reactions."""
    num_requests: PositiveCount = 6000
    """Ranking requests to send."""
    num_candidates: int = Field(default=50, ge=2, le=1000)
    """Candidates a request; fewer when the catalogue is smaller."""
    num_days: float = Field(default=14.0, gt=0, le=365)
    """The visits are spread over this many days after the log's end."""
    policy_share: UnitShare = 0.75
    """Share of candidates from the shop's own retrieval (popularity, recent interest); the rest is random."""

    @model_validator(mode="after")
    def _check_request_rate(self) -> "TrafficConfig":
        if self.num_requests > self.num_days * 86_400 * 1000:
            raise ValueError(
                "num_requests is above one per millisecond of num_days; lower it or raise num_days"
            )
        return self


class LivingShopConfig(Config):
    """How a written shop lives on after its log."""

    seed: int = Field(default=13, ge=0)
    """Seed of visits, candidates and luck: they are the same whatever ranker answers."""
    num_candidates: int = Field(default=50, ge=2, le=1000)
    """Candidates a request; fewer when the catalogue is smaller."""
    policy_share: UnitShare = 0.75
    """Share of candidates from the shop's own retrieval (popularity, recent interest); the rest is random."""
    late_order_share: UnitShare = 0.2
    """Share of the orders that come one to three days after their click."""
    return_share: UnitShare = 0.05
    """Share of the orders that are sent back, two to fourteen days later."""
    bot_user_share: UnitShare = 0.0
    """Share of the users that are programs: they open many pages, click nearly everything and buy nothing."""
