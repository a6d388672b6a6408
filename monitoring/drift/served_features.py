"""The flat table of serving features and scores that drift reports compare.

A row is an item shown in a request. Everything of the user is joined as of strictly before the request, as
the ranker saw it. What only says where a change lies (user, arm, category, scene) may be missing.
"""

from typing import Final

import polars as pl

from contracts.table_schema import UTC_TIME, Column, Table
from monitoring.config import SAMPLING_SEED, MonitoringConfig

SERVING_FEATURES: Final = Table(
    "serving_features",
    ("request_id", "item_id"),
    (
        Column("request_id", pl.String(), "The ranking request."),
        Column("item_id", pl.String(), "The item shown."),
        Column("timestamp", UTC_TIME, "Time of the request."),
        Column("score", pl.Float64(), "Score the ranker gave it.", nullable=True),
        Column(
            "degraded",
            pl.Float64(),
            "1 when anything was missing at scoring that should have been there, else 0.",
            nullable=True,
        ),
        Column("price", pl.Float64(), "The item's price.", nullable=True),
        Column("item_age_s", pl.Float64(), "Time since the item became available, seconds.", nullable=True),
        Column("history_length", pl.Float64(), "Behaviors known of the user."),
        Column("newest_behavior_age_s", pl.Float64(), "Age of the latest of them, seconds.", nullable=True),
        Column("inferred_length", pl.Float64(), "Inferred behaviors known of the user."),
        Column("embedding", pl.List(pl.Float32()), "The item's knowledge embedding.", nullable=True),
        Column("user_id", pl.String(), "Who asked; without it each request is its own user.", nullable=True),
        Column("arm", pl.String(), "Experiment arm that answered.", nullable=True),
        Column("routed_version", pl.String(), "Ranker that the user was routed to.", nullable=True),
        Column("category", pl.String(), "The item's category, its first level.", nullable=True),
        Column("scene", pl.String(), "Where the page was shown.", nullable=True),
        Column(
            "degraded_causes",
            pl.List(pl.String()),
            "What was missing at scoring and should have been there.",
            nullable=True,
        ),
        Column(
            "features_age_s", pl.Float64(), "Time since the newest known behavior, seconds.", nullable=True
        ),
        Column("catalogue_age_s", pl.Float64(), "Time since the newest known item, seconds.", nullable=True),
        Column("click", pl.Boolean(), "Was it clicked? Null where that may still come.", nullable=True),
    ),
    "What the ranker saw and said, one row per request and item.",
)

REQUEST_COLUMNS: Final = ("history_length", "newest_behavior_age_s", "inferred_length")
"""The same in every row of a request."""
ITEM_COLUMNS: Final = ("score", "degraded", "price", "item_age_s")
"""Of each shown item."""
# The ranker's own score only: what stood in for it scores on another scale.
_OWN_SCORE: Final = pl.when(pl.col("model_version") == pl.col("routed_version")).then("score")
_MISSING_OF_NEW_USERS: Final = {"no_history": "history_length", "no_inferred": "inferred_length"}
"""Cause -> the length that is 0 where nothing was there to be missed: a new user is no degradation."""
_PASSED_ON: Final = ("arm", "routed_version", "scene")


