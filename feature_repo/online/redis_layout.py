"""Where Feast keeps rows in Redis: its documented layout (docs/specs/online_store_format.md of Feast).

There is one hash per entity. Each feature has one field, named by a hash of view and feature. One more
field holds the time of each view's row. Values are serialized `feast.types.Value`.
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
    """Keys of one kind of entity. They differ in the id, which stands between its length and the project."""

    def __init__(self, config: RepoConfig, join_key: str) -> None:
        """Takes the store's configuration and the column of the ids, which are strings."""
        empty_entity = build_entity_key(join_key, "")
        empty_key = bytes(serialize_entity_key(empty_entity, config.entity_key_serialization_version))
        self._head = empty_key[: -_LENGTH.size]
        self._project = config.project.encode()

    def key_of(self, entity_id: str) -> bytes:
        """Builds the key of an entity's hash."""
        encoded_id = entity_id.encode()
        return b"".join((self._head, _LENGTH.pack(len(encoded_id)), encoded_id, self._project))


def build_entity_key(join_key: str, entity_id: str) -> EntityKey:
    """Builds an entity as Feast names it."""
    return EntityKey(join_keys=[join_key], entity_values=[Value(string_val=entity_id)])


def hash_field_names(view: str, features: Sequence[str]) -> list[bytes]:
    """Hashes the names of a view's features: its fields."""
    return [_hash_field_name(view, feature) for feature in features]


@lru_cache(maxsize=1024)
def _hash_field_name(view: str, feature: str) -> bytes:
    return bytes(_mmh3(f"{view}:{feature}"))


def name_time_field(view: str) -> bytes:
    """Names the field that holds the time of a view's row."""
    return f"_ts:{view}".encode()
