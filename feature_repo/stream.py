"""Events while serving: they enter the users' online histories, so that what a user does changes his next ranking.

A thread of its own takes what waits, reads the users' histories, adds to them and writes them back: nobody waits for
it. It keeps no promise: where the store is down, too much waits, or two gateways write one user at once, an event may
be missing until the next materialization, which takes it from the durable log.
"""

import logging
import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import polars as pl
from feast import FeatureStore

from contracts.schema import UTC_TIME
from feature_repo.materialize import history_length_of
from feature_repo.store import open_store

_VIEW: Final = "user_behaviors"
_FIELDS: Final = ("history_item_ids", "history_event_types", "history_ages_s", "history_as_of")
_MAX_WAITING: Final = 10_000
_MAX_AT_ONCE: Final = 512
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
    seconds: Sequence[int]
    """Since the epoch: the store keeps whole seconds."""


class HistoryWriter:
    """Adds behaviours to online histories, until `close` (see `contextlib.closing`)."""

    def __init__(self, store: Path, *, on_loss: Callable[[int], object] = lambda _: None) -> None:
        """Opens the store and starts the thread.

        Args:
            store: folder of the feature store.
            on_loss: told how many behaviours did not enter a history, whenever that happens.

        Raises:
            UserError: there is no store.
        """
        self._folder = store
        self._store = open_store(store, overwrite_newer=True)
        self._waiting: queue.Queue[Behavior | None] = queue.Queue(_MAX_WAITING)
        self._on_loss = on_loss
        self._thread = threading.Thread(target=self._write_all, name="histories", daemon=True)
        self._thread.start()

    def add(self, behaviors: Iterable[Behavior]) -> None:
        """Queues behaviours; what does not fit is lost."""
        for behavior in behaviors:
            try:
                self._waiting.put_nowait(behavior)
            except queue.Full:
                self._on_loss(1)

    def close(self) -> None:
        """Writes what waits, then ends the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _write_all(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < _MAX_AT_ONCE and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            behaviors = [behavior for behavior in batch if behavior is not None]
            try:
                if behaviors:
                    write_behaviors(self._store, behaviors, history_length=history_length_of(self._folder))
            except Exception as error:
                # Whatever a store may raise: the log has the events, and the next ones want to be written.
                self._on_loss(len(behaviors))
                _log.warning("%d behaviours did not enter the online histories: %s", len(behaviors), error)
            if None in batch:
                return


def write_behaviors(store: FeatureStore, behaviors: Sequence[Behavior], *, history_length: int) -> None:
    """Adds behaviours to the histories of their users, of which the newest `history_length` stay."""
    by_user: dict[str, list[Behavior]] = defaultdict(list)
    for behavior in behaviors:
        by_user[behavior.user_id].append(behavior)
    users = list(by_user)
    stored = store.get_online_features(
        features=[f"{_VIEW}:{field}" for field in _FIELDS], entity_rows=[{"user_id": user} for user in users]
    ).to_dict()
    rows = [
        _row(user, merge(_history(stored, place), by_user[user], history_length)) for place, user in enumerate(users)
    ]
    frame = pl.DataFrame(rows).with_columns(pl.col("history_as_of", "event_timestamp").cast(UTC_TIME))
    store.write_to_online_store(_VIEW, df=frame.to_pandas())


def merge(history: History, behaviors: Iterable[Behavior], length: int) -> History:
    """The history with the behaviours in it, in the order that `histories.py` gives; what is told twice stands once."""
    known = zip(history.seconds, history.item_ids, history.event_types, strict=True)
    told = ((int(new.timestamp.timestamp()), new.item_id, new.event_type) for new in behaviors)
    newest = sorted({*known, *told}, reverse=True)[:length]
    seconds, item_ids, event_types = zip(*newest, strict=True)
    return History(item_ids, event_types, seconds)


def _history(stored: dict[str, list[Any]], place: int) -> History:
    item_ids, event_types, ages_s, as_of = (stored[field][place] for field in _FIELDS)
    if as_of is None:
        return History([], [], [])
    newest = int(as_of.timestamp())
    return History(item_ids, event_types, [newest - age for age in ages_s])


def _row(user_id: str, history: History) -> dict[str, Any]:
    newest = history.seconds[0]
    as_of = datetime.fromtimestamp(newest, UTC)
    return {
        "user_id": user_id,
        "history_item_ids": list(history.item_ids),
        "history_event_types": list(history.event_types),
        "history_ages_s": [newest - seconds for seconds in history.seconds],
        "history_as_of": as_of,
        "event_timestamp": as_of,
    }
