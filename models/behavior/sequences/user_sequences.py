"""Users' behaviors as arrays: distinct items in time order, newest last, right-aligned.

Rows N are users or training sequences, columns T their behaviors, oldest first.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import polars as pl

from contracts.array_types import FloatArray, IntArray
from contracts.tables import EVENT_TYPES
from models.behavior.sequences.behavior_catalogue import BehaviorCatalogue

NO_ITEM = -1
"""Stands in an `items` array where there is no behavior."""


class BehaviorSequences(NamedTuple):
    """Behavior sequences, aligned to the right."""

    items: IntArray
    """Item number or `NO_ITEM`, [N, T]."""
    event_types: IntArray
    """1 + position in `EVENT_TYPES` of the strongest event with the item, 0 where empty, [N, T]."""
    ages_s: FloatArray
    """Seconds from the behavior to the sequence's reference time, [N, T]."""

    def rows(self, row_numbers: IntArray | slice) -> "BehaviorSequences":
        """Takes some sequences, cut to the longest of them (at least one column)."""
        items = self.items[row_numbers]
        width = max(1, int(np.count_nonzero(items != NO_ITEM, axis=1).max(initial=0)))
        first_column = items.shape[1] - width
        return BehaviorSequences(
            items[:, first_column:],
            self.event_types[row_numbers][:, first_column:],
            self.ages_s[row_numbers][:, first_column:],
        )

    @property
    def lengths(self) -> IntArray:
        """Behaviors per sequence, [N]."""
        return np.asarray(np.count_nonzero(self.items != NO_ITEM, axis=1), dtype=np.int64)


def find_distinct_behaviors(events: pl.DataFrame, catalogue: BehaviorCatalogue) -> pl.DataFrame:
    """Makes one row per user and item, with its strongest `event_type` and its first `time_us`.

    A later cart or order of an item that was clicked is the same behavior, so that predicting it is no feat.

    Args:
        events: behaviors (EVENTS columns, no impressions) before the moment of interest.
        catalogue: the items; behaviors on others are left out.
    """
    strength = pl.col("event_type").replace_strict(
        EVENT_TYPES, range(1, len(EVENT_TYPES) + 1), return_dtype=pl.Int64
    )
    return (
        catalogue.add_item_numbers(events)
        .group_by("user_id", "item")
        .agg(strength.max(), pl.col("timestamp").min().dt.epoch("us").alias("time_us"))
        .sort("user_id", "time_us", "item")
    )


def select_recent_behaviors(behaviors: pl.DataFrame, as_of: datetime, days: float) -> pl.DataFrame:
    """Selects distinct behaviors of the last `days` before `as_of`. All given ones must be before it."""
    return behaviors.filter(pl.col("time_us") >= pl.lit(as_of - timedelta(days=days)).dt.epoch("us"))


def cut_training_sequences(behaviors: pl.DataFrame, max_length: int) -> BehaviorSequences:
    """Cuts users' behaviors into sequences. Ages count from each sequence's last behavior."""
    newest_first = pl.int_range(pl.len(), 0, -1).over("user_id") - 1
    pieces = behaviors.with_columns(piece=newest_first // max_length)
    numbered = pieces.with_columns(row=pl.struct("user_id", "piece").rank("dense").cast(pl.Int64) - 1)
    aged_behaviors = numbered.with_columns(
        age_s=(pl.col("time_us").max().over("row") - pl.col("time_us")) / 1e6
    )
    return pack_sequences(aged_behaviors, numbered["row"].n_unique(), max_length)


def collect_user_histories(
    behaviors: pl.DataFrame, users: pl.Series, as_of: datetime, max_length: int
) -> BehaviorSequences:
    """Collects the latest `max_length` behaviors of each user, one row each. Ages count from `as_of`."""
    user_rows = (
        pl.DataFrame({"user_id": users}).with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    )
    user_behaviors = behaviors.join(user_rows, on="user_id", how="inner").sort("row", "time_us", "item")
    as_of_us = pl.lit(as_of).dt.epoch("us")
    aged_behaviors = user_behaviors.with_columns(age_s=(as_of_us - pl.col("time_us")) / 1e6)
    return pack_sequences(aged_behaviors, len(users), max_length)


def pack_sequences(behaviors: pl.DataFrame, num_rows: int, max_length: int) -> BehaviorSequences:
    """Lays out the latest `max_length` behaviors per row.

    Args:
        behaviors: columns row, item, event_type, age_s; oldest first.
        num_rows: rows of the arrays.
        max_length: columns of the arrays.
    """
    from_end = pl.int_range(pl.len(), 0, -1).over("row") - 1
    latest = behaviors.with_columns(from_end=from_end).filter(pl.col("from_end") < max_length)
    places = latest["row"].to_numpy(), max_length - 1 - latest["from_end"].to_numpy()
    items = np.full((num_rows, max_length), NO_ITEM, dtype=np.int64)
    event_types = np.zeros((num_rows, max_length), dtype=np.int64)
    ages_s = np.zeros((num_rows, max_length), dtype=np.float32)
    items[places] = latest["item"].to_numpy()
    event_types[places] = latest["event_type"].to_numpy()
    ages_s[places] = latest["age_s"].to_numpy()
    return BehaviorSequences(items, event_types, ages_s)
