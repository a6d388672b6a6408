"""The nearest items of an item in an embedding space."""

from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from contracts.array_types import FloatArray
from contracts.artifacts import read_lineage
from contracts.errors import UserError
from models.knowledge.distillation.describe_item import suggest_item_ids
from models.knowledge.distillation.product_text import escape_control_chars

_CHUNK_ROWS: Final = 50_000
"""Vectors in memory at once."""


def find_neighbors(embeddings: Path, items: Path, item_id: str, *, count: int = 10) -> pl.DataFrame:
    """Finds the items whose vectors have the largest cosine with the item's, best first.

    Args:
        embeddings: The item embeddings artifact.
        items: The catalogue (table ITEMS), for the titles.
        item_id: The item whose neighbors are sought.
        count: How many, at least 1.

    Returns:
        Columns item_id, cosine, title, category.

    Raises:
        UserError: The folder is no artifact, or does not know the item, or nothing is asked for.
    """
    if count < 1:
        raise UserError(f"--count {count} asks for nothing; give 1 or more")
    read_lineage(embeddings)
    embedding_table = pl.scan_parquet(embeddings / "item_embeddings.parquet").select("item_id", "embedding")
    own_row = embedding_table.filter(pl.col("item_id") == item_id).collect()
    if own_row.is_empty():
        suggestion = suggest_item_ids(item_id, embedding_table)
        raise UserError(f"no item '{escape_control_chars(item_id)}' in {embeddings}{suggestion}")
    query_vector = np.array(own_row["embedding"][0], np.float32)
    query_vector /= max(float(np.linalg.norm(query_vector)), 1e-12)
    num_rows = embedding_table.select(pl.len()).collect().item()
    chunks = (embedding_table.slice(start, _CHUNK_ROWS) for start in range(0, num_rows, _CHUNK_ROWS))
    candidates = pl.concat(
        [
            _rank_by_cosine(chunk.filter(pl.col("item_id") != item_id).collect(), query_vector, count)
            for chunk in chunks
        ]
    )
    nearest = candidates.sort("cosine", descending=True).head(count)
    titles = pl.scan_parquet(items).select("item_id", "title", "category")
    nearest_titles = titles.filter(pl.col("item_id").is_in(nearest["item_id"].to_list())).collect()
    return nearest.join(nearest_titles, on="item_id", how="left", maintain_order="left")


def _rank_by_cosine(chunk: pl.DataFrame, query: FloatArray, count: int) -> pl.DataFrame:
    vectors = chunk["embedding"].explode().to_numpy().reshape(chunk.height, -1)
    norms = np.linalg.norm(vectors, axis=1).clip(1e-12)
    cosines = pl.Series("cosine", vectors @ query / norms, dtype=pl.Float32)
    return chunk.select("item_id").with_columns(cosines).top_k(count, by="cosine")
