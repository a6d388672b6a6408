"""Where Feast keeps rows in Redis: its documented layout (docs/specs/online_store_format.md of Feast).

One hash per entity; of each feature one field, named by a hash of view and feature, and one field with the time of
each view's row. Values are serialized `feast.types.Value`.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import _mmh3
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig

_LENGTH: Final = struct.Struct("<I")


class RedisKeys:
    """Keys of one kind of entity. They differ in the id alone, which comes after its length, before the project."""

    def __init__(self, config: RepoConfig, join_key: str) -> None:
        """Takes the store's configuration and the column of the ids, which are strings."""
        nobody = entity_key(join_key, "")
        self._head = bytes(serialize_entity_key(nobody, config.entity_key_serialization_version))[: -_LENGTH.size]
        self._project = config.project.encode()

    def of(self, entity_id: str) -> bytes:
        """Key of an entity's hash."""
        encoded = entity_id.encode()
        return b"".join((self._head, _LENGTH.pack(len(encoded)), encoded, self._project))


def entity_key(join_key: str, entity_id: str) -> EntityKey:
    """An entity as Feast names it."""
    return EntityKey(join_keys=[join_key], entity_values=[Value(string_val=entity_id)])


def field_names(view: str, features: Sequence[str]) -> list[bytes]:
    """Fields of a view's features."""
    return [_field_name(view, feature) for feature in features]


@lru_cache(maxsize=1024)
def _field_name(view: str, feature: str) -> bytes:
    return bytes(_mmh3(f"{view}:{feature}"))


def time_field(view: str) -> bytes:
    """Field that holds the time of a view's row."""
    return f"_ts:{view}".encode()
