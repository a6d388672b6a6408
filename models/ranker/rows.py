"""Training rows as integers: a table of items, and lists that point into it (`records.py`).

Every string is turned into an integer once, batch by batch.

Legend: N lists, H history, K inferred, F folds, d first aspect of a vector.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from safetensors.numpy import load_file

from contracts.artifacts import read_table
from contracts.aspects import FOLDS_FILE
from contracts.dataset import Dataset, before
from contracts.errors import UserError
from contracts.shards import owners
from contracts.tables import ITEM_EMBEDDINGS
from contracts.vectors import VECTOR_DTYPE
from models.ranker.confidences import list_confidences
from models.ranker.config import RankerConfig
from models.ranker.encoding import (
    EVENT_TYPE_INDEX,
    FIRST,
    PADDING,
    UNKNOWN,
    EncodedItems,
    Floats,
    ItemEncoder,
    ItemRows,
)
from models.ranker.records import RankingRows, RowWriter
from models.ranker.search import Search, search_history
from models.ranker.statistics import ItemLog

_CELLS_PER_BATCH = 400_000
_LISTED = 200
"""Inferred items of a list, as a rule."""


@dataclass(frozen=True)
class ItemTable:
    """The encoded catalogue. Row 0 is padding, row 1 an item that the catalogue does not hold."""

    names: pl.Enum
    """Item ids; the item with physical code n is row n + 2."""
    features: EncodedItems
    """One row per item."""

    def search(self, length: int, dim: int) -> Search | None:
        """How the general search unit looks at `length` behaviours by the leading `dim` numbers; none where 0."""
        return Search(self.features.vectors[:, :dim].astype(np.float32), length) if length else None


def read_vectors(item_embeddings: Path) -> tuple[pl.DataFrame, str, int]:
    """Item vectors, the space they live in and their length."""
    frame = read_table(item_embeddings / "item_embeddings.parquet", ITEM_EMBEDDINGS)
    assert not frame.is_empty(), f"no item embedding in {item_embeddings}"
    return frame.select("item_id", "embedding"), frame["space"][0], len(frame["embedding"][0])


def read_folds(item_embeddings: Path, item_ids: pl.Series) -> Floats:
    """The first aspect as learnt without the users of each fold, [F, rows of the item table, d]; F may be 0.

    Raises:
        UserError: the folds are of other items than the embeddings.
    """
    path = item_embeddings / FOLDS_FILE
    if not path.is_file():
        return np.zeros((0, 0, 0), np.float32)
    stored = load_file(path)["embeddings"]
    known = read_table(item_embeddings / "item_embeddings.parquet", ITEM_EMBEDDINGS).select("item_id")
    if stored.shape[1] != len(known):
        raise UserError(f"{path} holds {stored.shape[1]} items, the embeddings {len(known)}; run embed_items again")
    places = item_ids.to_frame("item_id").join(
        known.with_row_index("place"), on="item_id", how="left", maintain_order="left"
    )["place"]
    is_known = np.concatenate([np.zeros(FIRST, bool), places.is_not_null().to_numpy()])
    folds = np.zeros((len(stored), len(is_known), stored.shape[2]), np.float32)
    folds[:, is_known] = stored[:, places.drop_nulls().to_numpy()]
    return folds


def read_codes(item_embeddings: Path, encoder: ItemEncoder) -> npt.NDArray[np.int64]:
    """Semantic ids of the items that training saw, [rows of the id table, levels]: 1 + code, counted over the levels.

    0 stands for no code: of padding, of unknown items and of those without an embedding.

    Raises:
        UserError: no item that training saw has a code.
    """
    table = read_table(item_embeddings / "item_embeddings.parquet", ITEM_EMBEDDINGS).select("item_id", "semantic_id")
    index = encoder.vocabularies["item"]
    known = table.with_columns(row=pl.col("item_id").replace_strict(index, default=None, return_dtype=pl.Int64))
    known = known.filter(pl.col("row").is_not_null() & (pl.col("semantic_id").list.len() > 0))
    if known.is_empty():
        raise UserError(
            f"{item_embeddings} has no semantic id for any item of the training log, which features.semantic_id needs; "
            "run embed_items on this dataset, or switch it off"
        )
    codes = np.array(known["semantic_id"].to_list(), np.int64)
    starts = np.concatenate([[0], np.cumsum(codes.max(0) + 1)[:-1]])
    found = np.zeros((encoder.sizes["item"], codes.shape[1]), np.int64)
    found[known["row"].to_numpy()] = 1 + codes + starts
    return found


def user_folds(training_set: Path, *, split: str, protocol: str, num_folds: int) -> npt.NDArray[np.int64]:
    """Fold of the user of each list [N] of one part and protocol; 0 where there are no folds."""
    wanted = (pl.col("split") == split) & (pl.col("protocol") == protocol)
    users = pl.scan_parquet(training_set).filter(wanted).select("user_id").collect()["user_id"]
    distinct = users.unique()
    folds = pl.DataFrame({"user_id": distinct, "fold": owners(distinct, max(num_folds, 1))})
    found = users.to_frame("user_id").join(folds, on="user_id", how="left", maintain_order="left")["fold"]
    return found.to_numpy().astype(np.int64)


def fit_encoder(data: Dataset, config: RankerConfig, *, dim: int) -> ItemEncoder:
    """Fits the item encoder on what happened before the training end."""
    events = before(data.events, data.split.train_end)
    counts = events.group_by("item_id").len()
    seen = counts.filter(pl.col("len") >= config.min_item_events)["item_id"]
    dim = dim if config.features.vectors else 0
    return ItemEncoder.fit(data.items, training_ids=seen, num_price_buckets=config.num_price_buckets, dim=dim)


def encode_catalogue(items: pl.DataFrame, vectors: pl.DataFrame, encoder: ItemEncoder) -> ItemTable:
    """Encodes the whole catalogue."""
    rows = ItemRows(
        items["item_id"].to_list(),
        items["category"].to_list(),
        items["brand"].to_list(),
        items["price"].to_list(),
        _dense(items, vectors, encoder.dim) if encoder.dim else None,
    )
    encoded = encoder.encode(rows)
    codes = np.array([PADDING, UNKNOWN])
    blank = EncodedItems(codes, codes, codes, codes, np.zeros((FIRST, encoder.dim), VECTOR_DTYPE))
    features = EncodedItems(
        *(np.concatenate([getattr(blank, field), getattr(encoded, field)]) for field in EncodedItems._fields)
    )
    return ItemTable(pl.Enum(items["item_id"]), features)


def encode_rows(
    training_set: Path,
    names: pl.Enum,
    *,
    split: str,
    protocol: str,
    lengths: tuple[int, int],
    scratch: Path,
    log: ItemLog | None = None,
    search: Search | None = None,
) -> RankingRows:
    """Encodes the lists of one part and protocol.

    Args:
        training_set: the TRAINING_SET table's file.
        names: the catalogue's item ids (`ItemTable.names`).
        split: part of the log.
        protocol: how the lists were made.
        lengths: H and K, the behaviours and inferred behaviours kept per list.
        scratch: folder for the mapped arrays; must live as long as the result.
        log: what statistics are counted from; none: no statistics.
        search: how histories longer than H are searched; none: they are cut.
    """
    reach = max(lengths[0], search.length if search else 0)
    writer = RowWriter(scratch, history=lengths[0], inferred=lengths[1], statistics=log is not None)
    for frame in _read_lists(training_set, split, protocol, max(1, _CELLS_PER_BATCH // (reach + _LISTED))):
        counts = frame["item_ids"].list.len().cast(pl.Int64).to_numpy()
        arrays = _encode_batch(frame, names, counts, reach, lengths[1])
        if search is not None:
            _search(arrays, counts, search, frame["user_id"], keep=lengths[0])
        arrays["statistics"] = np.empty((len(arrays["candidates"]), 0), np.float32)
        if log is not None:
            arrays["statistics"] = log.at(arrays["candidates"], np.repeat(arrays["times_s"], counts))
        writer.write(arrays, counts)
    return writer.rows()


def _read_lists(training_set: Path, split: str, protocol: str, batch_size: int) -> Iterator[pl.DataFrame]:
    """The lists of a part and protocol in their order; in memory is a row group of the file."""
    wanted = (pl.col("split") == split) & (pl.col("protocol") == protocol)
    with pq.ParquetFile(training_set, pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size, use_threads=False):
            frame = pl.from_arrow(batch)
            assert isinstance(frame, pl.DataFrame)
            if len(chosen := frame.filter(wanted)):
                yield chosen


def _encode_batch(
    frame: pl.DataFrame, names: pl.Enum, counts: npt.NDArray[np.int64], length: int, inferred: int
) -> dict[str, npt.NDArray[Any]]:
    since = (frame["timestamp"] - frame["history_as_of"]).dt.total_seconds(fractional=True).fill_null(0).to_numpy()
    history, filled = _padded(frame["history_item_ids"], length, partial(_item_rows, names=names))
    ages, _ = _padded(frame["history_ages_s"], length, lambda flat: flat.cast(pl.Float32).to_numpy())
    candidates = _item_rows(_flat(frame["item_ids"]), names)
    listed = _item_rows(_flat(frame["inferred_item_ids"]), names)
    confidences = list_confidences(candidates, counts, listed, frame["inferred_scores"])
    return {
        "candidates": candidates,
        "clicks": _flat(frame["clicks"]).to_numpy(),
        "orders": _flat(frame["orders"]).to_numpy(),
        "values": _flat(frame["values"]).to_numpy(),
        "history": history,
        "history_types": _padded(frame["history_event_types"], length, _types)[0],
        "history_ages_s": np.where(filled, ages + since[:, None], 0).astype(np.float32),
        "inferred": _padded(frame["inferred_item_ids"], inferred, partial(_item_rows, names=names))[0],
        "inferred_scores": _padded(frame["inferred_scores"], inferred, pl.Series.to_numpy)[0],
        # What the catalogue does not hold shares one row: it is nobody in particular.
        "confidences": np.where(candidates > UNKNOWN, confidences, np.float32(0)),
        "times_s": frame["timestamp"].cast(pl.Int64).to_numpy() // 1_000_000,
    }


def _search(
    arrays: dict[str, npt.NDArray[Any]],
    counts: npt.NDArray[np.int64],
    search: Search,
    users: pl.Series,
    *,
    keep: int,
) -> None:
    """Leaves the `keep` behaviours of each list that its candidates ask for."""
    history = arrays["history"]
    lengths = np.count_nonzero(history, axis=1)
    chosen = np.tile(np.arange(keep), (len(history), 1))
    stops = np.cumsum(counts)
    folds = owners(users, 1 if search.folds is None else len(search.folds)).to_numpy()
    # A product with a thousand vectors is worth its turn of the loop.
    for row in np.flatnonzero(lengths > keep):
        vectors = search.vectors_of(int(folds[row]))
        candidates = arrays["candidates"][stops[row] - counts[row] : stops[row]]
        behaviors = history[row, : lengths[row]]
        chosen[row] = search_history(vectors[behaviors], vectors[candidates], keep=keep)
    for name in ("history", "history_types", "history_ages_s"):
        arrays[name] = np.take_along_axis(arrays[name], chosen, axis=1)


def _item_rows(item_ids: pl.Series, names: pl.Enum) -> npt.NDArray[np.int32]:
    codes = item_ids.cast(names, strict=False).to_physical().cast(pl.Int32) + FIRST
    return codes.fill_null(UNKNOWN).to_numpy()


def _types(event_types: pl.Series) -> npt.NDArray[np.int8]:
    return event_types.replace_strict(EVENT_TYPE_INDEX, default=UNKNOWN, return_dtype=pl.Int8).to_numpy()


def _flat(lists: pl.Series) -> pl.Series:
    return lists.filter(lists.list.len() > 0).explode()


def _padded(
    lists: pl.Series, length: int, encode: Callable[[pl.Series], npt.NDArray[Any]]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Encoded values [N, length] with zeros behind, and which of them are filled."""
    cut = lists.list.head(length)
    counts = cut.list.len().fill_null(0).to_numpy()
    filled = np.arange(length) < counts[:, None]
    values = encode(_flat(cut))
    padded = np.zeros(filled.shape, values.dtype)
    padded[filled] = values
    return padded, filled


def _dense(items: pl.DataFrame, vectors: pl.DataFrame, dim: int) -> Floats:
    """Vectors in the order of the items, zeros where an item has none."""
    joined = items.select("item_id").join(vectors, on="item_id", how="left", maintain_order="left")["embedding"]
    known = joined.is_not_null().to_numpy()
    dense = np.zeros((len(items), dim), np.float32)
    dense[known] = joined.drop_nulls().explode().to_numpy().reshape(-1, dim)
    return dense
