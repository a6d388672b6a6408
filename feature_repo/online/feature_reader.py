"""Reads features while serving: one Feast store object per process, item features through a bounded
cache.

What is not there is said (`UserFeatures.missing_parts`, `ItemFeatures.is_stored`, `.has_vector`), never
guessed.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from feast import FeatureStore

from contracts.array_types import BoolArray, HalfArray
from contracts.errors import UserError
from contracts.half_vectors import VECTOR_DTYPE
from feature_repo.feast_store import open_store
from feature_repo.feature_views import USER_VIEWS
from feature_repo.online.item_cache import EncodeItems, ItemCache, ItemFeatures, StoredItems
from feature_repo.online.materialize_features import MATERIALIZED_FILE
from feature_repo.online.value_sources import FeatureColumns, ViewFeatures, open_value_source

_BEFORE_ALL_TIME: Final = datetime.min.replace(tzinfo=UTC)
_RANKING_FEATURES: Final = {
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
    def missing_parts(self) -> tuple[str, ...]:
        """Names of what the store does not hold: `history`, `inferred`."""
        row_times = {"history": self.history_as_of, "inferred": self.inferred_as_of}
        return tuple(name for name, as_of in row_times.items() if as_of is None)

    def ages_at(self, now: datetime) -> list[float]:
        """Computes the ages of the history's items at `now`, seconds, never negative."""
        elapsed_s = (now - self.history_as_of).total_seconds() if self.history_as_of else 0.0
        return [max(age + elapsed_s, 0.0) for age in self.history_ages_s]


class _ReadPlan(NamedTuple):
    """What a feature service reads of users and of items."""

    user_views: ViewFeatures
    item_views: ViewFeatures
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
        # Its time changes with each materialization: what was cached before is stale then.
        self._marker = store / MATERIALIZED_FILE
        self._cached_items = cached_items
        self._store = open_store(store)
        self._source = open_value_source(self._store)
        self._generation = 0
        self._plans: dict[str, _ReadPlan] = {}
        self._caches: dict[tuple[str, int], ItemCache] = {}

    async def read_user(self, user_id: str, *, service: str) -> UserFeatures:
        """Reads a user's history and inferred behaviors.

        Raises:
            ValueError: the stored row is not sound.
        """
        read_plan = self._get_plan(service)
        oldest_valid = datetime.now(UTC) - read_plan.user_ttl if read_plan.user_ttl else _BEFORE_ALL_TIME
        columns = await self._source.read_values(read_plan.user_views, "user_id", [user_id])
        return _parse_user(columns, oldest_valid)

    async def read_items(
        self, item_ids: Sequence[str], *, service: str, dim: int, encode: EncodeItems
    ) -> ItemFeatures:
        """Reads item features, from the cache as far as it holds them.

        Args:
            item_ids: N items, repetitions allowed.
            service: feature service of the ranker.
            dim: D, length of the vectors that the ranker takes.
            encode: what the ranker makes of an item's columns.
        """
        read_plan = self._get_plan(service)
        item_cache = self._get_cache(read_plan.item_views, dim)
        # Taken before the store is read: other requests may push these out meanwhile.
        item_features = item_cache.look_up_items(item_ids, ranker=service, encode=encode)
        if not item_features.is_stored.all():
            uncached_ids = item_cache.list_uncached(item_ids)
            columns = await self._source.read_values(read_plan.item_views, "item_id", uncached_ids)
            stored_items = _parse_items(columns, uncached_ids, dim)
            item_cache.store_items(stored_items)
            item_features.fill_unknown_from(stored_items.encode_with(encode))
        return item_features

    async def close(self) -> None:
        """Closes the connections."""
        await self._source.close()

    def _get_cache(self, views: ViewFeatures, dim: int) -> ItemCache:
        """Gets a cache; services that read the same views share one."""
        cache_key = ",".join(sorted(views)), dim
        if cache_key not in self._caches:
            self._caches[cache_key] = ItemCache(capacity=self._cached_items, dim=dim)
        return self._caches[cache_key]

    def _get_plan(self, service: str) -> _ReadPlan:
        self._forget_after_materialization()
        if service not in self._plans:
            # A ranker's service may have been registered since the store was opened.
            self._store.refresh_registry()
            self._plans[service] = _build_plan(self._store, service)
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


