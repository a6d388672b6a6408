"""A feature view in Redis, in Feast's layout, written and read without Feast.

Commands are packed by the hundred and answered while the next hundreds are on their way. redis-py's own
pipeline makes objects and callbacks for each command, which takes twice as long.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice, repeat
from typing import Any, Final

from feast import FeatureStore, FeatureView
from feast.infra.online_stores.redis import RedisOnlineStore
from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]
from hiredis import pack_command
from redis import Redis

from feature_repo.online.redis_layout import RedisKeys, hash_field_names, name_time_field
from feature_repo.online.row_encoder import MAX_REMEMBERED, NO_VALUE, OnlineRows, RowEncoder

_COMMANDS_PER_PACKET: Final = 500
"""Commands sent at a time; the answers to as many are outstanding."""
_SECOND_US: Final = 1_000_000


class RedisView(RowEncoder):
    """A view in Redis."""

    def __init__(self, store: FeatureStore, view: FeatureView) -> None:
        """Takes a view of a store."""
        super().__init__(view)
        self._redis = RedisOnlineStore()._get_client(store.config.online_store)
        self._keys = RedisKeys(store.config, self.join_key)
        self._fields = [*hash_field_names(self.name, list(self.types)), name_time_field(self.name)]

    def read_rows(self, keys: Sequence[str]) -> OnlineRows:
        """Reads what the store holds under these keys."""

        def build_commands() -> Iterable[tuple[bytes, ...]]:
            return zip(repeat(b"HMGET"), map(self._keys.key_of, keys), *map(repeat, self._fields))

        answers = list(chain.from_iterable(self._send_commands(build_commands)))
        *values, times = (answers[field :: len(self._fields)] for field in range(len(self._fields)))
        filled_columns = [[NO_VALUE if value is None else value for value in column] for column in values]
        return OnlineRows(list(keys), filled_columns, list(map(_parse_time_us, times)))

    def write_rows(self, rows: OnlineRows) -> None:
        """Writes rows, whatever the store holds."""

        def build_commands() -> Iterable[tuple[bytes, ...]]:
            times = map(_serialize_time, rows.times_us)
            pairs = zip(map(repeat, self._fields), [*rows.values, times], strict=True)
            return zip(repeat(b"HSET"), map(self._keys.key_of, rows.keys), *chain.from_iterable(pairs))

        self._send_commands(build_commands)

    def _send_commands(self, build_commands: Callable[[], Iterable[tuple[bytes, ...]]]) -> list[Any]:
        """Sends commands that may be repeated: the client retries a lost connection."""
        answers: list[Any] = self._redis.get_retry().call_with_retry(
            lambda: list(_exchange_commands(self._redis, build_commands())), lambda _: None
        )
        return answers


def _exchange_commands(redis: Redis, commands: Iterable[tuple[bytes, ...]]) -> Iterator[Any]:
    """Yields the answer to each command, in order."""
    connection = redis.connection_pool.get_connection()
    try:
        num_awaited = 0
        remaining_commands = iter(commands)
        while packed_commands := list(map(pack_command, islice(remaining_commands, _COMMANDS_PER_PACKET))):
            connection.send_packed_command([b"".join(packed_commands)])
            yield from (connection.read_response() for _ in range(num_awaited))
            num_awaited = len(packed_commands)
        yield from (connection.read_response() for _ in range(num_awaited))
    except BaseException:
        # With answers outstanding, the next command would read them as its own.
        connection.disconnect()
        raise
    finally:
        redis.connection_pool.release(connection)


@lru_cache(MAX_REMEMBERED)
def _serialize_time(time_us: int) -> bytes:
    seconds, remainder_us = divmod(time_us, _SECOND_US)
    return bytes(Timestamp(seconds=seconds, nanos=1000 * remainder_us).SerializeToString())


@lru_cache(MAX_REMEMBERED)
def _parse_time_us(serialized: bytes | None) -> int | None:
    if serialized is None:
        return None
    timestamp = Timestamp.FromString(serialized)
    return int(timestamp.seconds * _SECOND_US + timestamp.nanos // 1000)
