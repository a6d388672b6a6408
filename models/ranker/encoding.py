"""From item rows and a user's behaviours to the arrays that the graph takes; the same in training and in serving.

Integers: 0 is padding, 1 is unknown, values start at 2. No torch here: the gateway imports this file.

Legend: B batch, C candidates, H history, K inferred, D vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from contracts.tables import EVENT_TYPES
from contracts.vectors import VECTOR_DTYPE, Halves, to_halves
from models.ranker.confidences import own_confidences
from models.ranker.search import search_history
from models.ranker.spec import RankerSpec

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Array = npt.NDArray[np.int64 | np.float32 | np.float16]
Feed = dict[str, Array]

PADDING, UNKNOWN, FIRST = 0, 1, 2
VOCABULARIES = {"item": "item_id", "category": "category", "brand": "brand"}
"""Vocabulary -> the items column that it encodes."""
EVENT_TYPE_INDEX = {name: index for index, name in enumerate(EVENT_TYPES, start=FIRST)}
NUM_EVENT_TYPES = FIRST + len(EVENT_TYPES)


class ItemRows(NamedTuple):
    """What is known of some items, as parallel sequences (an item without an entry in a field: None)."""

    item_ids: Sequence[str]
    categories: Sequence[str | None]
    brands: Sequence[str | None]
    prices: Sequence[float | None]
    vectors: Floats | None
    """[N, D]; a row of zeros where an item has no vector. None: no vectors at all."""


class EncodedItems(NamedTuple):
    """Items as arrays of one leading shape."""

    ids: Ints
    categories: Ints
    brands: Ints
    price_buckets: Ints
    vectors: Halves
    """[..., D]; zeros where an item has no vector."""

    @classmethod
    def of(cls, codes: Ints, vectors: Halves) -> Self:
        """From the codes [4, ...] of `ItemEncoder.codes`."""
        ids, categories, brands, price_buckets = codes
        return cls(ids, categories, brands, price_buckets, vectors)

    def at(self, places: Ints) -> "EncodedItems":
        """The items at some places of the leading axis."""
        return EncodedItems(
            self.ids[places],
            self.categories[places],
            self.brands[places],
            self.price_buckets[places],
            self.vectors[places],
        )


@dataclass(frozen=True)
class ItemEncoder:
    """Encodes item rows with vocabularies that were fitted before the training end."""

    vocabularies: dict[str, dict[str, int]]
    """Vocabulary -> value -> index."""
    price_edges: Floats
    """Inner edges of the price buckets, ascending."""
    dim: int
    """D; 0 where the ranker reads no vectors."""

    @classmethod
    def fit(cls, items: pl.DataFrame, *, training_ids: pl.Series, num_price_buckets: int, dim: int) -> Self:
        """Fits vocabularies and price buckets on the items that training saw; all others become unknown.

        Args:
            items: the catalogue.
            training_ids: distinct ids of the items with enough training events.
            num_price_buckets: number of price buckets.
            dim: length of the item vectors.
        """
        seen = items.filter(pl.col("item_id").is_in(training_ids.implode()))
        vocabularies = {
            name: {value: index for index, value in enumerate(sorted(seen[column].drop_nulls().unique()), start=FIRST)}
            for name, column in VOCABULARIES.items()
        }
        prices = seen["price"].drop_nulls().to_numpy()
        shares = np.linspace(0, 1, num_price_buckets + 1)[1:-1]
        edges = np.unique(np.quantile(prices, shares)) if len(prices) else np.empty(0)
        return cls(vocabularies, edges.astype(np.float32), dim)

    @classmethod
    def load(cls, folder: Path, spec: RankerSpec) -> Self:
        """Reads the encoder of a ranker artifact."""
        vocabularies = {
            name: {value: row + FIRST for row, value in enumerate(pl.read_parquet(folder / file)["value"])}
            for name, file in spec.vocabularies.items()
        }
        dim = spec.embedding_dim if spec.features.vectors else 0
        return cls(vocabularies, np.array(spec.price_edges, np.float32), dim)

    def save(self, folder: Path) -> dict[str, str]:
        """Writes the vocabularies; returns their file names for the spec."""
        files = {name: f"vocabulary_{name}.parquet" for name in self.vocabularies}
        for name, file in files.items():
            pl.DataFrame({"value": list(self.vocabularies[name])}, schema={"value": pl.String}).write_parquet(
                folder / file
            )
        return files

    @property
    def sizes(self) -> dict[str, int]:
        """Rows that an embedding table needs, by vocabulary, and for `price`."""
        sizes = {name: FIRST + len(values) for name, values in self.vocabularies.items()}
        return sizes | {"price": FIRST + len(self.price_edges) + 1}

    def encode(self, rows: ItemRows) -> EncodedItems:
        """Encodes N item rows; values that training did not see become unknown."""
        if self.dim == 0 or rows.vectors is None:
            vectors = np.zeros((len(rows.item_ids), self.dim), VECTOR_DTYPE)
        else:
            vectors = to_halves(rows.vectors)
            assert vectors.shape == (len(rows.item_ids), self.dim), (vectors.shape, self.dim)
        sides = zip(rows.categories, rows.brands, rows.prices, strict=True)
        return EncodedItems.of(self.codes(rows.item_ids, list(sides)), vectors)

    def codes(self, item_ids: Sequence[str], sides: Sequence[tuple[str | None, str | None, float | None]]) -> Ints:
        """Encodes ids and (category, brand, price) of N items; the rows are the fields of `EncodedItems`, [4, N]."""
        categories, brands, prices = zip(*sides, strict=True) if sides else ((), (), ())
        return np.stack(
            [
                self._indices("item", item_ids),
                self._indices("category", categories),
                self._indices("brand", brands),
                self._buckets(prices),
            ]
        )

    def _indices(self, vocabulary: str, values: Sequence[str | None]) -> Ints:
        find = self.vocabularies[vocabulary].get
        # A list, not a generator: this runs for every item of every request.
        return np.array([find(value or "", UNKNOWN) for value in values], np.int64)

    def _buckets(self, prices: Sequence[float | None]) -> Ints:
        values = np.array(prices, np.float32)
        buckets = FIRST + np.searchsorted(self.price_edges, values, side="right")
        return np.where(np.isnan(values), UNKNOWN, buckets)


def encode_event_types(event_types: Sequence[str]) -> Ints:
    """Indices of event types, [N]."""
    known = (EVENT_TYPE_INDEX.get(event_type, UNKNOWN) for event_type in event_types)
    return np.fromiter(known, np.int64, len(event_types))


def encode_request(
    spec: RankerSpec,
    *,
    candidate_ids: Sequence[str],
    candidates: EncodedItems,
    history: EncodedItems,
    history_event_types: Sequence[str],
    history_ages_s: Sequence[float],
    inferred: EncodedItems,
    inferred_ids: Sequence[str],
    inferred_scores: Sequence[float],
    timestamp: datetime,
) -> Feed:
    """Builds the graph's feed for one request (B = 1).

    Args:
        spec: the ranker.
        candidate_ids: ids of the C items to be ranked.
        candidates: the same, encoded by the ranker's encoder.
        history: the user's latest items, newest first; longer ones are searched, or cut.
        history_event_types: event type of each.
        history_ages_s: age of each at the time of the request, seconds (not at the time of the stored feature).
        inferred: the user's inferred items, most confident first; longer ones are cut.
        inferred_ids: ids of all that were inferred, those of `inferred` first.
        inferred_scores: confidence of each, in (0, 1].
        timestamp: time of the request.
    """
    length, inferred_length = spec.history_length, spec.inferred_length
    types, ages_s = encode_event_types(history_event_types), np.array(history_ages_s, np.float32)
    if spec.search_length and len(history.ids) > length:
        first = slice(spec.search_dim)
        looked_at = history.vectors[: spec.search_length, first].astype(np.float32)
        places = search_history(looked_at, candidates.vectors[:, first].astype(np.float32), keep=length)
        history = history.at(places)
        types, ages_s = types[places], ages_s[places]
    feed: Feed = {}
    _put(feed, "candidate", candidates, len(candidate_ids))
    _put(feed, "history", history, length)
    _put(feed, "inferred", inferred, inferred_length)
    feed["history_types"], feed["history_ages_s"] = _fitted(types, length), _fitted(ages_s, length)
    feed["inferred_scores"] = _fitted(np.array(inferred_scores[:inferred_length], np.float32), inferred_length)
    feed["candidate_confidences"] = own_confidences(candidate_ids, inferred_ids, inferred_scores)
    feed |= encode_moments(np.array([int(timestamp.timestamp())]))
    return {tensor.name: feed[tensor.name][None].astype(tensor.dtype, copy=False) for tensor in spec.inputs}


def encode_moments(times_s: Ints) -> Feed:
    """Hour (UTC) and weekday (Monday is 0) of moments in seconds since 1970, each as given."""
    # 1970 began with a Thursday.
    return {"context_hour": times_s // 3600 % 24, "context_weekday": (times_s // 86400 + 3) % 7}


def _put(feed: Feed, side: str, items: EncodedItems, length: int) -> None:
    for name, values in items._asdict().items():
        feed[f"{side}_{name}"] = _fitted(values, length)


def _fitted(values: Array, length: int) -> Array:
    """Cut or padded to a length."""
    if len(values) >= length:
        return values[:length]
    padded: Array = np.zeros((length, *values.shape[1:]), values.dtype)
    padded[: len(values)] = values
    return padded
