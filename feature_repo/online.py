"""Reads features while serving: one Feast store object per process, item features through a bounded cache.

What is not there is said (`UserFeatures.missing`, `ItemFeatures.known`, `.has_vector`), never guessed.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from feast import FeatureStore

from contracts.errors import UserError
from contracts.vectors import VECTOR_DTYPE, Halves
from feature_repo.items import Encode, ItemCache, ItemFeatures, StoredItems
from feature_repo.materialize import MATERIALIZED_FILE
from feature_repo.online_source import Columns, Views, open_source
from feature_repo.store import open_store
from feature_repo.views import USER_VIEWS

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
_USED: Final = {
    *("history_item_ids", "history_event_types", "history_ages_s", "history_as_of"),
    *("inferred_item_ids", "inferred_scores", "inferred_as_of"),
    *("item_category", "item_brand", "item_price", "item_as_of", "item_vector"),
}
"""Features that a ranking reads."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UserFeatures:
    """What the store knows of one user."""

    history_item_ids: list[str] = field(default_factory=list)
    """Newest first."""
    history_event_types: list[str] = field(default_factory=list)
    history_ages_s: list[int] = field(default_factory=list)
    """Age of each at `history_as_of`, seconds."""
    history_as_of: datetime | None = None
    """Time of the stored history; None: the user has none."""
    inferred_item_ids: list[str] = field(default_factory=list)
    inferred_scores: list[float] = field(default_factory=list)
    inferred_as_of: datetime | None = None
    """Time of the inference; None: there is none."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the parts that the store does not hold."""
        parts = {"history": self.history_as_of, "inferred": self.inferred_as_of}
        return tuple(name for name, as_of in parts.items() if as_of is None)

    def ages_at(self, now: datetime) -> list[float]:
        """Ages of the history's items at `now`, seconds, never negative."""
        since = (now - self.history_as_of).total_seconds() if self.history_as_of else 0.0
        return [max(age + since, 0.0) for age in self.history_ages_s]


class _Plan(NamedTuple):
    """What a feature service reads of users and of items."""

    of_users: Views
    of_items: Views
    user_ttl: timedelta
    """How long a user's values count; zero is for ever."""


class FeatureReader:
    """Serve-time access to one store."""

    def __init__(self, store: Path, *, cached_items: int) -> None:
        """Prepares the reader; connections open with the first read, so that a fork is safe.

        Args:
            store: folder of the feature store.
            cached_items: most items whose features are kept in memory, per embedding space.
        """
        self._marker = store / MATERIALIZED_FILE
        self._cached_items = cached_items
        self._store = open_store(store)
        self._source = open_source(self._store)
        self._generation = 0
        self._plans: dict[str, _Plan] = {}
        self._caches: dict[tuple[str, int], ItemCache] = {}

    async def user(self, user_id: str, *, service: str) -> UserFeatures:
        """Reads a user's history and inferred behaviours.

        Raises:
            ValueError: the stored row is not sound.
        """
        plan = self._plan(service)
        oldest = datetime.now(UTC) - plan.user_ttl if plan.user_ttl else _LONG_AGO
        return _user_features(await self._source.read(plan.of_users, "user_id", [user_id]), oldest)

    async def items(self, item_ids: Sequence[str], *, service: str, dim: int, encode: Encode) -> ItemFeatures:
        """Reads item features, from the cache as far as it holds them.

        Args:
            item_ids: N items, repetitions allowed.
            service: feature service of the ranker.
            dim: D, length of the vectors that the ranker takes.
            encode: what the ranker makes of an item's columns.
        """
        plan = self._plan(service)
        cache = self._cache(plan.of_items, dim)
        # Taken before the store is read: other requests may push these out meanwhile.
        found = cache.get(item_ids, ranker=service, encode=encode)
        if not found.known.all():
            wanted = cache.missing(item_ids)
            read = _stored_items(await self._source.read(plan.of_items, "item_id", wanted), wanted, dim)
            cache.put(read)
            found.fill_from(read.encoded(encode))
        return found

    async def close(self) -> None:
        """Closes the connections."""
        await self._source.close()

    def _cache(self, views: Views, dim: int) -> ItemCache:
        """Services that read the same views share one."""
        key = ",".join(sorted(views)), dim
        if key not in self._caches:
            self._caches[key] = ItemCache(capacity=self._cached_items, dim=dim)
        return self._caches[key]

    def _plan(self, service: str) -> _Plan:
        self._forget_after_materialization()
        if service not in self._plans:
            self._store.refresh_registry()
            self._plans[service] = _plan(self._store, service)
        return self._plans[service]

    def _forget_after_materialization(self) -> None:
        try:
            generation = self._marker.stat().st_mtime_ns
        except FileNotFoundError:
            generation = 0
        if generation != self._generation:
            self._generation = generation
            self._plans.clear()
            self._caches.clear()


