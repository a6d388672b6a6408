"""Items as integers and half-precision vectors; the same in training and in serving.

Integers: 0 is padding, 1 is unknown, values start at 2. No torch here: the gateway imports this file.

Legend: N items, D numbers of an item vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import polars as pl

from contracts.array_types import FloatArray, HalfArray, IntArray
from contracts.half_vectors import VECTOR_DTYPE, convert_to_half
from contracts.tables import EVENT_TYPES, SCENES
from models.ranker.inputs.input_table import Array
from models.ranker.inputs.ranker_spec import RankerSpec

Feed = dict[str, Array]
"""Name of a graph input -> its values."""

PADDING, UNKNOWN, FIRST = 0, 1, 2
VOCABULARIES = {"item": "item_id", "category": "category", "brand": "brand"}
"""Vocabulary -> the items column that it encodes."""
EVENT_TYPE_INDEX = {name: index for index, name in enumerate(EVENT_TYPES, start=FIRST)}
NUM_EVENT_TYPES = FIRST + len(EVENT_TYPES)
SCENE_INDEX = {name: index for index, name in enumerate(SCENES, start=FIRST)}
NUM_SCENES = FIRST + len(SCENES)


class RawItems(NamedTuple):
    """What is known of some items, as parallel sequences (an item without an entry in a field: None)."""

    item_ids: Sequence[str]
    categories: Sequence[str | None]
    brands: Sequence[str | None]
    prices: Sequence[float | None]
    vectors: FloatArray | None
    """[N, D]; a row of zeros where an item has no vector. None: no vectors at all."""


class EncodedItems(NamedTuple):
    """Items as arrays of one leading shape."""

    ids: IntArray
    categories: IntArray
    brands: IntArray
    price_buckets: IntArray
    vectors: HalfArray
    """[..., D]; zeros where an item has no vector."""

    @classmethod
    def from_codes(cls, codes: IntArray, vectors: HalfArray) -> Self:
        """Splits the codes [4, ...] of `ItemEncoder.encode_codes`."""
        ids, categories, brands, price_buckets = codes
        return cls(ids, categories, brands, price_buckets, vectors)

    def take_items(self, rows: IntArray) -> "EncodedItems":
        """Takes the items at some rows of the leading axis."""
        return EncodedItems._make(values[rows] for values in self)


@dataclass(frozen=True)
class ItemTable:
    """The encoded catalogue. Row 0 is padding, row 1 an item that the catalogue does not hold."""

    item_id_enum: pl.Enum
    """Item ids; the item with physical code n is row n + 2."""
    encoded_items: EncodedItems
    """One row per item."""


@dataclass(frozen=True)
class ItemEncoder:
    """Encodes items with vocabularies that were fitted before the training end."""

    vocabularies: dict[str, dict[str, int]]
    """Vocabulary -> value -> index."""
    price_edges: FloatArray
    """Inner edges of the price buckets, ascending."""
    dim: int
    """D; 0 where the ranker reads no vectors."""

    @classmethod
    def fit_vocabularies(
        cls, items: pl.DataFrame, *, training_ids: pl.Series, num_price_buckets: int, dim: int
    ) -> Self:
        """Fits vocabularies and price buckets on the items that training saw; all others become unknown.

        Args:
            items: the catalogue.
            training_ids: distinct ids of the items with training events.
            num_price_buckets: number of price buckets.
            dim: length of the item vectors.
        """
        training_items = items.filter(pl.col("item_id").is_in(training_ids.implode()))
        vocabularies = {
            name: {
                value: index
                for index, value in enumerate(
                    sorted(training_items[column].drop_nulls().unique()), start=FIRST
                )
            }
            for name, column in VOCABULARIES.items()
        }
        # Prices are skewed, so buckets lie at quantiles; equal quantiles fall together.
        prices = training_items["price"].drop_nulls().to_numpy()
        inner_quantiles = np.linspace(0, 1, num_price_buckets + 1)[1:-1]
        price_edges = np.unique(np.quantile(prices, inner_quantiles)) if len(prices) else np.empty(0)
        return cls(vocabularies, price_edges.astype(np.float32), dim)

    @classmethod
    def load_artifact(cls, folder: Path, spec: RankerSpec) -> Self:
        """Reads the encoder of a ranker artifact."""
        vocabularies = {
            name: {
                value: row + FIRST for row, value in enumerate(pl.read_parquet(folder / file_name)["value"])
            }
            for name, file_name in spec.vocabularies.items()
        }
        dim = spec.embedding_dim if spec.features.reads_vectors else 0
        return cls(vocabularies, np.array(spec.price_edges, np.float32), dim)

    def save_vocabularies(self, folder: Path) -> dict[str, str]:
        """Writes the vocabularies; returns their file names for the spec."""
        file_names = {name: f"vocabulary_{name}.parquet" for name in self.vocabularies}
        for name, file_name in file_names.items():
            frame = pl.DataFrame({"value": list(self.vocabularies[name])}, schema={"value": pl.String})
            frame.write_parquet(folder / file_name)
        return file_names

    @property
    def table_sizes(self) -> dict[str, int]:
        """Rows that an embedding table needs, by vocabulary, and for `price`."""
        table_sizes = {name: FIRST + len(values) for name, values in self.vocabularies.items()}
        return table_sizes | {"price": FIRST + len(self.price_edges) + 1}

    def encode_items(self, raw_items: RawItems) -> EncodedItems:
        """Encodes N items; values that training did not see become unknown."""
        num_items = len(raw_items.item_ids)
        if self.dim == 0 or raw_items.vectors is None:
            vectors = np.zeros((num_items, self.dim), VECTOR_DTYPE)
        else:
            vectors = convert_to_half(raw_items.vectors)
            assert vectors.shape == (num_items, self.dim), (vectors.shape, self.dim)
        attributes = zip(raw_items.categories, raw_items.brands, raw_items.prices, strict=True)
        return EncodedItems.from_codes(self.encode_codes(raw_items.item_ids, list(attributes)), vectors)

    def encode_codes(
        self, item_ids: Sequence[str], attributes: Sequence[tuple[str | None, str | None, float | None]]
    ) -> IntArray:
        """Encodes ids and (category, brand, price) of N items as [4, N], in the order of `EncodedItems`."""
        categories, brands, prices = zip(*attributes, strict=True) if attributes else ((), (), ())
        return np.stack(
            [
                self._look_up_indices("item", item_ids),
                self._look_up_indices("category", categories),
                self._look_up_indices("brand", brands),
                self._assign_price_buckets(prices),
            ]
        )

    def _look_up_indices(self, vocabulary: str, values: Sequence[str | None]) -> IntArray:
        look_up = self.vocabularies[vocabulary].get
        # A list, not a generator: this runs for every item of every request.
        return np.array([look_up(value or "", UNKNOWN) for value in values], np.int64)

    def _assign_price_buckets(self, prices: Sequence[float | None]) -> IntArray:
        price_array = np.array(prices, np.float32)
        buckets = FIRST + np.searchsorted(self.price_edges, price_array, side="right")
        return np.where(np.isnan(price_array), UNKNOWN, buckets)


def encode_event_types(event_types: Sequence[str]) -> IntArray:
    """Indices of event types, [N]."""
    indices = (EVENT_TYPE_INDEX.get(event_type, UNKNOWN) for event_type in event_types)
    return np.fromiter(indices, np.int64, len(event_types))
