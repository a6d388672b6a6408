"""The nearest items of an item in an embedding space."""

from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from contracts.artifacts import read_lineage
from contracts.errors import UserError
from models.knowledge.products import printable
from models.knowledge.show import suggest

EMBEDDINGS_FILE: Final = "item_embeddings.parquet"
_ROWS: Final = 50_000


def find_neighbours(embeddings: Path, items: Path, item_id: str, *, count: int = 10) -> pl.DataFrame:
    """The items whose vectors have the largest cosine with the item's, best first.

    Args:
        embeddings: The item embeddings artifact.
        items: The catalogue (table ITEMS), for the titles.
        item_id: Whose neighbours.
        count: How many, at least 1.

    Returns:
        Columns item_id, cosine, title, category.

    Raises:
        UserError: the folder is no artifact, or does not know the item, or nothing is asked for.
    """
    if count < 1:
        raise UserError(f"--count {count} asks for nothing; give 1 or more")
    read_lineage(embeddings)
    table = pl.scan_parquet(embeddings / EMBEDDINGS_FILE).select("item_id", "embedding")
    own = table.filter(pl.col("item_id") == item_id).collect()
    if own.is_empty():
        raise UserError(f"no item '{printable(item_id)}' in {embeddings}{suggest(item_id, table)}")
    query = np.array(own["embedding"][0], np.float32)
    query /= max(float(np.linalg.norm(query)), 1e-12)
    num_rows = table.select(pl.len()).collect().item()
    best = pl.concat(
        [
            _closest(table.slice(start, _ROWS).filter(pl.col("item_id") != item_id).collect(), query, count)
            for start in range(0, num_rows, _ROWS)
        ]
    )
    titles = pl.scan_parquet(items).select("item_id", "title", "category")
    nearest = best.sort("cosine", descending=True).head(count)
    wanted = titles.filter(pl.col("item_id").is_in(nearest["item_id"].to_list())).collect()
    return nearest.join(wanted, on="item_id", how="left", maintain_order="left")


def _closest(rows: pl.DataFrame, query: np.ndarray, count: int) -> pl.DataFrame:
    vectors = rows["embedding"].explode().to_numpy().reshape(rows.height, -1)
    lengths = np.linalg.norm(vectors, axis=1).clip(1e-12)
    cosines = pl.Series("cosine", vectors @ query / lengths, dtype=pl.Float32)
    return rows.select("item_id").with_columns(cosines).top_k(count, by="cosine")
