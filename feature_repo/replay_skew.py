"""Training-serving skew of histories: a log is told to the online store event by event, and compared.

At each ranking list the store must hold what the offline join gave the list. The difference is to be 0.
"""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from feature_repo.config import FeatureStoreConfig
from feature_repo.feast_store import open_store, write_store_file
from feature_repo.feature_views import (
    BASE_SERVICE,
    ITEM,
    USER,
    define_base_services,
    define_feature_views,
)
from feature_repo.online.feature_reader import FeatureReader, UserFeatures
from feature_repo.online.history_writer import Behavior, write_behaviors

_SPACE = "replay"


class HistorySkew(NamedTuple):
    """How far online histories lie from offline ones."""

    num_lists: int
    """Lists that were compared."""
    num_different: int
    """Lists whose items, event types or ages differ at all."""
    max_difference: float
    """Largest difference at any place of a history: seconds of age, or infinite where item or type differ."""


def measure_history_skew(
    training_rows: pl.DataFrame, behaviors: pl.DataFrame, *, store: Path, history_length: int
) -> HistorySkew:
    """Replays a log through the history writer, and reads each list's history as the gateway would.

    Args:
        training_rows: rows of contract TRAINING_SET; some users' lists suffice.
        behaviors: EVENTS rows without impressions: all that these users did and the store does not hold yet.
        store: a feature store. `create_empty_store` makes one; a materialized one does as well.
        history_length: behaviors that are kept of a user.
    """
    columns = ("history_item_ids", "history_event_types", "history_ages_s", "history_as_of")
    lists = training_rows.select("user_id", "timestamp", *columns).unique(("user_id", "timestamp"))
    differences = asyncio.run(_replay_log(lists, behaviors, store, history_length))
    return HistorySkew(
        len(differences), sum(difference > 0 for difference in differences), max(differences, default=0.0)
    )


def create_empty_store(store: Path, config: FeatureStoreConfig) -> None:
    """Registers the views in a store that holds nothing."""
    write_store_file(store, config)
    ttl = timedelta(days=config.ttl_days or 0)
    views = define_feature_views(store.resolve() / "no_tables", space=_SPACE, ttl=ttl)
    open_store(store).apply([USER, ITEM, *views, *define_base_services(views)])


async def _replay_log(
    lists: pl.DataFrame, behaviors: pl.DataFrame, store: Path, history_length: int
) -> list[float]:
    writable_store = open_store(store, overwrite_newer=True)
    reader = FeatureReader(store, cached_items=1)
    differences = []
    try:
        for round_lists, round_behaviors in _iter_rounds(lists, behaviors):
            if round_behaviors:
                write_behaviors(writable_store, round_behaviors, history_length=history_length)
            for row in round_lists.iter_rows(named=True):
                online_user = await reader.read_user(row["user_id"], service=BASE_SERVICE)
                differences.append(_compare_history(online_user, row))
    finally:
        await reader.close()
    return differences


def _iter_rounds(
    lists: pl.DataFrame, behaviors: pl.DataFrame
) -> Iterator[tuple[pl.DataFrame, list[Behavior]]]:
    """Yields one list of each user and what they did since their former list: users do not mix, so a round
    serves them all at once."""
    numbered_lists = lists.sort("user_id", "timestamp").with_columns(
        round=pl.int_range(pl.len()).over("user_id")
    )
    # The first list strictly after a behavior is the first that may know it.
    told_behaviors = (
        behaviors.select("user_id", "item_id", "event_type", "timestamp")
        .with_columns(known_from=pl.col("timestamp") + pl.duration(microseconds=1))
        .sort("known_from")
        .join_asof(
            numbered_lists.select("user_id", "round", known_from="timestamp").sort("known_from"),
            on="known_from",
            by="user_id",
            strategy="forward",
            check_sortedness=False,
        )
    )
    behaviors_by_round = told_behaviors.drop_nulls("round").partition_by("round", as_dict=True)
    for (number,), round_lists in sorted(numbered_lists.partition_by("round", as_dict=True).items()):
        round_behaviors = behaviors_by_round.get((number,), told_behaviors.clear())
        told_rows = round_behaviors.select("user_id", "item_id", "event_type", "timestamp").iter_rows()
        yield round_lists, [Behavior(*row) for row in told_rows]


def _compare_history(online_user: UserFeatures, row: dict[str, Any]) -> float:
    offline_user = UserFeatures(
        history_item_ids=row["history_item_ids"] or [],
        history_event_types=row["history_event_types"] or [],
        history_ages_s=row["history_ages_s"] or [],
        history_as_of=row["history_as_of"],
    )
    offline_behaviors = (offline_user.history_item_ids, offline_user.history_event_types)
    if (online_user.history_item_ids, online_user.history_event_types) != offline_behaviors:
        return float("inf")
    ages = zip(online_user.ages_at(row["timestamp"]), offline_user.ages_at(row["timestamp"]), strict=True)
    return max((abs(online_age - offline_age) for online_age, offline_age in ages), default=0.0)
