"""The event log's sink in Redis streams. One call does all of its work or nothing.

Another sink (Kafka, say) is one more class with the three methods of `RedisSink` and one more name in
`EventLogConfig.sink`. It must keep a file's position together with its lines, and take lines only where they
follow that position: Kafka in one transaction with a compacted topic of positions.
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

RECORD_FIELD: Final = "record"
"""Field of a stream's entry: the record as JSON."""
_TIMEOUT_S: Final = 5.0
# A script, not MULTI: that would note the position even where an XADD before it fails.
_STORE_SCRIPT: Final = f"""
if (redis.call('HGET', KEYS[2], ARGV[1]) or '0') ~= ARGV[2] then
  return 0
end
for place = 5, #ARGV do
  if ARGV[4] == '' then
    redis.call('XADD', KEYS[1], '*', '{RECORD_FIELD}', ARGV[place])
  else
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[4], '*', '{RECORD_FIELD}', ARGV[place])
  end
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
return 1
"""


class SinkError(Exception):
    """The sink cannot be reached, or refuses."""


class RedisSink:
    """Streams `{<name>}:exposures` and `{<name>}:events`, and a hash of positions beside them."""

    def __init__(self, url: str, *, name: str, max_entries: int | None = None) -> None:
        """Prepares; the connection opens with the first call.

        Args:
            url: `redis://[:password@]host:port/db`.
            name: beginning of all keys; in braces, so that a cluster keeps them on one node.
            max_entries: about so many entries stay in each stream, the oldest go unread or not; None keeps
                all.
        """
        self._redis = _connect(url)
        self._store_script = self._redis.register_script(_STORE_SCRIPT)
        self._name = name
        self._max_entries = max_entries

    def read_position(self, source: str) -> int:
        """Bytes of a file that the sink holds.

        Raises:
            SinkError: the sink cannot be reached.
        """
        try:
            return int(self._redis.hget(self._full_key("positions"), source) or 0)
        except RedisError as error:
            raise SinkError(str(error)) from error

    def store_lines(self, kind: str, lines: Sequence[bytes], *, source: str, start: int, end: int) -> bool:
        """Stores the lines between two positions of a file, and with them that it holds the file up to `end`.

        Returns:
            False, and nothing is stored, where the sink does not hold the file up to `start` and no further.

        Raises:
            SinkError: nothing was stored, or it is not known whether it was: `read_position` tells.
        """
        script_keys = [self._full_key(kind), self._full_key("positions")]
        script_arguments = [source, start, end, self._max_entries or "", *lines]
        try:
            return bool(self._store_script(keys=script_keys, args=script_arguments))
        except RedisError as error:
            raise SinkError(str(error)) from error

    def close(self) -> None:
        """Closes the connection."""
        self._redis.close()

    def _full_key(self, name: str) -> str:
        return name_stream_key(self._name, name)


def name_stream_key(stream: str, name: str) -> str:
    """Key of one of the log's streams, or of what lies beside them."""
    # What stands in braces chooses the node of a cluster: a script may only touch one.
    return f"{{{stream}}}:{name}"


def open_sink(config: EventLogConfig) -> RedisSink | None:
    """The sink that the config names; None where the files are all.

    Raises:
        UserError: the sink's address is not set, or is none.
    """
    if config.sink == "files":
        return None
    return RedisSink(_read_sink_url(), name=config.stream, max_entries=config.stream_max_entries)


def connect_to_sink() -> Redis:
    """A client of the sink, for reading; the connection opens with the first call.

    Raises:
        UserError: the sink's address is not set, or is none.
    """
    return _connect(_read_sink_url())


def _connect(url: str) -> Redis:
    # No retry inside the client: it would not know whether a transaction that failed had gone through.
    return Redis.from_url(
        url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=Retry(NoBackoff(), 0)
    )


def _read_sink_url() -> str:
    sink_url = os.environ.get(SINK_ENV, "")
    if not sink_url.startswith(("redis://", "rediss://", "unix://")):
        raise UserError(f"serving.event_log.sink = redis needs {SINK_ENV} = redis://[:password@]host:port/db")
    return sink_url