def build_served_features(
    shown: pl.DataFrame,
    config: MonitoringConfig,
    *,
    items: pl.DataFrame,
    item_embeddings: pl.DataFrame,
    user_behaviors: pl.DataFrame,
    inferred_behaviors: pl.DataFrame,
    outcomes: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Builds SERVING_FEATURES of at most about `config.max_rows` rows, in whole requests.

    Args:
        shown: contract EXPOSURES, or the impressions of EVENTS (then without score and degraded).
        config: how many rows to keep.
        items: contract ITEMS.
        item_embeddings: contract ITEM_EMBEDDINGS.
        user_behaviors: contract USER_BEHAVIORS.
        inferred_behaviors: contract INFERRED_BEHAVIORS.
        outcomes: contract OUTCOMES of what was shown; without them no row has a click.
    """
    rows = (
        _sample_whole_requests(shown, config.max_rows)
        .sort("timestamp")
        .select(
            "request_id",
            "item_id",
            "user_id",
            "timestamp",
            *(name for name in _PASSED_ON if name in shown.columns),
            score=_OWN_SCORE if "score" in shown.columns else None,
            flags="degraded" if "degraded" in shown.columns else pl.lit(None, dtype=pl.List(pl.String)),
        )
    )
    rows = _join_latest_before(rows, _measure_histories(user_behaviors))
    rows = _join_latest_before(rows, _measure_inferred(inferred_behaviors))
    rows = _join_newest_moment(rows, user_behaviors["event_timestamp"], name="newest_behavior_at")
    rows = _join_newest_moment(rows, items["available_at"], name="newest_item_at")
    item_columns = items.select("item_id", "price", "available_at", category=_FIRST_LEVEL)
    rows = rows.join(item_columns, on="item_id", how="left")
    rows = rows.join(item_embeddings.select("item_id", "embedding"), on="item_id", how="left")
    if outcomes is not None:
        rows = _join_clicks(rows, outcomes)
    rows = rows.with_columns(
        item_age_s=_total_seconds(pl.col("timestamp") - pl.col("available_at")),
        newest_behavior_age_s=_total_seconds(pl.col("timestamp") - pl.col("newest_at")),
        features_age_s=_total_seconds(pl.col("timestamp") - pl.col("newest_behavior_at")),
        catalogue_age_s=_total_seconds(pl.col("timestamp") - pl.col("newest_item_at")),
        history_length=pl.col("history_length").fill_null(0),
        inferred_length=pl.col("inferred_length").fill_null(0),
    ).with_columns(degraded_causes=_list_degraded_causes())
    return SERVING_FEATURES.check_rows(
        rows.with_columns(degraded=(pl.col("degraded_causes").list.len() > 0).cast(pl.Float64))
    )


_FIRST_LEVEL: Final = pl.col("category").str.split(" > ").list.first()


def _list_degraded_causes() -> pl.Expr:
    """What was missing at scoring, without what a new user cannot have."""
    causes = pl.col("flags")
    for cause, length_column in _MISSING_OF_NEW_USERS.items():
        is_not_this = pl.element() != cause
        causes = (
            pl.when(pl.col(length_column) == 0).then(causes.list.eval(pl.element().filter(is_not_this)))
        ).otherwise(causes)
    return causes


def _join_clicks(rows: pl.DataFrame, outcomes: pl.DataFrame) -> pl.DataFrame:
    """Joins the clicks; what was shown so late that its click may still come has none.

    That takes as long as 95 of 100 clicks took.
    """
    keys = ["request_id", "item_id"]
    reactions = outcomes.select(*keys, "click", acted_at="timestamp").unique(keys, keep="first")
    joined = rows.join(reactions, on=keys, how="left", maintain_order="left")
    delay = (pl.col("acted_at") - pl.col("timestamp")).filter("click").quantile(0.95)
    is_settled = pl.col("timestamp") <= pl.col("timestamp").max() - delay.fill_null(pl.duration(seconds=0))
    return joined.with_columns(click=pl.when(is_settled).then(pl.col("click").fill_null(False))).drop(
        "acted_at"
    )


def _sample_whole_requests(shown: pl.DataFrame, max_rows: int) -> pl.DataFrame:
    if len(shown) <= max_rows:
        return shown
    requests = shown.select(pl.col("request_id").unique(maintain_order=True))
    sampled_requests = requests.sample(fraction=max_rows / len(shown), seed=SAMPLING_SEED)
    return shown.join(sampled_requests, on="request_id", how="semi")


def _join_latest_before(rows: pl.DataFrame, features: pl.DataFrame) -> pl.DataFrame:
    """Joins the latest features strictly before each row."""
    return rows.join_asof(
        features.sort("event_timestamp"),
        left_on="timestamp",
        right_on="event_timestamp",
        by="user_id",
        allow_exact_matches=False,
        coalesce=True,
        check_sortedness=False,  # both sides are sorted above; with `by`, polars cannot check
    ).drop("event_timestamp")


def _join_newest_moment(rows: pl.DataFrame, moments: pl.Series, *, name: str) -> pl.DataFrame:
    """Joins the newest of `moments` strictly before each row."""
    newest = pl.DataFrame({name: moments.drop_nulls().unique().sort()})
    return rows.join_asof(
        newest, left_on="timestamp", right_on=name, allow_exact_matches=False, coalesce=False
    )


def _measure_histories(user_behaviors: pl.DataFrame) -> pl.DataFrame:
    newest_age = pl.duration(seconds=pl.col("history_ages_s").list.first())
    return user_behaviors.select(
        "user_id",
        "event_timestamp",
        history_length=pl.col("history_item_ids").list.len(),
        newest_at=pl.col("event_timestamp") - newest_age,
    )


def _measure_inferred(inferred_behaviors: pl.DataFrame) -> pl.DataFrame:
    return inferred_behaviors.select(
        "user_id", "event_timestamp", inferred_length=pl.col("inferred_item_ids").list.len()
    )


def _total_seconds(duration: pl.Expr) -> pl.Expr:
    return duration.dt.total_seconds().cast(pl.Float64)
