"""The items a behaviour may be: ids, semantic ids and knowledge vectors as arrays."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from contracts.artifacts import read_table
from contracts.aspects import read_aspects
from contracts.errors import UserError
from contracts.tables import ITEM_EMBEDDINGS

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Catalogue:
    """N items in the order of their ids."""

    item_ids: pl.Series
    """Item ids, sorted; the position is the item's index everywhere in this room."""
    codes: IntArray
    """Semantic ids, [N, L]."""
    vectors: FloatArray
    """Learnt aspect of the knowledge embeddings, unit norm, [N, d]."""
    available_us: IntArray
    """First time each item could be shown, microseconds since 1970; the smallest integer where unknown, [N]."""
    space: str
    """Version of the embedding space."""

    def __len__(self) -> int:
        return len(self.item_ids)

    def index(self, events: pl.DataFrame) -> pl.DataFrame:
        """Adds the column `item` (index) to `events`; events of items without an embedding are left out."""
        items = pl.DataFrame({"item_id": self.item_ids}).with_row_index("item")
        return events.join(items, on="item_id", how="inner", maintain_order="left").with_columns(
            pl.col("item").cast(pl.Int64)
        )


def read_catalogue(items: pl.DataFrame, item_embeddings: Path) -> Catalogue:
    """Reads the embeddings of the items that are in the catalogue.

    Args:
        items: the ITEMS table.
        item_embeddings: artifact folder of the embed step.

    Raises:
        UserError: no item has an embedding, or the table mixes spaces or lengths.
    """
    table = read_table(item_embeddings / "item_embeddings.parquet", ITEM_EMBEDDINGS)
    known = table.join(items.select("item_id", "available_at"), on="item_id", how="inner").sort("item_id")
    if known.is_empty():
        raise UserError(f"no item of the catalogue has an embedding in {item_embeddings}; run embed_items again")
    _refuse_mixture(known, item_embeddings)
    vectors = _matrix(known["embedding"])
    learnt = next(iter(read_aspects(item_embeddings, length=vectors.shape[1]).values()))
    available = known["available_at"].dt.epoch("us").fill_null(np.iinfo(np.int64).min)
    return Catalogue(
        item_ids=known["item_id"],
        codes=_matrix(known["semantic_id"]).astype(np.int64),
        vectors=np.array(vectors[:, :learnt], dtype=np.float32),
        available_us=available.to_numpy(),
        space=known["space"][0],
    )


def _matrix(lists: pl.Series) -> npt.NDArray[Any]:
    """Lists of one length as a matrix, one row each."""
    return lists.list.to_array(len(lists[0])).to_numpy()


def _refuse_mixture(table: pl.DataFrame, folder: Path) -> None:
    for what, values in {
        "space": table["space"],
        "embedding length": table["embedding"].list.len(),
        "semantic id length": table["semantic_id"].list.len(),
    }.items():
        if values.n_unique() > 1:
            found = ", ".join(str(value) for value in values.unique().sort().head(5))
            raise UserError(f"{folder} mixes several values of {what} ({found}); run embed_items again for all items")
