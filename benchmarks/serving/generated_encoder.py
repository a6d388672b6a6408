"""The query encoder of a generated space: the real text encoder before random maps of the default sizes."""

from pathlib import Path
from typing import Final

import numpy as np

from models.knowledge.config import EmbeddingConfig
from models.knowledge.embedding.embedding_space import EmbeddingSpace
from models.knowledge.embedding.exact_words import PAGE_WORDS, TITLE_WORDS, WordVectorizer
from models.knowledge.embedding.item_views import BRAND, KNOWLEDGE
from models.knowledge.embedding.projection import Projection
from models.knowledge.embedding.projection_inputs import InputBuilder, ViewWhitener
from models.knowledge.embedding.query_encoder_export import export_query_encoder
from models.knowledge.embedding.text_encoder import SentenceEncoder

_TEXT_AXES: Final = 256
_WORD_AXES: Final = {TITLE_WORDS: 384, PAGE_WORDS: 256}
_NUM_WORDS: Final = 50_000


def write_query_encoder(out: Path, *, space: str, aspects: tuple[int, int, int, int]) -> None:
    """Exports a query encoder whose vectors have these aspects: learned, words, brand, knowledge."""
    rng = np.random.default_rng(0)
    config = EmbeddingConfig(dimension=aspects[0])
    encoder = SentenceEncoder(config)
    width = encoder.encode([]).shape[1]
    whiteners = {
        name: ViewWhitener(
            rng.standard_normal((width,), dtype=np.float32),
            rng.standard_normal((width, _TEXT_AXES), dtype=np.float32),
        )
        for name in ("title", "category", BRAND, "description")
    }
    vocabulary = tuple(f"word{number}" for number in range(_NUM_WORDS))
    vectorizers = {
        kind: WordVectorizer(
            1,
            vocabulary,
            np.ones(_NUM_WORDS, np.float32),
            rng.standard_normal((_NUM_WORDS, num_axes), dtype=np.float32),
        )
        for kind, num_axes in _WORD_AXES.items()
    }
    projection = Projection(_TEXT_AXES * len(whiteners) + sum(_WORD_AXES.values()), aspects[0])
    aspect_axes = dict(zip((TITLE_WORDS, BRAND, KNOWLEDGE), aspects[1:], strict=True))
    generated_space = EmbeddingSpace(InputBuilder(whiteners, vectorizers), projection, None, aspect_axes)
    is_exported = export_query_encoder(generated_space, encoder, config, name=space, out=out)
    assert is_exported
