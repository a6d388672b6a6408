"""The exact words of an item: model numbers, sizes, standards, makers, which the encoder's meaning blurs.

Latent semantic analysis (Deerwester et al. 1990) of the title's words and word pairs and of the brand: tf-idf, cut to
its leading singular directions, these evened out halfway as the views are.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from models.knowledge.config import AspectsConfig
from models.knowledge.encoder import Floats
from models.knowledge.views import unit

_WORD = r"brand:\S+|[^\W_]+(?:[-.][^\W_]+)*"
"""A brand, or letters and digits of any script, joined by dots and hyphens as in `9.7` or `usb-c`."""
_MAX_SHARE = 0.2
"""Words of more items than this tell nothing."""
_MIN_ITEMS = 2
_FITTED_ITEMS = 200_000
"""Larger catalogues are fitted on an even sample."""
_MIN_SINGULAR = 1e-4
"""Directions with a smaller share of the largest singular value are noise, which evening out would blow up."""


class Words(NamedTuple):
    """Maps the words of items to vectors."""

    vocabulary: tuple[str, ...]
    """V words and pairs of words."""
    weights: Floats
    """[V] inverse document frequencies."""
    axes: Floats
    """[V, w]; no column where there are too few words."""

    @classmethod
    def fit(cls, texts: Sequence[str], config: AspectsConfig, *, seed: int) -> Self:
        """Fits to the texts of a catalogue, from `word_texts`."""
        fitted = texts[:: -(-len(texts) // _FITTED_ITEMS)] if len(texts) else texts
        vectorizer = _vectorizer(min_df=_MIN_ITEMS, max_df=_MAX_SHARE, max_features=config.max_words)
        try:
            counts = vectorizer.fit_transform(fitted)
        except ValueError:  # no word is left
            return cls((), np.zeros(0, np.float32), np.zeros((0, 0), np.float32))
        size = min(config.words, *(length - 1 for length in counts.shape))
        if size < 1:
            return cls((), np.zeros(0, np.float32), np.zeros((0, 0), np.float32))
        found = TruncatedSVD(size, random_state=seed).fit(counts)
        values = found.singular_values_
        scale = np.where(values > _MIN_SINGULAR * values[0], np.maximum(values, 1e-12) ** -0.5, 0)
        axes = np.ascontiguousarray(found.components_.T * scale, dtype=np.float32)
        return cls(tuple(vectorizer.get_feature_names_out()), vectorizer.idf_.astype(np.float32), axes)

    def apply(self, texts: Sequence[str]) -> Floats:
        """Unit vectors [N, w]; zeros where an item has no known word."""
        if not self.axes.size:
            return np.zeros((len(texts), 0), np.float32)
        vectorizer = _vectorizer(vocabulary=self.vocabulary)
        vectorizer.idf_ = self.weights.astype(np.float64)
        counts = vectorizer.transform(texts)
        return unit(np.asarray(counts @ self.axes, np.float32))

    def tensors(self) -> dict[str, NDArray[Any]]:
        """What `from_tensors` reads; the vocabulary as UTF-8, one word a line."""
        text = np.frombuffer("\n".join(self.vocabulary).encode(), np.uint8)
        return {"vocabulary": text, "weights": self.weights, "axes": self.axes}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Reads what `tensors` gave."""
        text = tensors["vocabulary"].tobytes().decode()
        vocabulary = tuple(text.split("\n")) if text else ()
        return cls(vocabulary, tensors["weights"].astype(np.float32), tensors["axes"].astype(np.float32))


def word_texts(items: pl.DataFrame) -> list[str]:
    """Title and brand of each item (table ITEMS); the brand is one word, however many it is written in."""
    brand = pl.concat_str(pl.lit("brand:"), pl.col("brand").str.to_lowercase().str.replace_all(r"\s+", "_"))
    return items.select(pl.concat_str("title", brand, separator=" ", ignore_nulls=True)).to_series().to_list()


def _vectorizer(**options: object) -> TfidfVectorizer:
    return TfidfVectorizer(ngram_range=(1, 2), token_pattern=_WORD, binary=True, **options)
