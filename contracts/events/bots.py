"""Who in a log is no shopper: crawlers, test accounts, scripts that click."""

from typing import Final

import polars as pl
from pydantic import Field

from contracts.config import Config

_EVENT_TYPE: Final = pl.col("event_type")
MIN_USERS: Final = 100
MIN_BEHAVIORS: Final = 1000
"""Of fewer, a share of the history says nothing."""


class BotRuleConfig(Config):
    """Who is no shopper. All that a bot did on such a day goes to quarantine; null switches a rule off."""

    max_requests: int | None = Field(default=1000, ge=1)
    """Pages that one user may open a day."""
    max_clicks: int | None = Field(default=1000, ge=1)
    """Clicks of one user a day."""
    max_click_share: float | None = Field(default=0.6, gt=0, le=1)
    """Share of the shown items that one user may click, where enough were shown."""
    max_share: float | None = Field(default=0.05, gt=0, le=1)
    """Share of all behaviors, or of all impressions, of a history that one user may hold, where there are
    enough of them."""
    min_impressions: int = Field(default=20, ge=1)
    """From so many shown items a day on the share of clicks says something."""


def find_bots(events: pl.DataFrame, rule: BotRuleConfig) -> pl.Series:
    """Users who did more on one day than a shopper does."""
    # Whoever did less is none, whatever it was: counting that alone is quick.
    limits = (rule.max_requests, rule.max_clicks, rule.min_impressions if rule.max_click_share else None)
    least = min((limit for limit in limits if limit is not None), default=0)
    dated = events.select("user_id", "event_type", "request_id", "item_id", day=pl.col("timestamp").dt.date())
    busy = dated.group_by("user_id", "day").len().filter(pl.col("len") >= least)
    user_days = (
        dated.join(busy, on=["user_id", "day"], how="semi")
        .group_by("user_id", "day")
        .agg(
            num_requests=pl.col("request_id").filter(_EVENT_TYPE == "impression").n_unique(),
            num_impressions=(_EVENT_TYPE == "impression").sum(),
            num_clicks=(_EVENT_TYPE == "click").sum(),
            # Who clicks one item five times has not clicked five items.
            num_clicked_items=pl.struct("request_id", "item_id").filter(_EVENT_TYPE == "click").n_unique(),
        )
    )
    return user_days.filter(pl.sql_expr(mark_bot_days(rule)))["user_id"].unique()


def mark_bot_days(rule: BotRuleConfig) -> str:
    """The rule as an SQL condition, so that Polars and DuckDB read the same one.

    Its columns are `num_requests`, `num_impressions`, `num_clicks` and `num_clicked_items` of a user's day.
    """
    conditions = ["false"]
    if rule.max_requests is not None:
        conditions.append(f"num_requests > {rule.max_requests}")
    if rule.max_clicks is not None:
        conditions.append(f"num_clicks > {rule.max_clicks}")
    if rule.max_click_share is not None:
        conditions.append(
            f"(num_impressions >= {rule.min_impressions}"
            f" AND num_clicked_items > num_impressions * {rule.max_click_share})"
        )
    return " OR ".join(conditions)
