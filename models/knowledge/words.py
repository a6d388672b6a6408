"""The exact words of an item: model numbers, sizes, standards, makers, which the encoder's meaning blurs.

Latent semantic analysis (Deerwester et al. 1990): tf-idf, cut to its leading singular directions, these evened out
halfway as the views are. Once of the title's words and word pairs, once of all words on the product's page, each with
brand and category.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from models.knowledge.encoder import Floats
from models.knowledge.views import unit

TITLE_WORDS: Final = "words"
PAGE_WORDS: Final = "page_words"
_WORD = r"(?:brand|category):\S+|[^\W_]+(?:[-.][^\W_]+)*"
"""A brand, a category, or letters and digits of any script, joined by dots and hyphens as in `9.7` or `usb-c`."""
_LONGEST_RUN = {TITLE_WORDS: 2, PAGE_WORDS: 1}
"""Words in a row that count as one more."""
_MAX_PAGE_CHARS = 600
"""Of a description: what follows is seldom about the product itself."""
_MAX_SHARE = 0.2
"""Words of more items than this tell nothing."""
_MIN_ITEMS = 2
_FITTED_ITEMS = 200_000
"""Larger catalogues are fitted on an even sample."""
_MIN_SINGULAR = 1e-4
"""Directions with a smaller share of the largest singular value are noise, which evening out would blow up."""


Texts = dict[str, list[str]]
"""`words` (of the title) and `page_words` of each item, from `word_texts`."""


class Words(NamedTuple):
    """Maps the words of items to vectors."""

    longest_run: int
    """Words in a row that count as one more."""
    vocabulary: tuple[str, ...]
    """V words and pairs of words."""
    weights: Floats
    """[V] inverse document frequencies."""
    axes: Floats
    """[V, w]; no column where there are too few words."""

    @classmethod
    def fit(cls, texts: Sequence[str], *, longest_run: int, size: int, max_words: int, seed: int) -> Self:
        """Fits `size` directions to the texts of a catalogue; fewer where there are fewer words or items."""
        fitted = texts[:: -(-len(texts) // _FITTED_ITEMS)] if len(texts) else texts
        vectorizer = _vectorizer(longest_run, min_df=_MIN_ITEMS, max_df=_MAX_SHARE, max_features=max_words)
        nothing = cls(longest_run, (), np.zeros(0, np.float32), np.zeros((0, 0), np.float32))
        try:
            counts = vectorizer.fit_transform(fitted)
        except ValueError:  # no word is left
            return nothing
        size = min(size, *(length - 1 for length in counts.shape))
        if size < 1:
            return nothing
        found = TruncatedSVD(size, random_state=seed).fit(counts)
        values = found.singular_values_
        scale = np.where(values > _MIN_SINGULAR * values[0], np.maximum(values, 1e-12) ** -0.5, 0)
        axes = np.ascontiguousarray(found.components_.T * scale, dtype=np.float32)
        vocabulary = tuple(vectorizer.get_feature_names_out())
        return cls(longest_run, vocabulary, vectorizer.idf_.astype(np.float32), axes)

    def apply(self, texts: Sequence[str], *, size: int | None = None) -> Floats:
        """Unit vectors [N, w] on the leading `size` directions (all); zeros where an item has no known word."""
        axes = self.axes[:, :size]
        if not axes.size:
            return np.zeros((len(texts), 0), np.float32)
        vectorizer = _vectorizer(self.longest_run, vocabulary=self.vocabulary)
        vectorizer.idf_ = self.weights.astype(np.float64)
        return unit(np.asarray(vectorizer.transform(texts) @ axes, np.float32))

    def tensors(self) -> dict[str, NDArray[Any]]:
        """What `from_tensors` reads; the vocabulary as UTF-8, one word a line."""
        text = np.frombuffer("\n".join(self.vocabulary).encode(), np.uint8)
        run = np.array([self.longest_run])
        return {"longest_run": run, "vocabulary": text, "weights": self.weights, "axes": self.axes}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Reads what `tensors` gave."""
        text = tensors["vocabulary"].tobytes().decode()
        vocabulary = tuple(text.split("\n")) if text else ()
        run = int(tensors["longest_run"][0])
        return cls(run, vocabulary, tensors["weights"].astype(np.float32), tensors["axes"].astype(np.float32))


def fit_words(texts: Texts, sizes: Mapping[str, int], *, max_words: int, seed: int) -> dict[str, Words]:
    """Fits each kind of words to a catalogue's texts; a kind of size 0 is left out."""
    return {
        kind: Words.fit(texts[kind], longest_run=run, size=sizes[kind], max_words=max_words, seed=seed)
        for kind, run in _LONGEST_RUN.items()
        if sizes[kind]
    }


def word_texts(items: pl.DataFrame) -> Texts:
    """The texts of a catalogue (table ITEMS); a brand or a category is one word, however many it is written in."""
    brand = pl.concat_str(pl.lit("brand:"), _joined(pl.col("brand")))
    levels = pl.col("category").str.split(">").list.eval(pl.concat_str(pl.lit("category:"), _joined(pl.element())))
    title = [pl.col("title"), brand, levels.list.join(" ")]
    page = [*title, pl.col("description").str.slice(0, _MAX_PAGE_CHARS)]
    wanted = {TITLE_WORDS: title, PAGE_WORDS: page}
    columns = [pl.concat_str(parts, separator=" ", ignore_nulls=True).alias(kind) for kind, parts in wanted.items()]
    return {column.name: column.to_list() for column in items.select(columns)}


def _joined(words: pl.Expr) -> pl.Expr:
    return words.str.strip_chars().str.to_lowercase().str.replace_all(r"\s+", "_")


def _vectorizer(longest_run: int, **options: object) -> TfidfVectorizer:
    return TfidfVectorizer(ngram_range=(1, longest_run), token_pattern=_WORD, binary=True, dtype=np.float32, **options)
