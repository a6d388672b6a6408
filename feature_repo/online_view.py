"""One feature view inside the online store, row by row: written, and read back as it lies there.

`FeastView` goes through Feast's provider and works with every store. `RedisView` writes and reads the same bytes in
Feast's Redis layout by itself: Feast's handling of each row takes twice as long.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol

import polars as pl
from feast import FeatureStore, FeatureView, ValueType
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.infra.provider import get_provider
from feast.protos.feast.types.Value_pb2 import FloatList, Int64List, StringList, Value
from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]

from feature_repo.redis_layout import RedisKeys, entity_key, field_names, time_field
from feature_repo.views import TIMESTAMP

_NO_VALUE: Final = b""
_SECOND_US: Final = 1_000_000
_MAKERS: Final[dict[ValueType, Callable[[Any], Value]]] = {
    ValueType.BYTES: lambda value: Value(bytes_val=value),
    ValueType.STRING: lambda value: Value(string_val=value),
    ValueType.DOUBLE: lambda value: Value(double_val=value),
    ValueType.UNIX_TIMESTAMP: lambda value: Value(unix_timestamp_val=value),
    ValueType.STRING_LIST: lambda value: Value(string_list_val=StringList(val=value)),
    ValueType.INT64_LIST: lambda value: Value(int64_list_val=Int64List(val=value)),
    ValueType.FLOAT_LIST: lambda value: Value(float_list_val=FloatList(val=value)),
}
"""Types of the fields in `views.py`."""


class OnlineRow(NamedTuple):
    """A row of a view."""

    key: str
    """Id of the user or the item."""
    values: tuple[bytes, ...]
    """Serialized `feast.types.Value` of each feature, in the view's order; empty where there is none."""
    time_us: int
    """Microseconds since 1970."""


class OnlineView(Protocol):
    """A registered feature view in an online store."""

    name: str

    def encode(self, frame: pl.DataFrame) -> list[OnlineRow]:
        """Rows of the view's offline table as the store holds them."""
        ...

    def read(self, keys: Sequence[str]) -> list[OnlineRow | None]:
        """What the store holds under these keys; None where there is nothing."""
        ...

    def write(self, rows: Sequence[OnlineRow]) -> None:
        """Writes rows, whatever the store holds."""
        ...


def open_view(store: FeatureStore, name: str) -> OnlineView:
    """Opens a view of a store (`open_store(overwrite_newer=True)`); connections open with the first call."""
    view = store.get_feature_view(name)
    return RedisView(store, view) if store.config.online_store.type == "redis" else FeastView(store, view)


def digest_rows(rows: Iterable[OnlineRow]) -> bytes:
    """Digest of keys and values, in their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(b"\0".join((row.key.encode(), *row.values)))
    return digest.digest()


class FeastView:
    """A view in any store, through Feast's provider."""

    def __init__(self, store: FeatureStore, view: FeatureView) -> None:
        """Takes a view of a store."""
        self.name = str(view.name)
        self._view = view
        self._config = store.config
        self._provider = get_provider(store.config)
        (self._join_key,) = view.join_keys
        self._types = {field.name: field.dtype.to_value_type() for field in view.features}

    def encode(self, frame: pl.DataFrame) -> list[OnlineRow]:
        """Rows of the view's offline table as the store holds them."""
        values = zip(*(_encode(frame[name], kind) for name, kind in self._types.items()), strict=True)
        times_us = frame[TIMESTAMP].dt.epoch("us").to_list()
        return [OnlineRow(*row) for row in zip(frame[self._join_key].to_list(), values, times_us, strict=True)]

    def read(self, keys: Sequence[str]) -> list[OnlineRow | None]:
        """What the store holds under these keys; None where there is nothing."""
        entities = [entity_key(self._join_key, key) for key in keys]
        found = self._provider.online_read(self._config, self._view, entities, list(self._types))
        return [
            OnlineRow(key, tuple(values[name].SerializeToString() for name in self._types), _to_us(time))
            if values
            else None
            for key, (time, values) in zip(keys, found, strict=True)
        ]

    def write(self, rows: Sequence[OnlineRow]) -> None:
        """Writes rows, whatever the store holds."""
        data = [
            (
                entity_key(self._join_key, row.key),
                dict(zip(self._types, map(Value.FromString, row.values), strict=True)),
                datetime.fromtimestamp(row.time_us / _SECOND_US, UTC),
                None,
            )
            for row in rows
        ]
        if data:
            self._provider.online_write_batch(self._config, self._view, data, None)


class RedisView(FeastView):
    """A view in Redis, in Feast's layout."""

    def __init__(self, store: FeatureStore, view: FeatureView) -> None:
        """Takes a view of a store."""
        super().__init__(store, view)
        self._redis = RedisOnlineStore()._get_client(store.config.online_store)
        self._keys = RedisKeys(store.config, self._join_key)
        self._fields = [*field_names(self.name, list(self._types)), time_field(self.name)]

    def read(self, keys: Sequence[str]) -> list[OnlineRow | None]:
        """What the store holds under these keys; None where there is nothing."""
        with self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.execute_command("HMGET", self._keys.of(key), *self._fields)
            found = pipe.execute()
        return [_row(key, values) for key, values in zip(keys, found, strict=True)]

    def write(self, rows: Sequence[OnlineRow]) -> None:
        """Writes rows, whatever the store holds."""
        with self._redis.pipeline(transaction=False) as pipe:
            for row in rows:
                values = (*row.values, _moment(row.time_us))
                pairs = (part for pair in zip(self._fields, values, strict=True) for part in pair)
                pipe.execute_command("HSET", self._keys.of(row.key), *pairs)
            pipe.execute()


def _row(key: str, values: Sequence[bytes | None]) -> OnlineRow | None:
    *features, moment = values
    if moment is None:
        return None
    time = Timestamp.FromString(moment)
    filled = tuple(_NO_VALUE if value is None else value for value in features)
    return OnlineRow(key, filled, time.seconds * _SECOND_US + time.nanos // 1000)


def _encode(column: pl.Series, kind: ValueType) -> list[bytes]:
    """Serialized values of a column; Feast's own conversion takes ten times as long for lists."""
    make = _MAKERS[kind]
    plain = column.dt.epoch("s") if column.dtype.is_temporal() else column
    return [_NO_VALUE if value is None else make(value).SerializeToString() for value in plain.to_list()]


def _moment(time_us: int) -> bytes:
    seconds, rest = divmod(time_us, _SECOND_US)
    return bytes(Timestamp(seconds=seconds, nanos=1000 * rest).SerializeToString())


def _to_us(time: datetime) -> int:
    return round(time.timestamp() * _SECOND_US)
