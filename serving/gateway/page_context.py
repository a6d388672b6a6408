"""What a page is about, as a vector in the item space: queries and categories by the space's query encoder.

The encoder takes a few milliseconds and lets go of the interpreter meanwhile. So it runs in a thread, and
other requests go on. What was encoded stays in a bounded cache, the texts asked for last.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Final, TypeVar

from contracts.array_types import HalfArray
from contracts.half_vectors import convert_to_half
from feature_repo.online.query_encoders import locate_query_encoder
from models.knowledge.embedding.query_encoder import DESCRIPTION_FILE, QueryEncoder

_ENCODER_THREADS: Final = 1
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class TextVectorCache:
    """Vectors by text, least recently used out first; two threads may use it."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._vectors: OrderedDict[str, HalfArray] = OrderedDict()
        self._lock = Lock()

    def look_up(self, text: str) -> HalfArray | None:
        """The vector [D] of a text, where it is cached."""
        with self._lock:
            if text in self._vectors:
                self._vectors.move_to_end(text)
            return self._vectors.get(text)

    def store(self, text: str, vector: HalfArray) -> None:
        """Keeps a vector; the one that nobody asked for the longest makes room."""
        with self._lock:
            self._vectors[text] = vector
            if len(self._vectors) > self._capacity:
                self._vectors.popitem(last=False)


class SpaceEncoder:
    """A space's query encoder and what it encoded before."""

    def __init__(self, encoder: QueryEncoder, *, cached_queries: int) -> None:
        self._encoder = encoder
        self._cache = TextVectorCache(cached_queries)
        self.look_up = self._cache.look_up

    def encode_text(self, text: str) -> HalfArray:
        """Encodes a text, unless another request did so while this one waited."""
        vector = self._cache.look_up(text)
        if vector is None:
            # Half floats, as the training set holds them.
            vector = convert_to_half(self._encoder.encode_texts([text])[0])
            self._cache.store(text, vector)
        return vector


class PageContext:
    """Vectors of texts, in the spaces of the rankers that are deployed."""

    def __init__(self, store: Path, *, cached_queries: int) -> None:
        """Prepares; an encoder is loaded when its space is first needed, so that a fork is safe.

        Args:
            store: folder of the feature store; the query encoders lie in it.
            cached_queries: most texts whose vectors are kept in memory, per embedding space.
        """
        self._store = store
        self._cached_queries = cached_queries
        self._encoders: dict[str, SpaceEncoder] = {}
        self._broken: dict[str, int] = {}
        """Space -> time of the description file whose encoder could not be loaded."""
        self._kept_spaces: frozenset[str] = frozenset()
        # Two threads: loading an encoder must not keep those waiting that are there.
        self._encoding = ThreadPoolExecutor(1, "encode-queries")
        self._loading = ThreadPoolExecutor(1, "load-query-encoder")

    def prepare_spaces(self, spaces: Collection[str]) -> None:
        """Begins to load the encoders of the rankers that answer from now on.

        Those of the spaces before stay, since a rollback switches at once. Older ones go.
        """
        current_spaces = frozenset(spaces)
        kept_spaces, self._kept_spaces = current_spaces | self._kept_spaces, current_spaces
        for space in self._encoders.keys() - kept_spaces:
            del self._encoders[space]
        for space in current_spaces - self._encoders.keys():
            self._loading.submit(self._load_space, space)

    async def encode_text(self, text: str, *, space: str) -> HalfArray | None:
        """Returns the vector [D] of a text; None where the store has no encoder of that space."""
        encoder = self._encoders.get(space) or await _run(self._loading, self._load_space, space)
        if encoder is None:
            return None
        vector = encoder.look_up(text)
        # A late answer is not lost: the thread keeps it for whoever asks next.
        return vector if vector is not None else await _run(self._encoding, encoder.encode_text, text)

    def close(self) -> None:
        """Ends the threads."""
        for pool in (self._encoding, self._loading):
            pool.shutdown(cancel_futures=True)

    def _load_space(self, space: str) -> SpaceEncoder | None:
        if space in self._encoders:
            return self._encoders[space]
        folder = locate_query_encoder(self._store, space)
        try:
            file_time = (folder / DESCRIPTION_FILE).stat().st_mtime_ns
        except FileNotFoundError:
            return None
        if self._broken.get(space) == file_time:
            return None
        try:
            encoder = QueryEncoder(folder, threads=_ENCODER_THREADS)
            if encoder.space != space:
                raise ValueError(f"it is of space '{encoder.space}'")
        except Exception:
            # Whatever is wrong with the files: to try again with each request would not mend it.
            self._broken[space] = file_time
            _log.exception("the query encoder of space '%s' cannot be used; materialize again", space)
            return None
        self._encoders[space] = SpaceEncoder(encoder, cached_queries=self._cached_queries)
        return self._encoders[space]


async def _run(pool: ThreadPoolExecutor, function: Callable[[str], _T], argument: str) -> _T:
    return await asyncio.get_running_loop().run_in_executor(pool, function, argument)
