"""What pages are about, as vectors: queries and page categories by their text, seed items by their own."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

import polars as pl

from contracts.array_types import FloatArray
from contracts.half_vectors import convert_to_half

EmbedTexts = Callable[[list[str]], FloatArray]
"""Q texts -> their vectors [Q, D] in the item space."""
CONTEXT_TEXT = pl.coalesce("query", "page_category").str.strip_chars()
"""What a page says of itself; a query says more than the category that it was asked in."""


class ContextVectors(NamedTuple):
    """Vectors of all that the lists' pages name."""

    texts: pl.DataFrame
    """`context_text`, `text_vector` (raw half floats)."""
    seeds: pl.DataFrame
    """`seed_item_id`, `seed_vector`."""

    @classmethod
    def read_for_lists(cls, lists: Path, features: Path, embed_texts: EmbedTexts | None) -> Self:
        """Embeds the texts that ranking lists name, and reads the vectors of the items that they do."""
        named = pl.scan_parquet(lists).select("seed_item_id", context_text=CONTEXT_TEXT)
        texts = (
            named.select("context_text").drop_nulls().unique().sort("context_text").collect()["context_text"]
        )
        texts = texts.filter(texts != "")
        blobs: list[bytes] = []
        if embed_texts is not None and len(texts):
            blobs = [vector.tobytes() for vector in convert_to_half(embed_texts(texts.to_list()))]
        text_vectors = pl.DataFrame(
            {"context_text": texts[: len(blobs)], "text_vector": blobs},
            schema={"context_text": pl.String, "text_vector": pl.Binary},
        )
        seeds = named.select("seed_item_id").drop_nulls().unique()
        seed_vectors = (
            pl.scan_parquet(features / "item_knowledge.parquet")
            .select(seed_item_id="item_id", seed_vector="item_vector")
            .join(seeds, on="seed_item_id", how="semi")
            .collect()
        )
        return cls(text_vectors, seed_vectors)

    def add_to(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Adds `context_vector` to lists; a seed item says more than the words beside it."""
        return (
            frame.with_columns(context_text=CONTEXT_TEXT)
            .join(self.texts, on="context_text", how="left", maintain_order="left")
            .join(self.seeds, on="seed_item_id", how="left", maintain_order="left")
            .with_columns(context_vector=pl.coalesce("seed_vector", "text_vector"))
            .drop("context_text", "text_vector", "seed_vector")
        )
