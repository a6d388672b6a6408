"""What the encoder reads of an item, part by part: a view is one vector per item of one part of it.

Parts stay apart because one text vector of everything lets the longest part drown the others: the maker's
name in a title of thirty words, a category beside a page of description. Training learns what each part is
worth (`space_training.py`).
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from contracts.array_types import FloatArray
from contracts.complement_vectors import ComplementVectors
from contracts.tables import FACETS
from models.knowledge.config import EmbeddingConfig
from models.knowledge.embedding.mapped_matrices import allocate_matrix, iterate_row_blocks
from models.knowledge.embedding.text_encoder import TextEncoder

WHOLE_TEXT: Final = "text"
BRAND: Final = "brand"
KNOWLEDGE: Final = "knowledge"
NEEDS: Final = "knowledge_needs"
BESIDE: Final = "knowledge_beside"
_VIEWS_BY_CHOICE: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "together": {KNOWLEDGE: FACETS},
    "apart": {
        "knowledge_kind": ("summary",),
        NEEDS: ("demands", "audiences", "scenarios"),
        "knowledge_features": ("attributes",),
        BESIDE: ("complements", "substitutes"),
    },
}
"""`embedding.knowledge_views` -> view -> the columns of table KNOWLEDGE that it reads."""
KNOWLEDGE_VIEWS: Final = tuple(name for views in _VIEWS_BY_CHOICE.values() for name in views)
"""All views that read knowledge, in their order."""
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
    if not config.knowledge:
        return views
    item_knowledge = _join_knowledge(items, knowledge)
    return views | {
        name: _encode_claims(item_knowledge, columns, encoder)
        for name, columns in _VIEWS_BY_CHOICE[config.knowledge_views].items()
    }


def encode_complements(
    items: pl.DataFrame, knowledge: pl.DataFrame, encoder: TextEncoder
) -> ComplementVectors:
    """Encodes what goes with what in a catalogue (table ITEMS) by table KNOWLEDGE."""
    item_knowledge = _join_knowledge(items, knowledge)
    return ComplementVectors(
        kinds=_encode_claims(item_knowledge, ("summary",), encoder),
        complements=_encode_claims(item_knowledge, ("complements",), encoder),
    )


def _join_knowledge(items: pl.DataFrame, knowledge: pl.DataFrame) -> pl.DataFrame:
    """Returns the row of table KNOWLEDGE of each item, in their order; nulls where nothing is known."""
    return items.select("item_id").join(
        knowledge.filter(pl.col("status") == "ok"), on="item_id", how="left", maintain_order="left"
    )


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


def _encode_claims(item_knowledge: pl.DataFrame, columns: Sequence[str], encoder: TextEncoder) -> FloatArray:
    """Encodes what some columns of table KNOWLEDGE say of each item.

    Returns:
        [I, X] means of the vectors of an item's claims, weighted by confidence, of unit norm; zeros where
        there is none.
    """
    vectors = allocate_matrix(item_knowledge.height, encoder.encode([]).shape[1])
    for block in iterate_row_blocks(item_knowledge.height):
        claims = _list_claims(item_knowledge[block].with_row_index("row"), columns)
        vectors[block] = _average_claims(claims, len(vectors[block]), encoder)
    return vectors


def _list_claims(item_knowledge: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Returns `row`, `text` and `confidence` of what the columns say; a summary counts as one sure claim."""
    summaries = [
        item_knowledge.select("row", text=column, confidence=pl.lit(1.0, pl.Float32)).drop_nulls()
        for column in columns
        if item_knowledge.schema[column] == pl.String
    ]
    claims = [
        item_knowledge.select("row", claim=pl.col(column)).explode("claim").drop_nulls().unnest("claim")
        for column in columns
        if item_knowledge.schema[column] != pl.String
    ]
    # Which of the columns a claim belongs to does not matter here, only what it says.
    return pl.concat([frame.select("row", "text", "confidence") for frame in (*summaries, *claims)])


def _average_claims(claims: pl.DataFrame, num_rows: int, encoder: TextEncoder) -> FloatArray:
    """Returns the means of some items; claims that several of them share are encoded once."""
    distinct_texts = claims["text"].unique(maintain_order=True)
    text_vectors = encoder.encode(distinct_texts.to_list())
    numbered_texts = distinct_texts.to_frame().with_row_index("text_row")
    text_rows = claims.join(numbered_texts, on="text", how="left", maintain_order="left")
    confidences = text_rows["confidence"].to_numpy()
    weighted_vectors = text_vectors[text_rows["text_row"].to_numpy()] * confidences[:, None]
    claim_sums = np.zeros((num_rows, text_vectors.shape[1]), dtype=np.float32)
    np.add.at(claim_sums, text_rows["row"].to_numpy(), weighted_vectors)
    return normalize_rows(claim_sums)
