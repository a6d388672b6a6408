"""A feature view in Redis, in Feast's layout, written and read without Feast.

Commands are packed by the hundred and answered while the next hundreds are on their way: redis-py's own pipeline makes
objects and callbacks for each command, which takes twice as long.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice, repeat
from typing import Any, Final, TypeVar

from feast import FeatureStore, FeatureView
from feast.infra.online_stores.redis import RedisOnlineStore
from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]
from hiredis import pack_command
from redis import Redis

from feature_repo.online_rows import NO_VALUE, REMEMBERED, RowEncoder, Rows
from feature_repo.redis_layout import RedisKeys, field_names, time_field

Command = tuple[bytes, ...]
Result = TypeVar("Result")

_PACKET: Final = 500
"""Commands sent at a time; the answers to as many are outstanding."""
_SECOND_US: Final = 1_000_000


class RedisView(RowEncoder):
    """A view in Redis."""

    def __init__(self, store: FeatureStore, view: FeatureView) -> None:
        """Takes a view of a store."""
        super().__init__(view)
        self._redis = RedisOnlineStore()._get_client(store.config.online_store)
        self._keys = RedisKeys(store.config, self.join_key)
        self._fields = [*field_names(self.name, list(self.types)), time_field(self.name)]

    def read(self, keys: Sequence[str]) -> Rows:
        """What the store holds under these keys."""

        def read_once() -> list[bytes | None]:
            commands = zip(repeat(b"HMGET"), map(self._keys.of, keys), *map(repeat, self._fields))
            return list(chain.from_iterable(_exchange(self._redis, commands)))

        found = self._retried(read_once)
        *values, moments = (found[field :: len(self._fields)] for field in range(len(self._fields)))
        filled = [[NO_VALUE if value is None else value for value in column] for column in values]
        return Rows(list(keys), filled, list(map(_to_us, moments)))

    def write(self, rows: Rows) -> None:
        """Writes rows, whatever the store holds."""

        def write_once() -> None:
            moments = map(_to_moment, rows.times_us)
            pairs = zip(map(repeat, self._fields), [*rows.values, moments], strict=True)
            commands = zip(repeat(b"HSET"), map(self._keys.of, rows.keys), *chain.from_iterable(pairs))
            deque(_exchange(self._redis, commands), maxlen=0)

        self._retried(write_once)

    def _retried(self, work: Callable[[], Result]) -> Result:
        """Lost connections are the client's to retry, as in a pipeline of its own; both commands may be repeated."""
        result: Result = self._redis.get_retry().call_with_retry(work, lambda _: None)
        return result


def _exchange(redis: Redis, commands: Iterable[Command]) -> Iterator[Any]:
    """Yields the answer to each command, in order. A connection with answers outstanding is never used again."""
    connection = redis.connection_pool.get_connection()
    try:
        awaited = 0
        remaining = iter(commands)
        while packet := list(map(pack_command, islice(remaining, _PACKET))):
            connection.send_packed_command([b"".join(packet)])
            yield from (connection.read_response() for _ in range(awaited))
            awaited = len(packet)
        yield from (connection.read_response() for _ in range(awaited))
    except BaseException:
        connection.disconnect()
        raise
    finally:
        redis.connection_pool.release(connection)


@lru_cache(REMEMBERED)
def _to_moment(time_us: int) -> bytes:
    seconds, rest = divmod(time_us, _SECOND_US)
    return bytes(Timestamp(seconds=seconds, nanos=1000 * rest).SerializeToString())


@lru_cache(REMEMBERED)
def _to_us(moment: bytes | None) -> int | None:
    if moment is None:
        return None
    time = Timestamp.FromString(moment)
    return int(time.seconds * _SECOND_US + time.nanos // 1000)
