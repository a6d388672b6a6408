"""The inputs of a ranker's graph, one row each: the spec, the feeds and the training batches are derived from
it.

A new input needs a row here and the place in `network/ranker_network.py` that reads it. If it is not a field
of an item, it also needs a column: in `lists/mapped_lists.py` for many lists, and in
`graph_feed.encode_request` for a request.

No torch here: the gateway imports this file.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy.typing as npt

from contracts.array_types import IntArray
from models.ranker.config import RankerFeatures

Array = npt.NDArray[Any]
ElementType = Literal["int64", "float32", "float16"]
Side = Literal["candidate", "history", "inferred", "context"]
"""Whom a value describes: a candidate, a behavior, an inferred behavior, or the whole request."""

ANY_NUM_CANDIDATES = -1
"""The number of candidates, which varies (Triton's convention)."""
VECTOR_LENGTH = -2
"""Stands for the length of an item vector, which a ranker learns from its item space."""
NUM_STATISTICS = 3
"""Numbers per candidate of `lists/item_statistics.py`."""


def compute_hours(times_s: IntArray) -> IntArray:
    """Hour (UTC) of moments in seconds since 1970."""
    return times_s // 3600 % 24


def compute_weekdays(times_s: IntArray) -> IntArray:
    """Weekday of moments in seconds since 1970; Monday is 0."""
    # 1970 began with a Thursday.
    return (times_s // 86400 + 3) % 7


class RankerInput(NamedTuple):
    """One input of the graph."""

    name: str
    """Name of the tensor: its side, then its field."""
    dtype: ElementType
    switches: tuple[str, ...]
    """Members of `RankerFeatures` that must all be on for the ranker to read it."""
    column: str | None = None
    """The column of `RankingLists` that fills it; a request has one of the same name. None: a field of
    `EncodedItems`, looked up for the items of its side."""
    width: int | None = None
    """Numbers per candidate or behavior, where there are several."""
    convert: Callable[[IntArray], IntArray] | None = None
    """What makes the input of its column, where they differ."""

    @property
    def side(self) -> Side:
        """Whom it describes."""
        side: Any = self.name.partition("_")[0]
        return side  # type: ignore[no-any-return]

    @property
    def field(self) -> str:
        """Its name without the side."""
        return self.name.partition("_")[2]

    def is_read_by(self, features: RankerFeatures) -> bool:
        """Whether a ranker with these switches takes it."""
        return all(getattr(features, switch) for switch in self.switches)

    def convert_column(self, values: Array) -> Array:
        """Makes the input of its column."""
        return values if self.convert is None else self.convert(values)


INPUT_TABLE: tuple[RankerInput, ...] = (
    RankerInput("candidate_ids", "int64", ("item_id",)),
    RankerInput("candidate_categories", "int64", ("category",)),
    RankerInput("candidate_brands", "int64", ("brand",)),
    RankerInput("candidate_price_buckets", "int64", ("price",)),
    # A history's ids also say where it ends, so every ranker reads them.
    RankerInput("history_ids", "int64", ()),
    RankerInput("history_categories", "int64", ("category",)),
    RankerInput("history_brands", "int64", ("brand",)),
    RankerInput("history_price_buckets", "int64", ("price",)),
    # Vectors are nearly all bytes of a request: they travel in half precision, the graph computes in float32.
    RankerInput("candidate_vectors", "float16", ("reads_vectors",), width=VECTOR_LENGTH),
    RankerInput("history_vectors", "float16", ("reads_vectors",), width=VECTOR_LENGTH),
    RankerInput("history_ages_s", "float32", ("recency",), column="history_ages_s"),
    RankerInput("history_types", "int64", ("recency",), column="history_types"),
    RankerInput("context_hour", "int64", ("moment",), column="times_s", convert=compute_hours),
    RankerInput("context_weekday", "int64", ("moment",), column="times_s", convert=compute_weekdays),
    RankerInput("context_scene", "int64", ("context",), column="scenes"),
    RankerInput(
        "context_vectors",
        "float16",
        ("context", "similarity"),
        column="context_vectors",
        width=VECTOR_LENGTH,
    ),
    RankerInput(
        "candidate_statistics", "float32", ("statistics",), column="statistics", width=NUM_STATISTICS
    ),
    RankerInput("inferred_scores", "float32", ("inferred",), column="inferred_scores"),
    RankerInput("inferred_ids", "int64", ("inferred", "item_id")),
    RankerInput("inferred_vectors", "float16", ("inferred", "reads_vectors"), width=VECTOR_LENGTH),
    RankerInput("candidate_confidences", "float32", ("inferred",), column="confidences"),
)
"""In the order of the exported graph, which deployed rankers rely on."""
INPUTS_BY_NAME = {row.name: row for row in INPUT_TABLE}
COLUMN_INPUTS = tuple(row for row in INPUT_TABLE if row.column is not None)
"""Those that lists hold themselves; the others are looked up in the catalogue."""
