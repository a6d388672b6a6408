"""One feature view inside the online store, row by row: written, and read back as it lies there.

Rows go through Feast's provider, the same that its own materialization writes through, but are encoded column by column
and never pass through pandas.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import polars as pl
from feast import FeatureStore
from feast.infra.provider import get_provider
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import python_values_to_proto_values

from feature_repo.views import TIMESTAMP

Values = dict[str, Value]
"""Feature -> value; an empty value where there is none."""


class OnlineRow(NamedTuple):
    """A row as Feast's stores take it."""

    key: EntityKey
    values: Values
    timestamp: datetime
    created_at: None = None


class Stored(NamedTuple):
    """A row as it lies in the store."""

    timestamp: datetime
    values: Values


class OnlineView:
    """A registered feature view in the online store."""

    def __init__(self, store: FeatureStore, name: str) -> None:
        """Opens the view; connections open with the first call."""
        self._config = store.config
        self._provider = get_provider(store.config)
        self._view = store.get_feature_view(name)
        (self._key,) = self._view.join_keys
        self._types = {field.name: field.dtype.to_value_type() for field in self._view.features}

    def encode(self, frame: pl.DataFrame) -> list[OnlineRow]:
        """Rows of the view's offline table as the store takes them."""
        keys = [
            EntityKey(join_keys=[self._key], entity_values=[Value(string_val=key)])
            for key in frame[self._key].to_list()
        ]
        columns = [python_values_to_proto_values(frame[name].to_list(), kind) for name, kind in self._types.items()]
        values = (dict(zip(self._types, row, strict=True)) for row in zip(*columns, strict=True))
        return [OnlineRow(*row) for row in zip(keys, values, frame[TIMESTAMP].to_list(), strict=True)]

    @property
    def name(self) -> str:
        """Of the view."""
        return str(self._view.name)

    def read(self, rows: Sequence[OnlineRow]) -> list[Stored | None]:
        """What the store holds under the keys of these rows; None where there is nothing."""
        # The store appends to the list of features that it is given.
        found = self._provider.online_read(self._config, self._view, [row.key for row in rows], list(self._types))
        return [Stored(time, values) if time and _is_there(values) else None for time, values in found]

    def write(self, rows: Sequence[OnlineRow]) -> None:
        """Writes rows, whatever the store holds (`open_store(overwrite_newer=True)`)."""
        if rows:
            self._provider.online_write_batch(self._config, self._view, list(rows), None)


def digest_rows(rows: Iterable[OnlineRow]) -> bytes:
    """Digest of keys and values, in their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(row.key.entity_values[0].string_val.encode())
        for value in row.values.values():
            digest.update(value.SerializeToString(deterministic=True))
    return digest.digest()


def _is_there(values: Values | None) -> bool:
    # Redis gives empty values for a key that it does not hold.
    return values is not None and any(value.WhichOneof("val") for value in values.values())
