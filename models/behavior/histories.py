"""Users' behaviours as arrays: distinct items in time order, newest last, right-aligned.

Shape letters: U rows (users or training sequences), T columns (behaviours, oldest first).
"""

from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import polars as pl

from contracts.tables import EVENT_TYPES
from models.behavior.catalogue import Catalogue, FloatArray, IntArray

EMPTY = -1
"""Stands in an `items` array where there is no behaviour."""


class Sequences(NamedTuple):
    """Behaviour sequences, aligned to the right."""

    items: IntArray
    """Catalogue index or `EMPTY`, [U, T]."""
    event_types: IntArray
    """1 + position in `EVENT_TYPES` of the strongest event with the item, 0 where empty, [U, T]."""
    ages_s: FloatArray
    """Seconds from the behaviour to the sequence's reference time, [U, T]."""

    def rows(self, index: IntArray | slice) -> "Sequences":
        """The sequences at `index`, cut to the longest of them (at least one column)."""
        items = self.items[index]
        width = max(1, int(np.count_nonzero(items != EMPTY, axis=1).max(initial=0)))
        first = items.shape[1] - width
        return Sequences(items[:, first:], self.event_types[index][:, first:], self.ages_s[index][:, first:])

    @property
    def lengths(self) -> IntArray:
        """Behaviours per sequence, [U]."""
        return np.asarray(np.count_nonzero(self.items != EMPTY, axis=1), dtype=np.int64)


def distinct_behaviors(events: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """One row per user and item: first time, strongest event type. Columns: user_id, item, event_type, time_us.

    A later cart or order of an item that was clicked is the same behaviour, so that predicting it is no feat.

    Args:
        events: behaviours (EVENTS columns, no impressions) before the moment of interest.
        catalogue: the items; behaviours on others are left out.
    """
    strength = pl.col("event_type").replace_strict(EVENT_TYPES, range(1, len(EVENT_TYPES) + 1), return_dtype=pl.Int64)
    return (
        catalogue.index(events)
        .group_by("user_id", "item")
        .agg(strength.max(), pl.col("timestamp").min().dt.epoch("us").alias("time_us"))
        .sort("user_id", "time_us", "item")
    )


def latest(behaviors: pl.DataFrame, as_of: datetime, days: float) -> pl.DataFrame:
    """The behaviours (from `distinct_behaviors`) of the last `days` before `as_of`; all given ones are before it."""
    return behaviors.filter(pl.col("time_us") >= pl.lit(as_of - timedelta(days=days)).dt.epoch("us"))


def training_sequences(behaviors: pl.DataFrame, max_length: int) -> Sequences:
    """Cuts each user's behaviours into sequences of at most `max_length`; ages count from each one's last behaviour."""
    newest_first = pl.int_range(pl.len(), 0, -1).over("user_id") - 1
    pieces = behaviors.with_columns(piece=newest_first // max_length)
    rows = pieces.with_columns(row=pl.struct("user_id", "piece").rank("dense").cast(pl.Int64) - 1)
    aged = rows.with_columns(age_s=(pl.col("time_us").max().over("row") - pl.col("time_us")) / 1e6)
    return pack(aged, rows["row"].n_unique(), max_length)


def user_histories(behaviors: pl.DataFrame, users: pl.Series, as_of: datetime, max_length: int) -> Sequences:
    """The latest `max_length` behaviours of each of `users`, one row each in that order; ages count from `as_of`."""
    rows = pl.DataFrame({"user_id": users}).with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    latest = behaviors.join(rows, on="user_id", how="inner").sort("row", "time_us", "item")
    as_of_us = pl.lit(as_of).dt.epoch("us")
    return pack(latest.with_columns(age_s=(as_of_us - pl.col("time_us")) / 1e6), len(users), max_length)


def pack(frame: pl.DataFrame, num_rows: int, max_length: int) -> Sequences:
    """Lays out the latest `max_length` behaviours per `row` (columns: row, item, event_type, age_s; oldest first)."""
    from_end = pl.int_range(pl.len(), 0, -1).over("row") - 1
    kept = frame.with_columns(from_end=from_end).filter(pl.col("from_end") < max_length)
    row, column = kept["row"].to_numpy(), max_length - 1 - kept["from_end"].to_numpy()
    items = np.full((num_rows, max_length), EMPTY, dtype=np.int64)
    event_types = np.zeros((num_rows, max_length), dtype=np.int64)
    ages_s = np.zeros((num_rows, max_length), dtype=np.float32)
    items[row, column] = kept["item"].to_numpy()
    event_types[row, column] = kept["event_type"].to_numpy()
    ages_s[row, column] = kept["age_s"].to_numpy()
    return Sequences(items, event_types, ages_s)
