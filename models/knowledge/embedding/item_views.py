"""What the encoder reads of an item, part by part: a view is one vector per item of one part of it.

Parts stay apart because one text vector of everything lets the longest part drown the others: the maker's
name in a title of thirty words, a category beside a page of description. Training learns what each part is
worth (`space_training.py`).
"""

from typing import Final

import numpy as np
import polars as pl

from contracts.array_types import FloatArray
from contracts.tables import FACETS
from models.knowledge.config import EmbeddingConfig
from models.knowledge.embedding.mapped_matrices import allocate_matrix, iterate_row_blocks
from models.knowledge.embedding.text_encoder import TextEncoder

WHOLE_TEXT: Final = "text"
BRAND: Final = "brand"
KNOWLEDGE: Final = "knowledge"
_DESCRIPTION: Final = "description"
_MAX_DESCRIPTION_TOKENS: Final = 128
"""Descriptions are longer than titles, so they are read further than `max_tokens` (64 unless configured)."""
_MAX_TEXT_CHARS: Final = 4000
"""Far more than any encoder's window; keeps huge descriptions out of memory."""

ItemViews = dict[str, FloatArray]
"""View -> [I, X] unit vectors; rows of zeros where an item lacks that part."""


def encode_views(
    items: pl.DataFrame, knowledge: pl.DataFrame, encoder: TextEncoder, config: EmbeddingConfig
) -> ItemViews:
    """Encodes all views of a catalogue (table ITEMS); knowledge (table KNOWLEDGE) only where configured."""
    views = {
        name: _encode_texts(texts, encoder, _MAX_DESCRIPTION_TOKENS if name == _DESCRIPTION else None)
        for name, texts in collect_view_texts(items).items()
        # All in one would be nearly half of the encoder's work, and says nothing that its parts do not.
        if name != WHOLE_TEXT
    }
    return views | {KNOWLEDGE: _encode_knowledge(items, knowledge, encoder)} if config.knowledge else views


def collect_view_texts(items: pl.DataFrame) -> dict[str, pl.Series]:
    """Returns the raw texts: all in one, then title, category path, brand and description on their own."""
    category_path = pl.col("category").str.replace_all(">", ",", literal=True)
    category_leaf = pl.col("category").str.split(">").list.last().str.strip_chars()
    whole_text = pl.concat_str(
        ["title", "brand", category_leaf, _DESCRIPTION], separator=". ", ignore_nulls=True
    )
    view_columns = {
        WHOLE_TEXT: whole_text,
        "title": pl.col("title"),
        "category": category_path,
        BRAND: pl.col("brand"),
        _DESCRIPTION: pl.col(_DESCRIPTION),
    }
    cut_texts = items.select(
        column.str.slice(0, _MAX_TEXT_CHARS).fill_null("").alias(name)
        for name, column in view_columns.items()
    )
    return {column.name: column for column in cut_texts}


def normalize_rows(vectors: FloatArray) -> FloatArray:
    """Scales rows to unit norm; zero rows stay zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)


def _encode_texts(texts: pl.Series, encoder: TextEncoder, max_tokens: int | None) -> FloatArray:
    has_text = (texts.str.strip_chars() != "").to_numpy()
    vectors = allocate_matrix(len(texts), encoder.encode([]).shape[1])
    for block in iterate_row_blocks(len(texts)):
        vectors[block] = 0
        present_texts = texts[block].filter(has_text[block]).to_list()
        vectors[block][has_text[block]] = encoder.encode(present_texts, max_tokens=max_tokens)
    return vectors


def _encode_knowledge(items: pl.DataFrame, knowledge: pl.DataFrame, encoder: TextEncoder) -> FloatArray:
    """Returns [I, X] means of each item's claim vectors, weighted by confidence, of unit norm."""
    item_knowledge = items.select("item_id").join(knowledge, on="item_id", how="left", maintain_order="left")
    vectors = allocate_matrix(items.height, encoder.encode([]).shape[1])
    for block in iterate_row_blocks(items.height):
        vectors[block] = _average_claims(item_knowledge[block].with_row_index("row"), encoder)
    return vectors


def _average_claims(item_knowledge: pl.DataFrame, encoder: TextEncoder) -> FloatArray:
    """Returns the means of some items; claims that several of them share are encoded once."""
    facet_claims = [
        item_knowledge.select("row", claim=pl.col(facet)).explode("claim").drop_nulls() for facet in FACETS
    ]
    # Which facet a claim belongs to does not matter here, only what it says.
    claims = pl.concat(facet_claims).unnest("claim")
    distinct_texts = claims["text"].unique(maintain_order=True)
    text_vectors = encoder.encode(distinct_texts.to_list())
    numbered_texts = distinct_texts.to_frame().with_row_index("text_row")
    text_rows = claims.join(numbered_texts, on="text", how="left", maintain_order="left")
    confidences = text_rows["confidence"].to_numpy()
    weighted_vectors = text_vectors[text_rows["text_row"].to_numpy()] * confidences[:, None]
    claim_sums = np.zeros((item_knowledge.height, text_vectors.shape[1]), dtype=np.float32)
    np.add.at(claim_sums, text_rows["row"].to_numpy(), weighted_vectors)
    return normalize_rows(claim_sums)
