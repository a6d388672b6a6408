"""Training rows as integers: lists that point into the encoded catalogue.

Every string is turned into an integer once, batch by batch, and written to mapped files (`mapped_lists.py`).

Legend: N lists, H history, K inferred.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from contracts.array_types import BoolArray, HalfArray, Int32Array, IntArray
from contracts.half_vectors import VECTOR_DTYPE
from contracts.shards import assign_shards
from models.ranker.inputs.input_table import Array
from models.ranker.inputs.item_encoder import EVENT_TYPE_INDEX, FIRST, SCENE_INDEX, UNKNOWN
from models.ranker.lists.candidate_confidences import look_up_listed_confidences
from models.ranker.lists.general_search_unit import HistorySearch, search_history
from models.ranker.lists.item_statistics import ItemActivity
from models.ranker.lists.mapped_lists import ListWriter, RankingLists

TRAINING_SET_FILE = "training_set.parquet"
_CELLS_PER_BATCH = 400_000
_USUAL_INFERRED_LENGTH = 200
"""Inferred items of a stored list, of which K are kept: it bounds the rows read at once."""


def assign_user_folds(training_set: Path, *, split: str, protocol: str, num_folds: int) -> IntArray:
    """Fold of the user of each list [N] of one part and protocol; 0 where there are no folds."""
    lists_frame = pl.scan_parquet(training_set).filter(_is_of(split, protocol)).select("user_id").collect()
    distinct_users = lists_frame["user_id"].unique()
    folds = pl.DataFrame(
        {"user_id": distinct_users, "fold": assign_shards(distinct_users, max(num_folds, 1))}
    )
    list_folds = lists_frame.join(folds, on="user_id", how="left", maintain_order="left")["fold"]
    return list_folds.to_numpy().astype(np.int64)


def encode_lists(
    training_set: Path,
    item_id_enum: pl.Enum,
    *,
    split: str,
    protocol: str,
    lengths: tuple[int, int],
    scratch: Path,
    activity: ItemActivity | None = None,
    search: HistorySearch | None = None,
) -> RankingLists:
    """Encodes the lists of one part and protocol.

    Args:
        training_set: the TRAINING_SET table's file.
        item_id_enum: the catalogue's item ids (`ItemTable.item_id_enum`).
        split: part of the log.
        protocol: how the lists were made.
        lengths: H and K, the behaviors and inferred behaviors kept per list.
        scratch: folder for the mapped arrays; must live as long as the result.
        activity: what statistics are counted from; none: no statistics.
        search: how histories longer than H are searched; none: they are cut.
    """
    history_length, inferred_length = lengths
    # The whole of a long history is read first: the search chooses among it.
    read_length = max(history_length, search.length if search else 0)
    vector_length = _read_vector_length(training_set)
    writer = ListWriter(
        scratch,
        history=history_length,
        inferred=inferred_length,
        statistics=activity is not None,
        vector_length=vector_length,
    )
    batch_size = max(1, _CELLS_PER_BATCH // (read_length + _USUAL_INFERRED_LENGTH))
    for frame in _iterate_lists(training_set, split, protocol, batch_size):
        counts = frame["item_ids"].list.len().cast(pl.Int64).to_numpy()
        arrays = _encode_batch(frame, item_id_enum, counts, read_length, inferred_length)
        arrays["context_vectors"] = _parse_vectors(frame["context_vector"], vector_length)
        if search is not None:
            _search_histories(arrays, counts, search, frame["user_id"], keep=history_length)
        arrays["statistics"] = np.empty((len(arrays["candidates"]), 0), np.float32)
        if activity is not None:
            candidate_times_s = np.repeat(arrays["times_s"], counts)
            arrays["statistics"] = activity.measure_statistics(arrays["candidates"], candidate_times_s)
        writer.write_lists(arrays, counts)
    return writer.open_lists()


def _is_of(split: str, protocol: str) -> pl.Expr:
    return (pl.col("split") == split) & (pl.col("protocol") == protocol)


def _iterate_lists(training_set: Path, split: str, protocol: str, batch_size: int) -> Iterator[pl.DataFrame]:
    """The lists of a part and protocol in their order; in memory is a row group of the file."""
    # Without pre-buffering the file's pages leave memory as they are read.
    with pq.ParquetFile(training_set, pre_buffer=False) as parquet_file:
        for batch in parquet_file.iter_batches(batch_size, use_threads=False):
            frame = pl.from_arrow(batch)
            assert isinstance(frame, pl.DataFrame)
            if len(chosen_lists := frame.filter(_is_of(split, protocol))):
                yield chosen_lists


def _encode_batch(
    frame: pl.DataFrame, item_id_enum: pl.Enum, counts: IntArray, history_length: int, inferred_length: int
) -> dict[str, Array]:
    """The columns of `RankingLists`, all but the statistics."""
    encode_items = partial(_look_up_item_rows, item_id_enum=item_id_enum)
    # Ages were stored as of the newest behavior; the time until the list's own moment comes on top.
    since_newest = frame["timestamp"] - frame["history_as_of"]
    since_newest_s = since_newest.dt.total_seconds(fractional=True).fill_null(0).to_numpy()
    history, is_behavior = _pad_lists(frame["history_item_ids"], history_length, encode_items)
    history_types, _ = _pad_lists(frame["history_event_types"], history_length, _encode_event_types)
    stored_ages_s, _ = _pad_lists(
        frame["history_ages_s"], history_length, lambda ages: ages.cast(pl.Float32).to_numpy()
    )
    inferred, _ = _pad_lists(frame["inferred_item_ids"], inferred_length, encode_items)
    inferred_scores, _ = _pad_lists(frame["inferred_scores"], inferred_length, pl.Series.to_numpy)
    candidates = encode_items(_flatten_lists(frame["item_ids"]))
    confidences = look_up_listed_confidences(
        candidates, counts, encode_items(_flatten_lists(frame["inferred_item_ids"])), frame["inferred_scores"]
    )
    return {
        "candidates": candidates,
        "clicks": _flatten_lists(frame["clicks"]).to_numpy(),
        "orders": _flatten_lists(frame["orders"]).to_numpy(),
        "values": _flatten_lists(frame["values"]).to_numpy(),
        "history": history,
        "history_types": history_types,
        "history_ages_s": np.where(is_behavior, stored_ages_s + since_newest_s[:, None], 0).astype(
            np.float32
        ),
        "inferred": inferred,
        "inferred_scores": inferred_scores,
        # What the catalogue does not hold shares one row: it is nobody in particular.
        "confidences": np.where(candidates > UNKNOWN, confidences, np.float32(0)),
        "scenes": frame["scene"]
        .replace_strict(SCENE_INDEX, default=UNKNOWN, return_dtype=pl.Int8)
        .fill_null(UNKNOWN)
        .to_numpy(),
        "times_s": frame["timestamp"].cast(pl.Int64).to_numpy() // 1_000_000,
    }


def _read_vector_length(training_set: Path) -> int:
    """Numbers of a context vector; 0 where no list has one."""
    context_vectors = pl.scan_parquet(training_set).select(pl.col("context_vector").drop_nulls())
    first_vector = context_vectors.head(1).collect()
    return len(first_vector.item()) // VECTOR_DTYPE.itemsize if len(first_vector) else 0


def _parse_vectors(blobs: pl.Series, length: int) -> HalfArray:
    """Vectors [N, length] of raw half floats, zeros where there is none."""
    empty = bytes(length * VECTOR_DTYPE.itemsize)
    joined_bytes = b"".join(blob or empty for blob in blobs)
    return np.frombuffer(joined_bytes, VECTOR_DTYPE).reshape(len(blobs), length)


def _search_histories(
    arrays: dict[str, Array], counts: IntArray, search: HistorySearch, user_ids: pl.Series, *, keep: int
) -> None:
    """Leaves the `keep` behaviors of each list that its candidates ask for."""
    history = arrays["history"]
    history_lengths = np.count_nonzero(history, axis=1)
    kept_columns = np.tile(np.arange(keep), (len(history), 1))
    list_stops = np.cumsum(counts)
    num_folds = 1 if search.fold_vectors is None else len(search.fold_vectors)
    user_folds = assign_shards(user_ids, num_folds).to_numpy()
    # A product with a thousand vectors is worth its turn of the loop.
    for row in np.flatnonzero(history_lengths > keep):
        vectors = search.select_vectors(int(user_folds[row]))
        candidate_rows = arrays["candidates"][list_stops[row] - counts[row] : list_stops[row]]
        behavior_rows = history[row, : history_lengths[row]]
        kept_columns[row] = search_history(vectors[behavior_rows], vectors[candidate_rows], keep=keep)
    for column in ("history", "history_types", "history_ages_s"):
        arrays[column] = np.take_along_axis(arrays[column], kept_columns, axis=1)


def _look_up_item_rows(item_ids: pl.Series, item_id_enum: pl.Enum) -> Int32Array:
    item_rows = item_ids.cast(item_id_enum, strict=False).to_physical().cast(pl.Int32) + FIRST
    return item_rows.fill_null(UNKNOWN).to_numpy()


def _encode_event_types(event_types: pl.Series) -> npt.NDArray[np.int8]:
    return event_types.replace_strict(EVENT_TYPE_INDEX, default=UNKNOWN, return_dtype=pl.Int8).to_numpy()


def _flatten_lists(lists: pl.Series) -> pl.Series:
    return lists.filter(lists.list.len() > 0).explode()


def _pad_lists(
    lists: pl.Series, length: int, encode_values: Callable[[pl.Series], Array]
) -> tuple[Array, BoolArray]:
    """Encoded values [N, length] with zeros behind, and which of them are filled."""
    cut_lists = lists.list.head(length)
    counts = cut_lists.list.len().fill_null(0).to_numpy()
    is_filled = np.arange(length) < counts[:, None]
    values = encode_values(_flatten_lists(cut_lists))
    padded = np.zeros(is_filled.shape, values.dtype)
    padded[is_filled] = values
    return padded, is_filled
