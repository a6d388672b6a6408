"""Rows of a feature view as the online store holds them, by columns.

Columns hold a batch in a handful of lists instead of a few objects a row, which Python's garbage collector would have
to look through again and again: that alone took a quarter of the time.
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

from feature_repo.views import TIMESTAMP

NO_VALUE: Final = b""
REMEMBERED: Final = 1 << 16
"""Equal values that are converted once: categories, versions, days."""


@dataclass(frozen=True)
class Rows:
    """Rows of a view."""

    keys: list[str]
    """Ids of users or items."""
    values: list[list[bytes]]
    """Of each feature, in the view's order: serialized `feast.types.Value`; empty where there is none."""
    times_us: list[int | None]
    """Microseconds since 1970; None where the store holds no such row."""

    def __len__(self) -> int:
        return len(self.keys)

    def select(self, chosen: Sequence[bool]) -> Self:
        """The chosen rows."""
        values = [list(compress(column, chosen)) for column in self.values]
        return type(self)(list(compress(self.keys, chosen)), values, list(compress(self.times_us, chosen)))

    def are_in(self, stored: "Rows") -> list[bool]:
        """Which rows are stored with these values."""
        there = [time is not None for time in stored.times_us]
        equal = [map(eq, *columns) for columns in zip(self.values, stored.values, strict=True)]
        return list(map(all, zip(there, *equal, strict=True)))

    def digest(self) -> bytes:
        """Digest of keys and values, in their order."""
        keys = [key.encode() for key in self.keys]
        return hashlib.sha256(b"\0".join(chain.from_iterable(zip(keys, *self.values, strict=True)))).digest()


class RowEncoder:
    """A registered view, and its offline table as the online store holds it."""

    def __init__(self, view: FeatureView) -> None:
        """Takes a view of one entity."""
        self.name = str(view.name)
        (self.join_key,) = view.join_keys
        self.types: dict[str, ValueType] = {field.name: field.dtype.to_value_type() for field in view.features}

    def encode(self, frame: pl.DataFrame) -> Rows:
        """Rows of the view's offline table as the store holds them."""
        values = [_encode(frame[name], kind) for name, kind in self.types.items()]
        return Rows(frame[self.join_key].to_list(), values, frame[TIMESTAMP].dt.epoch("us").to_list())


def _encode(column: pl.Series, kind: ValueType) -> list[bytes]:
    """Serialized values of a column; Feast's own conversion takes ten times as long for lists."""
    make = _MAKERS[kind]
    plain = column.dt.epoch("s") if column.dtype.is_temporal() else column
    values = _iter_lists(plain) if isinstance(plain.dtype, pl.List) else plain.to_list()
    return [NO_VALUE if value is None else make(value) for value in values]


def _iter_lists(column: pl.Series) -> Iterator[list[Any] | None]:
    """The lists of a column, one at a time."""
    lengths = column.list.len().to_list()
    flat = column.explode(empty_as_null=False, keep_nulls=False).to_list()
    end = 0
    for length in lengths:
        start, end = end, end + (length or 0)
        yield None if length is None else flat[start:end]


def _serialize(**value: Any) -> bytes:
    return bytes(Value(**value).SerializeToString())


@lru_cache(REMEMBERED)
def _bytes_head(length: int) -> bytes:
    """What stands before the bytes in a serialized value of so many."""
    whole = _serialize(bytes_val=bytes(length))
    return whole[: len(whole) - length]


_MAKERS: Final[dict[ValueType, Callable[[Any], bytes]]] = {
    ValueType.BYTES: lambda value: _bytes_head(len(value)) + value,
    ValueType.STRING: lru_cache(REMEMBERED)(lambda value: _serialize(string_val=value)),
    ValueType.DOUBLE: lambda value: _serialize(double_val=value),
    ValueType.UNIX_TIMESTAMP: lru_cache(REMEMBERED)(lambda value: _serialize(unix_timestamp_val=value)),
    ValueType.STRING_LIST: lambda value: _serialize(string_list_val=StringList(val=value)),
    ValueType.INT64_LIST: lambda value: _serialize(int64_list_val=Int64List(val=value)),
    ValueType.FLOAT_LIST: lambda value: _serialize(float_list_val=FloatList(val=value)),
}
"""Types of the fields in `views.py`."""
