"""Vectors of texts by content, kept between runs: what was encoded once is never encoded again.

An unchanged catalogue costs no call of the encoder, a refresh one for each new text. A vector takes 4 bytes a
number. The folder may be deleted at any time.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from contracts.array_types import FloatArray
from contracts.digests import digest_value
from models.knowledge.cache.blob_store import BlobStore
from models.knowledge.config import EmbeddingConfig
from models.knowledge.embedding.text_encoder import SentenceEncoder

_BATCH_TEXTS: Final = 4096
"""Texts that are looked up and encoded at once: so many are lost at most when a run is killed."""


class CachedEncoder:
    """An encoder that knows what it once encoded."""

    def __init__(self, encoder: SentenceEncoder, store: BlobStore, *, max_tokens: int) -> None:
        self._encoder = encoder
        self._store = store
        self._max_tokens = max_tokens
        self.name, self.digest = encoder.name, encoder.digest

    def encode(self, texts: list[str], *, max_tokens: int | None = None) -> FloatArray:
        """Returns unit vectors [N, X] of N texts, as `SentenceEncoder.encode` does."""
        # Whatever changes a vector is part of its key.
        vector_settings = [self.digest, self._encoder.precision, max_tokens or self._max_tokens]
        vectors: FloatArray | None = None
        for start in range(0, len(texts), _BATCH_TEXTS):
            batch_texts = texts[start : start + _BATCH_TEXTS]
            text_keys = {text: digest_value([*vector_settings, text]) for text in batch_texts}
            text_vectors = self._fetch_or_encode(text_keys, max_tokens)
            batch_vectors = np.stack([text_vectors[text] for text in batch_texts])
            if vectors is None:
                vectors = np.empty((len(texts), batch_vectors.shape[1]), np.float32)
            vectors[start : start + len(batch_texts)] = batch_vectors
        return self._encoder.encode([]) if vectors is None else vectors

    def _fetch_or_encode(self, text_keys: dict[str, str], max_tokens: int | None) -> dict[str, FloatArray]:
        """Returns the vector of each text; those that the store lacks are encoded and stored."""
        stored_blobs = self._store.get_blobs(list(text_keys.values()))
        text_vectors = {
            text: np.frombuffer(stored_blobs[blob_key], np.float32)
            for text, blob_key in text_keys.items()
            if blob_key in stored_blobs
        }
        missing_texts = [text for text in text_keys if text not in text_vectors]
        if missing_texts:
            new_vectors = self._encoder.encode(missing_texts, max_tokens=max_tokens)
            for text, vector in zip(missing_texts, new_vectors, strict=True):
                self._store.put_blob(text_keys[text], vector.tobytes())
                text_vectors[text] = vector
        return text_vectors


@contextmanager
def open_cached_encoder(
    folder: Path, encoder: SentenceEncoder, config: EmbeddingConfig
) -> Iterator[CachedEncoder]:
    """Opens the vectors in a folder, making it if need be.

    Raises:
        UserError: The folder cannot be made.
    """
    with closing(BlobStore(folder)) as store:
        yield CachedEncoder(encoder, store, max_tokens=config.max_tokens)
