"""Events while serving: they enter the users' online histories, so what a user does changes their next
ranking.

A thread of its own takes what waits, reads the users' histories, adds to them and writes them back.
Nobody waits for it. It keeps no promise: an event may be missing where the store is down, too much waits,
or two gateways write one user at once. The next materialization takes it from the durable log.
"""

import logging
import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import repeat
from pathlib import Path
from typing import Any, Final, NamedTuple

import polars as pl
from feast import FeatureStore

from contracts.table_schema import UTC_TIME
from feature_repo.feast_store import open_store
from feature_repo.online.materialize_features import read_history_length

_VIEW: Final = "user_behaviors"
_FIELDS: Final = (
    *("history_item_ids", "history_event_types", "history_ages_s", "history_micros"),
    "history_as_of",
)
_SECOND_US: Final = 1_000_000
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_MAX_WAITING: Final = 10_000
_MAX_BATCH: Final = 512
_log = logging.getLogger(__name__)


class Behavior(NamedTuple):
    """Something that a user did."""

    user_id: str
    item_id: str
    event_type: str
    timestamp: datetime


class History(NamedTuple):
    """A row of the view `user_behaviors`, newest first."""

    item_ids: Sequence[str]
    event_types: Sequence[str]
    times_us: Sequence[int]
    """Microseconds since the epoch."""


class HistoryWriter:
    """Adds behaviors to online histories, until `close` (see `contextlib.closing`)."""

    def __init__(self, store: Path, *, on_loss: Callable[[int], object] = lambda _: None) -> None:
        """Opens the store and starts the thread.

        Args:
            store: folder of the feature store.
            on_loss: told how many behaviors did not enter a history, whenever that happens.

        Raises:
            UserError: there is no store.
        """
        self._folder = store
        self._store = open_store(store, overwrite_newer=True)
        self._waiting: queue.Queue[Behavior | None] = queue.Queue(_MAX_WAITING)
        self._on_loss = on_loss
        self._thread = threading.Thread(target=self._write_until_closed, name="histories", daemon=True)
        self._thread.start()

    def queue_behaviors(self, behaviors: Iterable[Behavior]) -> None:
        """Queues behaviors; what does not fit is lost."""
        for behavior in behaviors:
            try:
                self._waiting.put_nowait(behavior)
            except queue.Full:
                self._on_loss(1)

    def close(self) -> None:
        """Writes what waits, then ends the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _write_until_closed(self) -> None:
        while True:
            queued_batch = [self._waiting.get()]  # waits; whatever else is there already comes along
            while len(queued_batch) < _MAX_BATCH and not self._waiting.empty():
                queued_batch.append(self._waiting.get_nowait())
            behaviors = [behavior for behavior in queued_batch if behavior is not None]
            try:
                if behaviors:
                    write_behaviors(self._store, behaviors, history_length=read_history_length(self._folder))
            except Exception as error:
                # Whatever a store may raise: the log has the events, and the next ones want to be written.
                self._on_loss(len(behaviors))
                _log.warning("%d behaviors did not enter the online histories: %s", len(behaviors), error)
            if None in queued_batch:
                return


def write_behaviors(store: FeatureStore, behaviors: Sequence[Behavior], *, history_length: int) -> None:
    """Adds behaviors to the histories of their users, of which the newest `history_length` stay."""
    behaviors_by_user: dict[str, list[Behavior]] = defaultdict(list)
    for behavior in behaviors:
        behaviors_by_user[behavior.user_id].append(behavior)
    stored_columns = store.get_online_features(
        features=[f"{_VIEW}:{field}" for field in _FIELDS],
        entity_rows=[{"user_id": user} for user in behaviors_by_user],
    ).to_dict()
    history_rows = [
        _build_history_row(
            user, merge_history(_parse_history(stored_columns, position), new_behaviors, history_length)
        )
        for position, (user, new_behaviors) in enumerate(behaviors_by_user.items())
    ]
    frame = pl.DataFrame(history_rows).with_columns(pl.col("history_as_of", "event_timestamp").cast(UTC_TIME))
    store.write_to_online_store(_VIEW, df=frame.to_pandas())


def merge_history(history: History, behaviors: Iterable[Behavior], length: int) -> History:
    """Merges behaviors into a history, in the order of `behavior_histories.py`; duplicates stand once."""
    stored_behaviors = zip(history.times_us, history.item_ids, history.event_types, strict=True)
    new_behaviors = ((_count_us(new.timestamp), new.item_id, new.event_type) for new in behaviors)
    # A set: an event that was sent twice stands once.
    newest_first = sorted({*stored_behaviors, *new_behaviors}, reverse=True)[:length]
    times_us, item_ids, event_types = zip(*newest_first, strict=True)
    return History(item_ids, event_types, times_us)


def _count_us(moment: datetime) -> int:
    # In whole numbers: a float loses microseconds.
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _parse_history(stored_columns: dict[str, list[Any]], position: int) -> History:
    item_ids, event_types, ages_s, micros, as_of = (stored_columns[field][position] for field in _FIELDS)
    if as_of is None:
        return History([], [], [])
    newest_s = int(as_of.timestamp())
    times_us = [
        (newest_s - age) * _SECOND_US + micro
        for age, micro in zip(ages_s, micros or repeat(0), strict=bool(micros))
    ]
    return History(item_ids, event_types, times_us)


def _build_history_row(user_id: str, history: History) -> dict[str, Any]:
    newest_us = history.times_us[0]
    newest_s = newest_us // _SECOND_US
    return {
        "user_id": user_id,
        "history_item_ids": list(history.item_ids),
        "history_event_types": list(history.event_types),
        "history_ages_s": [newest_s - time_us // _SECOND_US for time_us in history.times_us],
        "history_micros": [time_us % _SECOND_US for time_us in history.times_us],
        "history_as_of": datetime.fromtimestamp(newest_s, UTC),
        "event_timestamp": _EPOCH + timedelta(microseconds=newest_us),
    }
