"""Behaviour histories: the latest N behaviours of a user, as of each of his behaviours."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]

from contracts.tables import USER_BEHAVIORS


def iter_histories(behaviors: pl.DataFrame, *, history_length: int, batch_rows: int) -> Iterator[pl.DataFrame]:
    """Yields USER_BEHAVIORS rows: one per user and moment at which he did something, that moment included.

    Args:
        behaviors: EVENTS rows without impressions, in any order.
        history_length: behaviours kept, newest first.
        batch_rows: rows per yielded frame (bounds the memory: rows x history_length values).
    """
    log = behaviors.select("user_id", "timestamp", "item_id", "event_type").sort(
        "user_id", "timestamp", "item_id", "event_type"
    )
    is_last_of_moment = log.select(
        (pl.struct("user_id", "timestamp") != pl.struct("user_id", "timestamp").shift(-1)).fill_null(True)
    ).to_series()
    ends = is_last_of_moment.arg_true().to_numpy().astype(np.int64)
    starts = _user_starts(log)[ends]
    for first in range(0, len(ends), batch_rows):
        batch = slice(first, first + batch_rows)
        yield _histories(log, starts[batch], ends[batch], history_length)


def _user_starts(log: pl.DataFrame) -> npt.NDArray[np.int64]:
    """Row at which each row's user begins."""
    rows = log.select("user_id").with_row_index("row")
    return rows.select(pl.col("row").min().over("user_id").cast(pl.Int64)).to_series().to_numpy()


def _histories(
    log: pl.DataFrame, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], history_length: int
) -> pl.DataFrame:
    lengths = np.minimum(ends - starts + 1, history_length)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    back = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    rows = np.repeat(ends, lengths) - back
    seconds = log["timestamp"].to_physical().to_numpy() // 1_000_000
    ages = np.repeat(seconds[ends], lengths) - seconds[rows]
    frame = log[ends].select("user_id", pl.col("timestamp").alias("event_timestamp"))
    return USER_BEHAVIORS.check(
        frame.with_columns(
            history_item_ids=_lists(offsets, log["item_id"].gather(rows)),
            history_event_types=_lists(offsets, log["event_type"].gather(rows)),
            history_ages_s=_lists(offsets, pl.Series(ages, dtype=pl.Int64)),
        )
    )


def _lists(offsets: npt.NDArray[np.int64], values: pl.Series) -> pl.Series:
    listed = pl.from_arrow(pa.LargeListArray.from_arrays(pa.array(offsets), values.to_arrow()))
    assert isinstance(listed, pl.Series)
    return listed
