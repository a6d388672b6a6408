"""Behavior histories: the latest N behaviors of a user, as of each of their behaviors."""

from collections.abc import Iterator

import numpy as np
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]

from contracts.array_types import IntArray
from contracts.tables import USER_BEHAVIORS


def iter_histories(
    behaviors: pl.DataFrame, *, history_length: int, batch_rows: int
) -> Iterator[pl.DataFrame]:
    """Yields USER_BEHAVIORS rows: one per user and moment at which they did something, that moment included.

    Args:
        behaviors: EVENTS rows without impressions, in any order.
        history_length: behaviors kept, newest first.
        batch_rows: rows per yielded frame (bounds the memory: rows x history_length values).
    """
    # The whole key, so that histories do not depend on the order in which the events came.
    sorted_log = behaviors.select("user_id", "timestamp", "item_id", "event_type").sort(
        "user_id", "timestamp", "item_id", "event_type"
    )
    is_moment_end = pl.struct("user_id", "timestamp").is_last_distinct()
    moment_ends = sorted_log.select(is_moment_end.arg_true()).to_series().to_numpy().astype(np.int64)
    user_starts = _find_user_starts(sorted_log)[moment_ends]
    for first_row in range(0, len(moment_ends), batch_rows):
        batch_slice = slice(first_row, first_row + batch_rows)
        yield _build_histories(sorted_log, user_starts[batch_slice], moment_ends[batch_slice], history_length)


def _find_user_starts(log: pl.DataFrame) -> IntArray:
    """Row at which each row's user begins."""
    numbered_rows = log.select("user_id").with_row_index("row")
    return numbered_rows.select(pl.col("row").min().over("user_id").cast(pl.Int64)).to_series().to_numpy()


def _build_histories(
    log: pl.DataFrame, starts: IntArray, ends: IntArray, history_length: int
) -> pl.DataFrame:
    # One gather for all histories of a batch: row i of history h is `ends[h] - i`.
    history_lengths = np.minimum(ends - starts + 1, history_length)
    offsets = np.concatenate([[0], np.cumsum(history_lengths)]).astype(np.int64)
    steps_back = np.arange(offsets[-1]) - np.repeat(offsets[:-1], history_lengths)
    behavior_rows = np.repeat(ends, history_lengths) - steps_back
    times_s, micros = np.divmod(log["timestamp"].to_physical().to_numpy(), 1_000_000)
    ages_s = np.repeat(times_s[ends], history_lengths) - times_s[behavior_rows]
    frame = log[ends].select("user_id", pl.col("timestamp").alias("event_timestamp"))
    return USER_BEHAVIORS.check_rows(
        frame.with_columns(
            history_item_ids=_build_list_column(offsets, log["item_id"].gather(behavior_rows)),
            history_event_types=_build_list_column(offsets, log["event_type"].gather(behavior_rows)),
            history_ages_s=_build_list_column(offsets, pl.Series(ages_s, dtype=pl.Int64)),
            history_micros=_build_list_column(offsets, pl.Series(micros[behavior_rows], dtype=pl.Int64)),
        )
    )


def _build_list_column(offsets: IntArray, values: pl.Series) -> pl.Series:
    list_column = pl.from_arrow(pa.LargeListArray.from_arrays(pa.array(offsets), values.to_arrow()))
    assert isinstance(list_column, pl.Series)
    return list_column
