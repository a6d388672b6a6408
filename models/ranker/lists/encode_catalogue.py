"""The catalogue as integers and vectors: what the rows of encoded lists point into.

Legend: F folds, d first aspect of a vector.
"""

from pathlib import Path

import numpy as np
import polars as pl
from safetensors.numpy import load_file

from contracts.array_types import FloatArray
from contracts.artifacts import read_table
from contracts.dataset import Dataset, select_events_before
from contracts.embedding_aspects import FOLDS_FILE
from contracts.errors import UserError
from contracts.half_vectors import VECTOR_DTYPE
from contracts.tables import ITEM_EMBEDDINGS
from models.ranker.inputs.item_encoder import (
    FIRST,
    PADDING,
    UNKNOWN,
    EncodedItems,
    ItemEncoder,
    ItemTable,
    RawItems,
)

NUM_PRICE_BUCKETS = 32
"""At the quantiles of the training items' prices: a few dozen tell cheap from dear in any shop."""
_EMBEDDINGS_FILE = "item_embeddings.parquet"


def read_item_vectors(item_embeddings: Path) -> tuple[pl.DataFrame, str, int]:
    """Reads item vectors, the name of their space and their length."""
    frame = read_table(item_embeddings / _EMBEDDINGS_FILE, ITEM_EMBEDDINGS)
    assert not frame.is_empty(), f"no item embedding in {item_embeddings}"
    return frame.select("item_id", "embedding"), frame["space"][0], len(frame["embedding"][0])


def read_fold_vectors(item_embeddings: Path, item_ids: pl.Series) -> FloatArray:
    """Reads the first aspect as learned without the users of each fold, [F, rows of the item table, d]; F may
    be 0.

    Raises:
        UserError: the folds are of other items than the embeddings.
    """
    folds_path = item_embeddings / FOLDS_FILE
    if not folds_path.is_file():
        return np.zeros((0, 0, 0), np.float32)
    stored_vectors = load_file(folds_path)["embeddings"]
    embedded_ids = read_table(item_embeddings / _EMBEDDINGS_FILE, ITEM_EMBEDDINGS).select("item_id")
    if stored_vectors.shape[1] != len(embedded_ids):
        raise UserError(
            f"{folds_path} holds {stored_vectors.shape[1]} items, the embeddings {len(embedded_ids)}; "
            "run embed_items again"
        )
    stored_rows = item_ids.to_frame("item_id").join(
        embedded_ids.with_row_index("row"), on="item_id", how="left", maintain_order="left"
    )["row"]
    # The first rows of the table are no items: padding and unknown.
    has_vector = np.concatenate([np.zeros(FIRST, bool), stored_rows.is_not_null().to_numpy()])
    fold_vectors = np.zeros((len(stored_vectors), len(has_vector), stored_vectors.shape[2]), np.float32)
    fold_vectors[:, has_vector] = stored_vectors[:, stored_rows.drop_nulls().to_numpy()]
    return fold_vectors


def fit_encoder(data: Dataset, *, dim: int) -> ItemEncoder:
    """Fits the item encoder on what happened before the training end; `dim` 0 reads no vectors."""
    # An item of the future must be as unknown in training as it will be in serving.
    training_events = select_events_before(data.events, data.split.train_end)
    training_ids = training_events["item_id"].unique()
    return ItemEncoder.fit_vocabularies(
        data.items, training_ids=training_ids, num_price_buckets=NUM_PRICE_BUCKETS, dim=dim
    )


def encode_catalogue(items: pl.DataFrame, vectors: pl.DataFrame, encoder: ItemEncoder) -> ItemTable:
    """Encodes the whole catalogue."""
    raw_items = RawItems(
        items["item_id"].to_list(),
        items["category"].to_list(),
        items["brand"].to_list(),
        items["price"].to_list(),
        _align_vectors(items, vectors, encoder.dim) if encoder.dim else None,
    )
    catalogue_items = encoder.encode_items(raw_items)
    blank_codes = np.array([PADDING, UNKNOWN])
    blank_items = EncodedItems.from_codes(
        np.tile(blank_codes, (4, 1)), np.zeros((FIRST, encoder.dim), VECTOR_DTYPE)
    )
    table_items = EncodedItems(
        *(
            np.concatenate([getattr(blank_items, field), getattr(catalogue_items, field)])
            for field in EncodedItems._fields
        )
    )
    return ItemTable(pl.Enum(items["item_id"]), table_items)


def _align_vectors(items: pl.DataFrame, vectors: pl.DataFrame, dim: int) -> FloatArray:
    """Vectors in the order of the items, zeros where an item has none."""
    joined_vectors = items.select("item_id").join(vectors, on="item_id", how="left", maintain_order="left")[
        "embedding"
    ]
    has_vector = joined_vectors.is_not_null().to_numpy()
    aligned_vectors = np.zeros((len(items), dim), np.float32)
    aligned_vectors[has_vector] = joined_vectors.drop_nulls().explode().to_numpy().reshape(-1, dim)
    return aligned_vectors
