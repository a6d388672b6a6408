"""The named events that a worker took last: one that is sent again must not enter a history twice.

The event log holds all of them. Its readers count each once for certain:
`contracts/events/event_repeats.py`.
This only spares the online histories what a client repeats within a short time.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from serving.gateway.messages import PostedEvent

_CAPACITY: Final = 100_000


class RecentEvents:
    """Events by `event_id`, user, item and type; the oldest make room."""

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._capacity = capacity
        self._keys: OrderedDict[tuple[str, str, str, str], None] = OrderedDict()

    def take_new(self, events: Iterable[PostedEvent]) -> list[PostedEvent]:
        """Returns the events that were not taken before, and remembers them. One without a name is new."""
        return [event for event in events if self._is_new(event)]

    def _is_new(self, event: PostedEvent) -> bool:
        if event.event_id is None:
            return True
        key = event.event_id, event.user_id, event.item_id, event.meant_type
        if key in self._keys:
            self._keys.move_to_end(key)
            return False
        self._keys[key] = None
        if len(self._keys) > self._capacity:
            self._keys.popitem(last=False)
        return True