def _build_plan(store: FeatureStore, service: str) -> _ReadPlan:
    services = {listed.name: listed for listed in store.list_feature_services()}
    if service not in services:
        raise UserError(
            f"feature service '{service}' is not registered; the store has: {', '.join(sorted(services))}"
        )
    used_features = {
        view.name: [feature.name for feature in view.features if feature.name in _RANKING_FEATURES]
        for view in services[service].feature_view_projections
    }
    return _ReadPlan(
        user_views={name: features for name, features in used_features.items() if name in USER_VIEWS},
        item_views={name: features for name, features in used_features.items() if name not in USER_VIEWS},
        user_ttl=store.get_feature_view(USER_VIEWS[0]).ttl or timedelta(0),
    )


def _parse_user(columns: FeatureColumns, oldest_valid: datetime) -> UserFeatures:
    value_of = {name: values[0] for name, values in columns.items()}
    user = UserFeatures()
    # Feast's online reads pay no heed to a view's time to live.
    if (as_of := _parse_time(value_of["history_as_of"])) and as_of >= oldest_valid:
        item_ids = list(value_of["history_item_ids"].string_list_val.val)
        event_types = list(value_of["history_event_types"].string_list_val.val)
        ages_s = list(value_of["history_ages_s"].int64_list_val.val)
        if not len(item_ids) == len(event_types) == len(ages_s):
            raise ValueError("a stored history has not as many event types and ages as items")
        user = UserFeatures(item_ids, event_types, ages_s, as_of)
    if (as_of := _parse_time(value_of["inferred_as_of"])) and as_of >= oldest_valid:
        item_ids = list(value_of["inferred_item_ids"].string_list_val.val)
        scores = list(value_of["inferred_scores"].float_list_val.val)
        if len(item_ids) != len(scores):
            raise ValueError("a stored list of inferred behaviors has not as many scores as items")
        if not all(0 < score <= 1 for score in scores):
            raise ValueError("a stored score of an inferred behavior is not in (0, 1]")
        user = replace(user, inferred_item_ids=item_ids, inferred_scores=scores, inferred_as_of=as_of)
    return user


def _parse_time(value: Any) -> datetime | None:
    # Feast keeps whole seconds.
    is_set = value.HasField("unix_timestamp_val")
    return datetime.fromtimestamp(value.unix_timestamp_val, UTC) if is_set else None


def _parse_items(columns: FeatureColumns, item_ids: Sequence[str], dim: int) -> StoredItems:
    vector_blobs = [value.bytes_val for value in columns.get("item_vector", [])] or [b""] * len(item_ids)
    vectors, has_vector = _parse_vectors(vector_blobs, dim)
    is_stored = [value.HasField("unix_timestamp_val") for value in columns["item_as_of"]]
    prices = [value.double_val if value.HasField("double_val") else None for value in columns["item_price"]]
    categories, brands = _parse_texts(columns["item_category"]), _parse_texts(columns["item_brand"])
    attributes = list(zip(categories, brands, prices, strict=True))
    return StoredItems(item_ids, attributes, vectors, np.array(is_stored, np.bool_) | has_vector, has_vector)


def _parse_vectors(blobs: Sequence[bytes], dim: int) -> tuple[HalfArray, BoolArray]:
    """Parses vectors [N, D], zeros where none is sound, and tells where one is [N]."""
    vector_bytes = dim * VECTOR_DTYPE.itemsize
    blob_lengths = np.array([len(blob) for blob in blobs], np.int64)
    is_sound = (blob_lengths == vector_bytes) & (vector_bytes > 0)
    vectors = np.zeros((len(blobs), dim), VECTOR_DTYPE)
    if is_sound.any():
        sound_bytes = b"".join(blob for blob, sound in zip(blobs, is_sound.tolist(), strict=True) if sound)
        vectors[is_sound] = np.frombuffer(sound_bytes, VECTOR_DTYPE).reshape(-1, dim)
        is_finite = np.isfinite(vectors).all(axis=1)
        vectors[~is_finite] = 0
        is_sound &= is_finite
    if dim and (num_broken := np.count_nonzero((blob_lengths > 0) & ~is_sound)):
        message = "%d of %d item vectors are not %d finite half floats; materialize again"
        _log.warning(message, num_broken, len(blobs), dim)
    return vectors, is_sound


def _parse_texts(values: Sequence[Any]) -> list[str | None]:
    return [value.string_val if value.HasField("string_val") else None for value in values]
