"""The shop's search field: it counts the words that a query and an item have in common, no more.

Shape letters: Q queries, I items, W words of the queries.
"""

import re
from collections.abc import Iterable

import numpy as np
import polars as pl

from contracts.array_types import FloatArray
from simulation.shop_world import ShopWorld

_MIN_LETTERS = 3


def match_queries(world: ShopWorld, items: pl.DataFrame) -> FloatArray:
    """Scores items by the words shared with each query, rare words more: [Q, I], 0 where none is shared.

    An item's words are those of its title, brand, category and description.
    """
    query_words = [split_words(query, world.ignored_words) for query in world.queries]
    columns = {word: column for column, word in enumerate(sorted(set().union(*query_words)))}
    is_in_item = _mark_words(_list_item_words(items), columns)
    word_weights = np.log1p(len(items) / (1 + is_in_item.sum(axis=0, dtype=np.float32)))
    is_in_query = _mark_words(query_words, columns)
    return np.asarray((is_in_query * word_weights) @ is_in_item.T, dtype=np.float32)


def split_words(text: str, ignored_words: frozenset[str] = frozenset()) -> set[str]:
    """Splits a text into its distinct words, lower case, a plural's "s" removed."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return {_cut_plural(word) for word in words if len(word) >= _MIN_LETTERS and word not in ignored_words}


def _cut_plural(word: str) -> str:
    return word[:-1] if len(word) > _MIN_LETTERS and word.endswith("s") and word[-2] != "s" else word


def _list_item_words(items: pl.DataFrame) -> Iterable[set[str]]:
    texts = items.select(
        pl.concat_str("title", "brand", "category", "description", separator=" ", ignore_nulls=True)
    )
    return map(split_words, texts.to_series())


def _mark_words(word_sets: Iterable[set[str]], columns: dict[str, int]) -> FloatArray:
    """Marks which words each set holds: [sets, W]."""
    word_rows = [[columns[word] for word in words if word in columns] for words in word_sets]
    marks = np.zeros((len(word_rows), len(columns)), dtype=np.float32)
    rows = np.repeat(np.arange(len(word_rows)), [len(row) for row in word_rows])
    marks[rows, [column for row in word_rows for column in row]] = 1
    return marks
