"""Calls to a cluster that goes through bad minutes: reads are repeated, writes are made exactly once.

A write whose answer was lost may have been done. So before each further attempt the cluster is asked for what
the write would have made; only where it is not there, it is made.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

import urllib3

PASSING_STATUS: Final = frozenset({0, 408, 425, 429, 500, 502, 503, 504})
"""What a server answers that is overloaded, or on its way up or down; 0 is no answer."""
_CONFLICT: Final = 409
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long, and in which steps, failing calls are repeated."""

    limit_s: float = 300.0
    """A call that fails for so long without a break is given up."""
    first_pause_s: float = 0.5
    """Pause after the first failure; each further one is twice as long."""
    longest_pause_s: float = 30.0
    """No pause is longer."""
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    """Waits; a test puts a clock of its own here."""
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    """Tells the seconds."""

    def read(self, read: Callable[[], _T], *, also: frozenset[int] = frozenset()) -> _T:
        """Reads, and reads again while the cluster fails.

        Args:
            read: changes nothing.
            also: further HTTP statuses that may pass, such as 401 while a token is renewed.

        Raises:
            Exception: the last failure, where it does not pass or went on for too long.
        """
        return self._repeat(read, also=also)

    def write(self, write: Callable[[], _T], *, find: Callable[[], _T | None]) -> _T:
        """Makes something once.

        Args:
            write: makes it.
            find: returns it where it is there already.

        Raises:
            Exception: the last failure, where it does not pass or went on for too long.
        """

        def find_or_write() -> _T:
            existing = find()
            return write() if existing is None else existing

        # Somebody made it between the look and the write: the next look finds it.
        return self._repeat(find_or_write, also=frozenset({_CONFLICT}))

    def _repeat(self, call: Callable[[], _T], *, also: frozenset[int]) -> _T:
        give_up_at, pause_s = self.clock() + self.limit_s, self.first_pause_s
        while True:
            try:
                return call()
            except Exception as error:
                if not is_passing(error, also=also) or self.clock() + pause_s > give_up_at:
                    raise
                print(f"the cluster fails ({_name_failure(error)}); again in {pause_s:g} s", file=sys.stderr)
            self.sleep(pause_s)
            pause_s = min(2 * pause_s, self.longest_pause_s)


def is_passing(error: Exception, *, also: frozenset[int] = frozenset()) -> bool:
    """Whether a failure may be over soon: an overloaded or restarting server, a broken connection."""
    from kfp_server_api import ApiException  # type: ignore[import-untyped]

    if isinstance(error, ApiException):
        return (error.status or 0) in PASSING_STATUS | also
    return isinstance(error, urllib3.exceptions.HTTPError | ConnectionError | TimeoutError)


def _name_failure(error: Exception) -> str:
    status = getattr(error, "status", None)
    return f"HTTP {status}" if status else type(error).__name__
