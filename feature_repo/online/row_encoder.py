"""Rows of a feature view as the online store holds them, by columns.

Columns hold a batch in a handful of lists. With a few objects a row, Python's garbage collector looked
through them again and again: that alone took a quarter of the time.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, compress
from operator import eq
from typing import Any, Final, Self

import polars as pl
from feast import FeatureView, ValueType
from feast.protos.feast.types.Value_pb2 import FloatList, Int64List, StringList, Value

from feature_repo.feature_views import TIMESTAMP

NO_VALUE: Final = b""
MAX_REMEMBERED: Final = 1 << 16
"""Equal values that are converted once: categories, versions, days."""


@dataclass(frozen=True)
class OnlineRows:
    """Rows of a view, by columns."""

    keys: list[str]
    """Ids of users or items."""
    values: list[list[bytes]]
    """Of each feature, in the view's order: serialized `feast.types.Value`; empty where there is none."""
    times_us: list[int | None]
    """Microseconds since 1970; None where the store holds no such row."""

    def __len__(self) -> int:
        return len(self.keys)

    def select_rows(self, is_chosen: Sequence[bool]) -> Self:
        """Selects rows by a mask."""
        keys, times_us = list(compress(self.keys, is_chosen)), list(compress(self.times_us, is_chosen))
        return type(self)(keys, [list(compress(column, is_chosen)) for column in self.values], times_us)

    def are_stored_in(self, stored_rows: "OnlineRows") -> list[bool]:
        """Tells which rows are stored with these values."""
        is_stored = [time is not None for time in stored_rows.times_us]
        columns_equal = [map(eq, *columns) for columns in zip(self.values, stored_rows.values, strict=True)]
        return list(map(all, zip(is_stored, *columns_equal, strict=True)))

    def digest_rows(self) -> bytes:
        """Digests keys and values, in their order; times do not count."""
        encoded_keys = [key.encode() for key in self.keys]
        cells = chain.from_iterable(zip(encoded_keys, *self.values, strict=True))
        return hashlib.sha256(b"\0".join(cells)).digest()


class RowEncoder:
    """A registered view, and its offline table as the online store holds it."""

    def __init__(self, view: FeatureView) -> None:
        """Takes a view of one entity."""
        self.name = str(view.name)
        (self.join_key,) = view.join_keys
        self.types: dict[str, ValueType] = {f.name: f.dtype.to_value_type() for f in view.features}

    def encode_frame(self, frame: pl.DataFrame) -> OnlineRows:
        """Encodes rows of the view's offline table as the store holds them."""
        values = [_encode_column(frame[name], kind) for name, kind in self.types.items()]
        return OnlineRows(frame[self.join_key].to_list(), values, frame[TIMESTAMP].dt.epoch("us").to_list())


def _encode_column(column: pl.Series, kind: ValueType) -> list[bytes]:
    """Serializes the values of a column."""
    # Feast's own conversion takes ten times as long for lists.
    serialize = _SERIALIZERS[kind]
    # Feast keeps whole seconds of a time.
    plain_column = column.dt.epoch("s") if column.dtype.is_temporal() else column
    values = _iter_lists(plain_column) if isinstance(plain_column.dtype, pl.List) else plain_column.to_list()
    return [NO_VALUE if value is None else serialize(value) for value in values]


def _iter_lists(column: pl.Series) -> Iterator[list[Any] | None]:
    """Yields the lists of a column, one at a time."""
    lengths = column.list.len().to_list()
    flat_values = column.explode(empty_as_null=False, keep_nulls=False).to_list()
    end = 0
    for length in lengths:
        start, end = end, end + (length or 0)
        yield None if length is None else flat_values[start:end]


def _serialize_value(**value: Any) -> bytes:
    return bytes(Value(**value).SerializeToString())


@lru_cache(MAX_REMEMBERED)
def _serialize_bytes_head(length: int) -> bytes:
    """Serializes what stands before the bytes in a value of so many."""
    serialized = _serialize_value(bytes_val=bytes(length))
    return serialized[: len(serialized) - length]


_SERIALIZERS: Final[dict[ValueType, Callable[[Any], bytes]]] = {
    ValueType.BYTES: lambda value: _serialize_bytes_head(len(value)) + value,
    ValueType.STRING: lru_cache(MAX_REMEMBERED)(lambda value: _serialize_value(string_val=value)),
    ValueType.DOUBLE: lambda value: _serialize_value(double_val=value),
    ValueType.UNIX_TIMESTAMP: lru_cache(MAX_REMEMBERED)(
        lambda time: _serialize_value(unix_timestamp_val=time)
    ),
    ValueType.STRING_LIST: lambda value: _serialize_value(string_list_val=StringList(val=value)),
    ValueType.INT64_LIST: lambda value: _serialize_value(int64_list_val=Int64List(val=value)),
    ValueType.FLOAT_LIST: lambda value: _serialize_value(float_list_val=FloatList(val=value)),
}
"""Types of the fields in `feature_views.py`."""
