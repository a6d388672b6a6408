"""What the encoder reads of an item, part by part: a view is one vector per item of one part of it.

Parts stay apart because one text vector of everything lets the longest part drown the others: the maker's name in a
title of thirty words, a category beside a page of description. What each part is worth is learnt (`contrast.py`).
"""

from typing import Final

import numpy as np
import polars as pl

from contracts.tables import FACETS
from models.knowledge.config import EmbeddingConfig
from models.knowledge.encoder import Floats, TextEncoder
from models.knowledge.matrices import blocks, new_matrix

BRAND: Final = "brand"
KNOWLEDGE: Final = "knowledge"
_DESCRIPTION: Final = "description"
_MAX_TEXT_CHARS = 4000
"""Far more than any encoder's window; keeps huge descriptions out of memory."""

Views = dict[str, Floats]
"""View -> [N, D] unit vectors; rows of zeros where an item lacks that part."""


def encode_views(items: pl.DataFrame, knowledge: pl.DataFrame, encoder: TextEncoder, config: EmbeddingConfig) -> Views:
    """All views of a catalogue (table ITEMS, N rows); knowledge (table KNOWLEDGE) only where `config.knowledge`."""
    views = {
        name: _encode_texts(texts, encoder, config.max_description_tokens if name == _DESCRIPTION else None)
        for name, texts in view_texts(items).items()
    }
    return views | {KNOWLEDGE: _knowledge_vectors(items, knowledge, encoder)} if config.knowledge else views


def view_texts(items: pl.DataFrame) -> dict[str, pl.Series]:
    """The raw texts: all in one, then title, category path, brand and description on their own."""
    category = pl.col("category").str.replace_all(">", ",", literal=True)
    leaf = pl.col("category").str.split(">").list.last().str.strip_chars()
    whole = pl.concat_str(["title", "brand", leaf, _DESCRIPTION], separator=". ", ignore_nulls=True)
    parts = {"text": whole, "title": pl.col("title"), "category": category, BRAND: pl.col("brand")}
    cut = items.select(
        part.str.slice(0, _MAX_TEXT_CHARS).fill_null("").alias(name)
        for name, part in (parts | {_DESCRIPTION: pl.col(_DESCRIPTION)}).items()
    )
    return {column.name: column for column in cut}


def _encode_texts(texts: pl.Series, encoder: TextEncoder, max_tokens: int | None) -> Floats:
    present = (texts.str.strip_chars() != "").to_numpy()
    vectors = new_matrix(len(texts), encoder.encode([]).shape[1])
    for rows in blocks(len(texts)):
        vectors[rows] = 0
        vectors[rows][present[rows]] = encoder.encode(
            texts[rows].filter(present[rows]).to_list(), max_tokens=max_tokens
        )
    return vectors


def _knowledge_vectors(items: pl.DataFrame, knowledge: pl.DataFrame, encoder: TextEncoder) -> Floats:
    """[N, D] mean of each item's claim vectors, weighted by confidence, of unit norm."""
    ordered = items.select("item_id").join(knowledge, on="item_id", how="left", maintain_order="left")
    vectors = new_matrix(items.height, encoder.encode([]).shape[1])
    for rows in blocks(items.height):
        vectors[rows] = _claim_means(ordered[rows].with_row_index("row"), encoder)
    return vectors


def _claim_means(rows: pl.DataFrame, encoder: TextEncoder) -> Floats:
    """The means of some items; claims that several of them share are encoded once."""
    facets = [rows.select("row", claim=pl.col(facet)).explode("claim").drop_nulls() for facet in FACETS]
    claims = pl.concat(facets).unnest("claim")
    texts = claims["text"].unique(maintain_order=True)
    vectors = encoder.encode(texts.to_list())
    text_rows = claims.join(texts.to_frame().with_row_index("text_row"), on="text", how="left", maintain_order="left")
    weighted = vectors[text_rows["text_row"].to_numpy()] * text_rows["confidence"].to_numpy()[:, None]
    total = np.zeros((rows.height, vectors.shape[1]), dtype=np.float32)
    np.add.at(total, text_rows["row"].to_numpy(), weighted)
    return unit(total)


def unit(vectors: Floats) -> Floats:
    """Rows scaled to unit norm; zero rows stay zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)
