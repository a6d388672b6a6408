"""Vectors of texts by content, kept between runs: what was encoded once is never encoded again.

An unchanged catalogue costs no call of the encoder, a refresh one for each new text. A vector is 4 bytes a number; the
folder may be deleted at any time.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from contracts.digests import digest_value
from models.knowledge.config import EmbeddingConfig
from models.knowledge.encoder import Encoder, Floats
from models.knowledge.store import Store

_SLAB: Final = 4096
"""Texts that are looked up and encoded at once: so many are lost at most when a run is killed."""


class CachedEncoder:
    """An encoder that knows what it once encoded."""

    def __init__(self, encoder: Encoder, store: Store, *, max_tokens: int) -> None:
        self._encoder = encoder
        self._store = store
        self._max_tokens = max_tokens
        self.name, self.digest = encoder.name, encoder.digest

    def encode(self, texts: list[str], *, max_tokens: int | None = None) -> Floats:
        """Unit vectors [N, D] of N texts, as of `Encoder.encode`."""
        made_by = [self.digest, self._encoder.precision, max_tokens or self._max_tokens]
        vectors: Floats | None = None
        for start in range(0, len(texts), _SLAB):
            slab = texts[start : start + _SLAB]
            found = self._look_up({text: digest_value([*made_by, text]) for text in slab}, max_tokens)
            rows = np.stack([found[text] for text in slab])
            if vectors is None:
                vectors = np.empty((len(texts), rows.shape[1]), np.float32)
            vectors[start : start + len(slab)] = rows
        return self._encoder.encode([]) if vectors is None else vectors

    def _look_up(self, keys: dict[str, str], max_tokens: int | None) -> dict[str, Floats]:
        """Vectors by text."""
        blobs = self._store.get_many(list(keys.values()))
        known = {text: np.frombuffer(blobs[key], np.float32) for text, key in keys.items() if key in blobs}
        missing = [text for text in keys if text not in known]
        if missing:
            vectors = self._encoder.encode(missing, max_tokens=max_tokens)
            for text, vector in zip(missing, vectors, strict=True):
                self._store.put(keys[text], vector.tobytes())
                known[text] = vector
        return known


@contextmanager
def open_vectors(folder: Path, encoder: Encoder, config: EmbeddingConfig) -> Iterator[CachedEncoder]:
    """Opens the vectors in a folder, making it if need be.

    Raises:
        UserError: the folder cannot be made.
    """
    with closing(Store(folder)) as store:
        yield CachedEncoder(encoder, store, max_tokens=config.max_tokens)
