"""Reads what a ranking request needs of the feature store, and what its page is about.

A part that fails or is late is left out, and named.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Self, TypeVar

import numpy as np

from contracts.array_types import HalfArray
from feature_repo.online.feature_reader import FeatureReader, UserFeatures
from feature_repo.online.item_cache import ItemFeatures, create_unknown_items
from serving.gateway.deployed_ranker import DeployedRanker, name_feature_service
from serving.gateway.messages import RankContext, RankRequest
from serving.gateway.page_context import PageContext
from serving.gateway.prometheus_metrics import STAGE_SECONDS

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass
class RequestFeatures:
    """What the store holds for one request, and what is missing."""

    user: UserFeatures
    candidates: ItemFeatures
    history: ItemFeatures
    inferred: ItemFeatures
    context_vector: HalfArray | None = None
    """[D] what the page is about; None where it says nothing, or where that is not known."""
    degraded: list[str] = field(default_factory=list)


class RequestReader:
    """Reads the features of requests."""

    def __init__(self, store: FeatureReader, page_context: PageContext | None) -> None:
        """Takes its parts ready-made; without `page_context` no text is encoded."""
        self._store = store
        self._page_context = page_context

    async def read_features(
        self, request: RankRequest, ranker: DeployedRanker, *, timeout_s: float
    ) -> RequestFeatures:
        """Reads them; what fails or takes too long is left out.

        Args:
            request: user, candidates and what the page is about.
            ranker: who will read the features.
            timeout_s: for all reads together.
        """
        spec, dim, encode = ranker.spec, ranker.vector_dim, ranker.encoder.encode_codes
        service = name_feature_service(spec)
        read_items = partial(self._store.read_items, service=service, dim=dim, encode=encode)
        read_by = time.monotonic() + timeout_s
        page = _PageSubject.of_request(request.context, ranker)
        # Beside the reads: a late encoder must not take their time.
        encoding = asyncio.create_task(self._encode_page(read_by, page.text_without_seed, ranker))
        # A seed item comes with the candidates: a read of its own would cost a round trip.
        asked_ids = [*request.candidates, *page.seed_ids]
        user_or_none, asked_items = await asyncio.gather(
            _await_or_none(read_by, "features", self._store.read_user(request.user_id, service=service)),
            _await_or_none(read_by, "features", read_items(asked_ids)),
        )
        stored_user = user_or_none or UserFeatures()
        history_ids = stored_user.history_item_ids[: spec.fetched_length]
        inferred_ids = stored_user.inferred_item_ids[: spec.inferred_length] if spec.features.inferred else []
        behavior_ids = [*history_ids, *inferred_ids]
        # History and inferred items come in one read: a second one would cost a round trip.
        behavior_items = await _await_or_none(read_by, "features", read_items(behavior_ids))
        is_store_failing = user_or_none is None or asked_items is None or behavior_items is None
        behavior_items = behavior_items or create_unknown_items(behavior_ids, dim).encode_with(encode)
        asked_items = asked_items or create_unknown_items(asked_ids, dim).encode_with(encode)
        num_candidates = len(request.candidates)
        context_vector = await encoding
        if page.seed_ids:
            # A seed item says more than the words beside it, here as in training.
            context_vector = _find_vector(asked_items.slice_items(slice(num_candidates, None)))
            if context_vector is None:
                context_vector = await self._encode_page(read_by, page.text, ranker)
        degraded = ["feature_store"] if is_store_failing else _flag_missing_parts(stored_user, ranker)
        if page.is_said and context_vector is None:
            degraded.append("no_context")
        return RequestFeatures(
            user=stored_user,
            candidates=asked_items.slice_items(slice(0, num_candidates)),
            history=behavior_items.slice_items(slice(0, len(history_ids))),
            inferred=behavior_items.slice_items(slice(len(history_ids), None)),
            context_vector=context_vector,
            degraded=degraded,
        )

    async def _encode_page(
        self, deadline: float, text: str | None, ranker: DeployedRanker
    ) -> HalfArray | None:
        if text is None or self._page_context is None or ranker.spec.space is None:
            return None
        with STAGE_SECONDS.labels("context").time():
            encoding = self._page_context.encode_text(text, space=ranker.spec.space)
            return await _await_or_none(deadline, "the page's context", encoding)


class _PageSubject(NamedTuple):
    """What a page says that it is about, as far as the ranker reads it."""

    text: str | None
    """A query says more than the category that it was asked in."""
    seed_ids: list[str]
    """At most one."""

    @classmethod
    def of_request(cls, context: RankContext, ranker: DeployedRanker) -> Self:
        """Takes it from a request; nothing for a ranker that does not read it."""
        if not ranker.reads_page_vector:
            return cls(None, [])
        return cls(
            context.query or context.page_category, [context.seed_item_id] if context.seed_item_id else []
        )

    @property
    def text_without_seed(self) -> str | None:
        """The text where no seed item stands before it."""
        return None if self.seed_ids else self.text

    @property
    def is_said(self) -> bool:
        """Whether the page is about anything."""
        return self.text is not None or bool(self.seed_ids)


def _find_vector(items: ItemFeatures) -> HalfArray | None:
    """The vector [D] of the first item that has one."""
    rows = np.flatnonzero(items.has_vector)
    return items.vectors[rows[0]] if len(rows) else None


async def _await_or_none(deadline: float, what: str, result: Awaitable[_T]) -> _T | None:
    """The result, or None where it failed or came too late."""
    try:
        async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
            return await result
    except TimeoutError:
        _log.warning("%s did not come in time", what)
    except Exception as error:
        # Whatever a store may raise, the user gets a ranking.
        _log.warning("%s could not be read: %s", what, error)
    return None


def _flag_missing_parts(user: UserFeatures, ranker: DeployedRanker) -> list[str]:
    is_used = {"history": True, "inferred": ranker.spec.features.inferred}
    return [f"no_{name}" for name in user.missing_parts if is_used[name]]
