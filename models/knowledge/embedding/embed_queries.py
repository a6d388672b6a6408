"""Places what users search for, and the pages that they open, among the items: one vector per text.

A query is embedded as an item of which only the title is known. So it is compared with items aspect by
aspect, as items are with each other.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl

from contracts.array_types import FloatArray
from contracts.artifacts import read_lineage
from contracts.embedding_aspects import QUERY_ENCODER_FOLDER
from contracts.tables import ITEMS, KNOWLEDGE
from models.knowledge.config import EmbeddingConfig
from models.knowledge.embedding.embedding_space import EmbeddingSpace
from models.knowledge.embedding.exact_words import collect_word_texts
from models.knowledge.embedding.item_views import encode_views
from models.knowledge.embedding.query_encoder import QueryEncoder
from models.knowledge.embedding.text_encoder import SentenceEncoder

PROJECTION_FILE: Final = "projection.safetensors"


def embed_queries(item_embeddings: Path, texts: Sequence[str]) -> FloatArray:
    """Returns the vectors [Q, D] of Q texts, in the space of an item embeddings artifact.

    The artifact's query encoder makes them, as it does while serving: on a GPU the text encoder itself
    computes in another precision. An artifact without one has its text encoder do it.

    Raises:
        UserError: The artifact is not whole, or its encoder is not there.
    """
    query_encoder = item_embeddings / QUERY_ENCODER_FOLDER
    if query_encoder.is_dir():
        return QueryEncoder(query_encoder).encode_texts(texts)
    return embed_titles(item_embeddings, texts)


def embed_titles(item_embeddings: Path, texts: Sequence[str]) -> FloatArray:
    """Returns the vectors [Q, D] of items of which only the titles are known, by the artifact's maps.

    Raises:
        UserError: The artifact is not whole, or its encoder is not there.
    """
    config = EmbeddingConfig.model_validate(read_lineage(item_embeddings).config)
    space = EmbeddingSpace.load_tensors(item_embeddings / PROJECTION_FILE)
    items = ITEMS.check_rows(
        pl.DataFrame({"item_id": [str(row) for row in range(len(texts))], "title": texts})
    )
    views = encode_views(items, KNOWLEDGE.create_empty(), SentenceEncoder(config), config)
    return space.project_queries(views, collect_word_texts(items))