def _plan(store: FeatureStore, service: str) -> _Plan:
    known = {found.name: found for found in store.list_feature_services()}
    if service not in known:
        raise UserError(f"feature service '{service}' is not registered; the store has: {', '.join(sorted(known))}")
    views = known[service].feature_view_projections
    features = {view.name: [feature.name for feature in view.features] for view in views}
    used = {name: [feature for feature in listed if feature in _USED] for name, listed in features.items()}
    return _Plan(
        of_users={name: listed for name, listed in used.items() if name in USER_VIEWS},
        of_items={name: listed for name, listed in used.items() if name not in USER_VIEWS},
        user_ttl=store.get_feature_view(USER_VIEWS[0]).ttl or timedelta(0),
    )


def _user_features(columns: Columns, oldest: datetime) -> UserFeatures:
    row = {name: values[0] for name, values in columns.items()}
    found: dict[str, Any] = {}
    # Feast's online reads pay no heed to a view's time to live.
    if (as_of := _time(row["history_as_of"])) and as_of >= oldest:
        found["history_as_of"] = as_of
        found["history_item_ids"] = list(row["history_item_ids"].string_list_val.val)
        found["history_event_types"] = list(row["history_event_types"].string_list_val.val)
        found["history_ages_s"] = list(row["history_ages_s"].int64_list_val.val)
        if not len(found["history_item_ids"]) == len(found["history_event_types"]) == len(found["history_ages_s"]):
            raise ValueError("a stored history has not as many event types and ages as items")
    if (as_of := _time(row["inferred_as_of"])) and as_of >= oldest:
        found["inferred_as_of"] = as_of
        found["inferred_item_ids"] = list(row["inferred_item_ids"].string_list_val.val)
        found["inferred_scores"] = list(row["inferred_scores"].float_list_val.val)
        if len(found["inferred_item_ids"]) != len(found["inferred_scores"]):
            raise ValueError("a stored list of inferred behaviours has not as many scores as items")
        if not all(0 < score <= 1 for score in found["inferred_scores"]):
            raise ValueError("a stored score of an inferred behaviour is not in (0, 1]")
    return UserFeatures(**found)


def _time(value: Any) -> datetime | None:
    # Feast keeps whole seconds.
    is_set = value.HasField("unix_timestamp_val")
    return datetime.fromtimestamp(value.unix_timestamp_val, UTC) if is_set else None


def _stored_items(columns: Columns, item_ids: Sequence[str], dim: int) -> StoredItems:
    blobs = [value.bytes_val for value in columns.get("item_vector", [])] or [b""] * len(item_ids)
    vectors, has_vector = _vectors(blobs, dim)
    known = [value.HasField("unix_timestamp_val") for value in columns["item_as_of"]]
    prices = [value.double_val if value.HasField("double_val") else None for value in columns["item_price"]]
    sides = list(zip(_texts(columns["item_category"]), _texts(columns["item_brand"]), prices, strict=True))
    return StoredItems(item_ids, sides, vectors, np.array(known, np.bool_) | has_vector, has_vector)


def _vectors(blobs: Sequence[bytes], dim: int) -> tuple[Halves, npt.NDArray[np.bool_]]:
    """Vectors [N, D], zeros where there is no sound one, and where there is one [N]."""
    width = dim * VECTOR_DTYPE.itemsize
    lengths = np.array([len(blob) for blob in blobs], np.int64)
    is_sound = (lengths == width) & (width > 0)
    vectors = np.zeros((len(blobs), dim), VECTOR_DTYPE)
    if is_sound.any():
        whole = b"".join(blob for blob, sound in zip(blobs, is_sound.tolist(), strict=True) if sound)
        vectors[is_sound] = np.frombuffer(whole, VECTOR_DTYPE).reshape(-1, dim)
        is_finite = np.isfinite(vectors).all(axis=1)
        vectors[~is_finite] = 0
        is_sound &= is_finite
    if dim and (broken := np.count_nonzero((lengths > 0) & ~is_sound)):
        _log.warning("%d of %d item vectors are not %d finite half floats; materialize again", broken, len(blobs), dim)
    return vectors, is_sound


def _texts(values: Sequence[Any]) -> list[str | None]:
    return [value.string_val if value.HasField("string_val") else None for value in values]
