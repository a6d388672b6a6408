"""The items a behavior may be: ids, semantic ids and knowledge vectors as arrays."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from contracts.array_types import FloatArray, IntArray
from contracts.artifacts import read_table
from contracts.complement_vectors import ComplementVectors, read_complements
from contracts.embedding_aspects import read_aspects
from contracts.errors import UserError
from contracts.tables import ITEM_EMBEDDINGS


@dataclass(frozen=True)
class BehaviorCatalogue:
    """All items in the order of their ids. An item's position is its number everywhere in this room."""

    item_ids: pl.Series
    """Item ids, sorted."""
    codes: IntArray
    """Semantic ids, [I, L]."""
    vectors: FloatArray
    """Learned aspect of the knowledge embeddings, unit norm, [I, D]."""
    available_us: IntArray
    """First time each item could be shown, microseconds since 1970; the smallest integer if unknown, [I]."""
    space: str
    """Version of the embedding space."""
    read_complements: Callable[[], ComplementVectors | None] = lambda: None
    """Reads what goes with what, which only a score that counts it needs; None where nothing is known."""

    def __len__(self) -> int:
        return len(self.item_ids)

    def add_item_numbers(self, events: pl.DataFrame) -> pl.DataFrame:
        """Adds the column `item` (its number). Events of items without an embedding are left out."""
        item_numbers = pl.DataFrame({"item_id": self.item_ids}).with_row_index("item")
        return events.join(item_numbers, on="item_id", how="inner", maintain_order="left").with_columns(
            pl.col("item").cast(pl.Int64)
        )


def read_behavior_catalogue(items: pl.DataFrame, item_embeddings: Path) -> BehaviorCatalogue:
    """Reads the embeddings of the items that are in the catalogue.

    Args:
        items: the ITEMS table.
        item_embeddings: artifact folder of the embed step.

    Raises:
        UserError: no item has an embedding, or the table mixes spaces or lengths.
    """
    all_embeddings = read_table(item_embeddings / "item_embeddings.parquet", ITEM_EMBEDDINGS)
    available_at = items.select("item_id", "available_at")
    numbered_embeddings = all_embeddings.with_row_index("row")
    embedded_items = numbered_embeddings.join(available_at, on="item_id", how="inner").sort("item_id")
    if embedded_items.is_empty():
        raise UserError(
            f"no item of the catalogue has an embedding in {item_embeddings}; run embed_items again"
        )
    _check_one_space(embedded_items, item_embeddings)
    vectors_IW = _stack_lists(embedded_items["embedding"])
    # The learned aspect comes first. The others serve the ranker, which knows how to weigh them.
    learned_length = next(iter(read_aspects(item_embeddings, length=vectors_IW.shape[1]).values()))
    available_us = embedded_items["available_at"].dt.epoch("us").fill_null(np.iinfo(np.int64).min)
    return BehaviorCatalogue(
        item_ids=embedded_items["item_id"],
        codes=_stack_lists(embedded_items["semantic_id"]).astype(np.int64),
        vectors=np.array(vectors_IW[:, :learned_length], dtype=np.float32),
        available_us=available_us.to_numpy(),
        space=embedded_items["space"][0],
        read_complements=partial(_read_complements, item_embeddings, embedded_items["row"].to_numpy()),
    )


def _read_complements(item_embeddings: Path, rows: IntArray) -> ComplementVectors | None:
    vectors = read_complements(item_embeddings)
    return vectors and ComplementVectors(vectors.kinds[rows], vectors.complements[rows])


def _stack_lists(lists: pl.Series) -> npt.NDArray[Any]:
    """Lists of one length as a matrix, one row each."""
    return lists.list.to_array(len(lists[0])).to_numpy()


def _check_one_space(embedded_items: pl.DataFrame, folder: Path) -> None:
    for property_name, values in {
        "space": embedded_items["space"],
        "embedding length": embedded_items["embedding"].list.len(),
        "semantic id length": embedded_items["semantic_id"].list.len(),
    }.items():
        if values.n_unique() > 1:
            first_values = ", ".join(str(value) for value in values.unique().sort().head(5))
            raise UserError(
                f"{folder} mixes several values of {property_name} ({first_values}); "
                "run embed_items again for all items"
            )
