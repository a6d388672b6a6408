"""The exact words of an item: model numbers, sizes, standards, makers, which the encoder's meaning blurs.

Latent semantic analysis (Deerwester et al. 1990): tf-idf, cut to its leading singular directions, these
evened out halfway as the views are. It reads the title's words and word pairs, then all words of the
product's page, each with brand and category. In scripts without spaces a pair of letters is a word.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from contracts.array_types import FloatArray
from models.knowledge.embedding.item_views import normalize_rows
from models.knowledge.writing_systems import MARKS, fold_widths, split_unspaced_runs

TITLE_WORDS: Final = "words"
PAGE_WORDS: Final = "page_words"
_MAX_AXES: Final = {TITLE_WORDS: 384, PAGE_WORDS: 256}
"""Directions kept of each kind of words: more of the title, whose words are the product's own."""
_LONGEST_RUN: Final = {TITLE_WORDS: 2, PAGE_WORDS: 1}
"""Words in a row that count as one more."""
_MAX_WORDS: Final = 50_000
"""Most frequent words (and word pairs) kept of each kind: bounds the memory."""
_LETTERS: Final = rf"[^\W_]+(?:[{MARKS}]+[^\W_]*)*"
WORD_PATTERN: Final = rf"(?:brand|category):\S+|{_LETTERS}(?:[-.]{_LETTERS})*"
"""A brand, a category, or letters and digits of any script; dots and hyphens join them (`9.7`, `usb-c`)."""
_WORD: Final = re.compile(WORD_PATTERN)
_MAX_PAGE_CHARS: Final = 600
"""Of a description: what follows is seldom about the product itself."""
_MAX_ITEM_SHARE: Final = 0.2
"""Words of more items than this tell nothing."""
_MIN_ITEMS: Final = 2
_MAX_FITTED_ITEMS: Final = 200_000
"""Larger catalogues are fitted on an even sample."""
_MIN_SINGULAR: Final = 1e-4
"""Directions with a smaller share of the largest singular value are noise: evening out would blow them up."""

WordTexts = dict[str, list[str]]
"""`words` (of the title) and `page_words` of each item, from `collect_word_texts`."""


class WordVectorizer(NamedTuple):
    """Maps the words of items to vectors."""

    longest_run: int
    """Words in a row that count as one more."""
    vocabulary: tuple[str, ...]
    """V words and pairs of words."""
    weights: FloatArray
    """[V] inverse document frequencies."""
    axes: FloatArray
    """[V, A] directions; no column where there are too few words."""

    @classmethod
    def fit_texts(cls, texts: Sequence[str], *, longest_run: int, max_axes: int, seed: int) -> Self:
        """Fits directions to the texts of a catalogue; fewer where there are few words or items."""
        sampled_texts = texts[:: -(-len(texts) // _MAX_FITTED_ITEMS)] if len(texts) else texts
        tfidf = _make_tfidf(longest_run, min_df=_MIN_ITEMS, max_df=_MAX_ITEM_SHARE, max_features=_MAX_WORDS)
        without_words = cls(longest_run, (), np.zeros(0, np.float32), np.zeros((0, 0), np.float32))
        try:
            word_weights = tfidf.fit_transform(sampled_texts)
        except ValueError:  # no word is left
            return without_words
        num_axes = min(max_axes, *(length - 1 for length in word_weights.shape))
        if num_axes < 1:
            return without_words
        decomposition = TruncatedSVD(num_axes, random_state=seed).fit(word_weights)
        singular_values = decomposition.singular_values_
        is_signal = singular_values > _MIN_SINGULAR * singular_values[0]
        axis_scales = np.where(is_signal, np.maximum(singular_values, 1e-12) ** -0.5, 0)
        axes = np.ascontiguousarray(decomposition.components_.T * axis_scales, dtype=np.float32)
        vocabulary = tuple(tfidf.get_feature_names_out())
        return cls(longest_run, vocabulary, tfidf.idf_.astype(np.float32), axes)

    def vectorize_texts(self, texts: Sequence[str], *, num_axes: int | None = None) -> FloatArray:
        """Returns unit vectors [N, A] on the leading axes (all); zeros where no word is in the vocabulary."""
        leading_axes = self.axes[:, :num_axes]
        if not leading_axes.size:
            return np.zeros((len(texts), 0), np.float32)
        tfidf = _make_tfidf(self.longest_run, vocabulary=self.vocabulary)
        # The fitted weights stand in for a fit: with its vocabulary given, the vectorizer needs nothing else.
        tfidf.idf_ = self.weights.astype(np.float64)
        return normalize_rows(np.asarray(tfidf.transform(texts) @ leading_axes, np.float32))

    def to_tensors(self) -> dict[str, NDArray[Any]]:
        """Returns what `from_tensors` reads; the vocabulary as UTF-8, one word a line."""
        vocabulary_bytes = np.frombuffer("\n".join(self.vocabulary).encode(), np.uint8)
        longest_run = np.array([self.longest_run])
        return self._asdict() | {"longest_run": longest_run, "vocabulary": vocabulary_bytes}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Reads what `to_tensors` gave."""
        joined_words = tensors["vocabulary"].tobytes().decode()
        vocabulary = tuple(joined_words.split("\n")) if joined_words else ()
        longest_run = int(tensors["longest_run"][0])
        weights, axes = (tensors[name].astype(np.float32) for name in ("weights", "axes"))
        return cls(longest_run, vocabulary, weights, axes)


def fit_word_vectorizers(texts: WordTexts, *, seed: int) -> dict[str, WordVectorizer]:
    """Fits each kind of words to a catalogue's texts."""
    return {
        kind: WordVectorizer.fit_texts(texts[kind], longest_run=run, max_axes=_MAX_AXES[kind], seed=seed)
        for kind, run in _LONGEST_RUN.items()
    }


def collect_word_texts(items: pl.DataFrame) -> WordTexts:
    """Returns the texts of a catalogue (table ITEMS); a brand or a category is one word, however long it
    is."""
    brand = pl.concat_str(pl.lit("brand:"), _join_words(pl.col("brand")))
    category_level = pl.concat_str(pl.lit("category:"), _join_words(pl.element()))
    categories = pl.col("category").str.split(">").list.eval(category_level).list.join(" ")
    title_columns = [pl.col("title"), brand, categories]
    page_columns = [*title_columns, pl.col("description").str.slice(0, _MAX_PAGE_CHARS)]
    texts = items.select(
        pl.concat_str(columns, separator=" ", ignore_nulls=True).alias(kind)
        for kind, columns in {TITLE_WORDS: title_columns, PAGE_WORDS: page_columns}.items()
    )
    return {column.name: column.to_list() for column in texts}


def _join_words(words: pl.Expr) -> pl.Expr:
    return words.str.strip_chars().str.to_lowercase().str.replace_all(r"\s+", "_")


def _make_tfidf(longest_run: int, **options: object) -> TfidfVectorizer:
    return TfidfVectorizer(
        ngram_range=(1, longest_run),
        preprocessor=fold_widths,
        tokenizer=_find_words,
        token_pattern=None,
        binary=True,
        dtype=np.float32,
        **options,
    )


def _find_words(text: str) -> list[str]:
    words = _WORD.findall(text)
    return words if text.isascii() else list(split_unspaced_runs(words))
