"""Sinks of the event log: today a Redis stream.

Another one (Kafka, say) is one more class with the three methods of `serving.forwarding.Sink` and one more name in
`EventLogConfig.sink`. It must keep a file's position together with its lines, and take lines only where they follow
that position: Kafka in one transaction with a compacted topic of positions.
"""

import os
from collections.abc import Sequence
from typing import Final

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from contracts.errors import UserError
from serving.config import SINK_ENV, EventLogConfig
from serving.forwarding import Sink, SinkError

FIELD: Final = "record"
"""Field of a stream's entry: the record as JSON."""
_TIMEOUT_S: Final = 5.0
# A script, not MULTI: that would note the position even where an XADD before it fails.
_APPEND: Final = f"""
if (redis.call('HGET', KEYS[2], ARGV[1]) or '0') ~= ARGV[2] then
  return 0
end
for place = 5, #ARGV do
  if ARGV[4] == '' then
    redis.call('XADD', KEYS[1], '*', '{FIELD}', ARGV[place])
  else
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[4], '*', '{FIELD}', ARGV[place])
  end
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
return 1
"""


class RedisSink:
    """Streams `{<name>}:exposures` and `{<name>}:events`, and a hash of positions beside them."""

    def __init__(self, url: str, *, name: str, max_entries: int | None = None) -> None:
        """Prepares; the connection opens with the first call.

        Args:
            url: `redis://[:password@]host:port/db`.
            name: beginning of all keys; in braces, so that a cluster keeps them on one node.
            max_entries: about so many entries stay in each stream, the oldest go unread or not; None keeps all.
        """
        # No retry inside the client: it would not know whether a transaction that failed had gone through.
        self._redis = Redis.from_url(
            url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=Retry(NoBackoff(), 0)
        )
        self._append = self._redis.register_script(_APPEND)
        self._name = name
        self._max_entries = max_entries

    def position(self, source: str) -> int:
        """Bytes of a file that are in the streams."""
        try:
            return int(self._redis.hget(self._key("positions"), source) or 0)
        except RedisError as error:
            raise SinkError(str(error)) from error

    def send(self, kind: str, lines: Sequence[bytes], *, source: str, start: int, end: int) -> bool:
        """Appends lines to the stream of their kind and notes the position, as one step, if it holds `start` so far."""
        keys = [self._key(kind), self._key("positions")]
        try:
            return bool(self._append(keys=keys, args=[source, start, end, self._max_entries or "", *lines]))
        except RedisError as error:
            raise SinkError(str(error)) from error

    def close(self) -> None:
        """Closes the connection."""
        self._redis.close()

    def _key(self, what: str) -> str:
        return f"{{{self._name}}}:{what}"


def make_sink(config: EventLogConfig) -> Sink | None:
    """The sink that the config names; None where the files are all.

    Raises:
        UserError: the sink's address is not set, or is none.
    """
    if config.sink == "files":
        return None
    url = os.environ.get(SINK_ENV, "")
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise UserError(f"serving.event_log.sink = redis needs {SINK_ENV} = redis://[:password@]host:port/db")
    return RedisSink(url, name=config.stream, max_entries=config.stream_max_entries)
