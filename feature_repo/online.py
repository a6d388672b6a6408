"""Reads features while serving: one Feast store object per process, item features through a bounded cache.

What is not there is said (`UserFeatures.missing`, `ItemFeatures.known`, `.has_vector`), never guessed.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from feast import FeatureStore
from feast.online_response import OnlineResponse

from contracts.errors import UserError
from feature_repo.items import ItemCache, ItemFeatures
from feature_repo.materialize import MATERIALIZED_FILE
from feature_repo.store import open_store
from feature_repo.views import USER_VIEWS

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


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

    user_refs: list[str]
    item_refs: list[str]
    item_views: str
    """Names the cache: services that read the same views share one."""
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
        self._folder = store
        self._cached_items = cached_items
        self._store = open_store(store)
        # SQLite has no asynchronous reads: one thread keeps its connection to itself.
        self._thread: ThreadPoolExecutor | None = None
        if self._store.config.online_store.type == "sqlite":
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="feature-store")
        self._generation = 0
        self._plans: dict[str, _Plan] = {}
        self._caches: dict[tuple[str, int], ItemCache] = {}

    async def user(self, user_id: str, *, service: str) -> UserFeatures:
        """Reads a user's history and inferred behaviours."""
        plan = self._plan(service)
        oldest = datetime.now(UTC) - plan.user_ttl if plan.user_ttl else _LONG_AGO
        return _user_features(await self._read(plan.user_refs, {"user_id": [user_id]}), oldest)

    async def items(self, item_ids: Sequence[str], *, service: str, dim: int) -> ItemFeatures:
        """Reads item features, from the cache as far as it holds them.

        Args:
            item_ids: N items, repetitions allowed.
            service: feature service of the ranker.
            dim: D, length of the vectors that the ranker takes.
        """
        plan = self._plan(service)
        if (plan.item_views, dim) not in self._caches:
            self._caches[plan.item_views, dim] = ItemCache(capacity=self._cached_items, dim=dim)
        cache = self._caches[plan.item_views, dim]
        # Taken before the store is read: other requests may push these out meanwhile.
        found = cache.get(item_ids)
        if wanted := cache.missing(item_ids):
            read = _item_features(await self._read(plan.item_refs, {"item_id": wanted}), wanted, dim)
            cache.put(read)
            found.fill_from(read)
        return found

    async def close(self) -> None:
        """Closes the connections."""
        await self._store.close()
        if self._thread:
            self._thread.shutdown(wait=False)

    async def _read(self, refs: list[str], keys: dict[str, list[str]]) -> OnlineResponse:
        if self._thread is None:
            return await self._store.get_online_features_async(features=refs, entity_rows=keys)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._thread, lambda: self._store.get_online_features(features=refs, entity_rows=keys)
        )

    def _plan(self, service: str) -> _Plan:
        self._forget_after_materialization()
        if service not in self._plans:
            self._store.refresh_registry()
            self._plans[service] = _plan(self._store, service)
        return self._plans[service]

    def _forget_after_materialization(self) -> None:
        path = self._folder / MATERIALIZED_FILE
        generation = path.stat().st_mtime_ns if path.is_file() else 0
        if generation != self._generation:
            self._generation = generation
            self._plans.clear()
            self._caches.clear()


def _plan(store: FeatureStore, service: str) -> _Plan:
    known = {found.name: found for found in store.list_feature_services()}
    if service not in known:
        raise UserError(f"feature service '{service}' is not registered; the store has: {', '.join(sorted(known))}")
    views = known[service].feature_view_projections
    refs = {view.name: [f"{view.name}:{feature.name}" for feature in view.features] for view in views}
    return _Plan(
        user_refs=[ref for name, listed in refs.items() if name in USER_VIEWS for ref in listed],
        item_refs=[ref for name, listed in refs.items() if name not in USER_VIEWS for ref in listed],
        item_views=",".join(sorted(refs.keys() - set(USER_VIEWS))),
        user_ttl=store.get_feature_view(USER_VIEWS[0]).ttl or timedelta(0),
    )


def _columns(response: OnlineResponse) -> dict[str, Any]:
    names = response.proto.metadata.feature_names.val
    return {name: column.values for name, column in zip(names, response.proto.results, strict=True)}


def _user_features(response: OnlineResponse, oldest: datetime) -> UserFeatures:
    row = {name: values[0] for name, values in _columns(response).items()}
    found: dict[str, Any] = {}
    # Feast's online reads pay no heed to a view's time to live.
    if (as_of := _time(row["history_as_of"])) and as_of >= oldest:
        found["history_as_of"] = as_of
        found["history_item_ids"] = list(row["history_item_ids"].string_list_val.val)
        found["history_event_types"] = list(row["history_event_types"].string_list_val.val)
        found["history_ages_s"] = list(row["history_ages_s"].int64_list_val.val)
    if (as_of := _time(row["inferred_as_of"])) and as_of >= oldest:
        found["inferred_as_of"] = as_of
        found["inferred_item_ids"] = list(row["inferred_item_ids"].string_list_val.val)
        found["inferred_scores"] = list(row["inferred_scores"].float_list_val.val)
    return UserFeatures(**found)


def _time(value: Any) -> datetime | None:
    # Feast keeps whole seconds.
    is_set = value.HasField("unix_timestamp_val")
    return datetime.fromtimestamp(value.unix_timestamp_val, UTC) if is_set else None


def _item_features(response: OnlineResponse, item_ids: Sequence[str], dim: int) -> ItemFeatures:
    columns = _columns(response)
    blobs = [value.bytes_val for value in columns.get("item_vector", [])] or [b""] * len(item_ids)
    has_vector = np.array([len(blob) > 0 for blob in blobs], np.bool_)
    vectors = np.zeros((len(item_ids), dim), np.float32)
    if dim and has_vector.any():
        vectors[has_vector] = np.frombuffer(b"".join(blobs), "<f4").reshape(-1, dim)
    known = [value.HasField("unix_timestamp_val") for value in columns["item_as_of"]]
    return ItemFeatures(
        item_ids=item_ids,
        categories=_texts(columns["item_category"]),
        brands=_texts(columns["item_brand"]),
        prices=[value.double_val if value.HasField("double_val") else None for value in columns["item_price"]],
        vectors=vectors,
        known=np.array(known, np.bool_) | has_vector,
        has_vector=has_vector,
    )


def _texts(values: Any) -> list[str | None]:
    return [value.string_val if value.HasField("string_val") else None for value in values]
