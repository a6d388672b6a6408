"""The flat table of serving features and scores that drift reports compare.

A row is an item shown in a request. Everything of the user is joined as of strictly before the request, as the ranker
saw it.
"""

from typing import Final

import polars as pl

from contracts.schema import UTC_TIME, Column, Table
from monitoring.config import MonitoringConfig

SERVING_FEATURES: Final = Table(
    "serving_features",
    ("request_id", "item_id"),
    (
        Column("request_id", pl.String(), "The ranking request."),
        Column("item_id", pl.String(), "The item shown."),
        Column("timestamp", UTC_TIME, "Time of the request."),
        Column("score", pl.Float64(), "Score the ranker gave it.", nullable=True),
        Column("degraded", pl.Float64(), "1 when anything was missing at scoring, else 0.", nullable=True),
        Column("price", pl.Float64(), "The item's price.", nullable=True),
        Column("item_age_s", pl.Float64(), "Time since the item became available, seconds.", nullable=True),
        Column("history_length", pl.Float64(), "Behaviours known of the user."),
        Column("newest_behavior_age_s", pl.Float64(), "Age of the latest of them, seconds.", nullable=True),
        Column("inferred_length", pl.Float64(), "Inferred behaviours known of the user."),
        Column("embedding", pl.List(pl.Float32()), "The item's knowledge embedding.", nullable=True),
    ),
    "What the ranker saw and said, one row per request and item.",
)

REQUEST_COLUMNS: Final = ("history_length", "newest_behavior_age_s", "inferred_length")
"""The same in every row of a request."""
ITEM_COLUMNS: Final = ("score", "degraded", "price", "item_age_s")
"""Of each shown item."""
_SCORE: Final = pl.when(pl.col("model_version") == pl.col("routed_version")).then("score")
"""The ranker's own; what stood in for it scores on another scale."""


def feature_frame(
    shown: pl.DataFrame,
    config: MonitoringConfig,
    *,
    items: pl.DataFrame,
    item_embeddings: pl.DataFrame,
    user_behaviors: pl.DataFrame,
    inferred_behaviors: pl.DataFrame,
) -> pl.DataFrame:
    """Builds SERVING_FEATURES of at most about `config.max_rows` rows (whole requests, drawn by `config.seed`).

    Args:
        shown: contract EXPOSURES, or the impressions of EVENTS (then without score and degraded).
        config: how many rows to keep.
        items: contract ITEMS.
        item_embeddings: contract ITEM_EMBEDDINGS.
        user_behaviors: contract USER_BEHAVIORS.
        inferred_behaviors: contract INFERRED_BEHAVIORS.
    """
    rows = (
        _whole_requests(shown, config)
        .sort("timestamp")
        .select(
            "request_id",
            "item_id",
            "user_id",
            "timestamp",
            score=_SCORE if "score" in shown.columns else None,
            degraded=(pl.col("degraded").list.len() > 0).cast(pl.Float64) if "degraded" in shown.columns else None,
        )
    )
    rows = _as_of(rows, _history(user_behaviors))
    rows = _as_of(rows, _inferred(inferred_behaviors))
    rows = rows.join(items.select("item_id", "price", "available_at"), on="item_id", how="left")
    rows = rows.join(item_embeddings.select("item_id", "embedding"), on="item_id", how="left")
    return SERVING_FEATURES.check(
        rows.with_columns(
            item_age_s=_seconds(pl.col("timestamp") - pl.col("available_at")),
            newest_behavior_age_s=_seconds(pl.col("timestamp") - pl.col("newest_at")),
            history_length=pl.col("history_length").fill_null(0),
            inferred_length=pl.col("inferred_length").fill_null(0),
        )
    )


def _whole_requests(shown: pl.DataFrame, config: MonitoringConfig) -> pl.DataFrame:
    if len(shown) <= config.max_rows:
        return shown
    requests = shown.select(pl.col("request_id").unique(maintain_order=True))
    kept = requests.sample(fraction=config.max_rows / len(shown), seed=config.seed)
    return shown.join(kept, on="request_id", how="semi")


def _as_of(rows: pl.DataFrame, features: pl.DataFrame) -> pl.DataFrame:
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


def _history(user_behaviors: pl.DataFrame) -> pl.DataFrame:
    newest_age = pl.duration(seconds=pl.col("history_ages_s").list.first())
    return user_behaviors.select(
        "user_id",
        "event_timestamp",
        history_length=pl.col("history_item_ids").list.len(),
        newest_at=pl.col("event_timestamp") - newest_age,
    )


def _inferred(inferred_behaviors: pl.DataFrame) -> pl.DataFrame:
    return inferred_behaviors.select(
        "user_id", "event_timestamp", inferred_length=pl.col("inferred_item_ids").list.len()
    )


def _seconds(duration: pl.Expr) -> pl.Expr:
    return duration.dt.total_seconds().cast(pl.Float64)
