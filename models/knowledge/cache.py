"""The caches of a folder, shared by all runs and shards of a workspace.

`requests/` holds each answer of a teacher (`answers.py`). `items/` holds what the whole team made of a product, so that
a rerun looks up one entry per item instead of five, and parses no answer again. `books/` says what it all cost.
"""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from contracts.digests import digest_value
from models.knowledge.agents.prompts import prompt_set_version
from models.knowledge.agents.review import RULES
from models.knowledge.agents.roles import AGENTS
from models.knowledge.answers import REQUESTS, RequestCache, schema_digest
from models.knowledge.books import Book
from models.knowledge.store import Store
from models.knowledge.teachers.base import Teacher
from models.knowledge.teachers.chat import rendering_version
from models.knowledge.teachers.identity import Identity

BOOKS = "books"
"""Folder of what the answers cost."""
_ITEMS = "items"


def recipe(teacher: Teacher) -> str:
    """Digest (16 hex digits) of all but the product that decides what the team makes of it."""
    answers: list[type[BaseModel]] = [agent.answer for agent in AGENTS]
    schemas = [schema_digest(answer) for answer in answers]
    return digest_value([teacher.name, teacher.sampling, prompt_set_version(), rendering_version(), schemas, RULES])


class Finished(NamedTuple):
    """What the team made of a product, as JSON objects without the item's id."""

    row: str
    """Its columns of the KNOWLEDGE table; what is not there is null."""
    trace: str
    """Each agent's reasoning, objections and dropped claims."""


class ItemCache:
    """Finished items by recipe and product digest."""

    def __init__(self, store: Store, made_by: str) -> None:
        self._store = store
        self._recipe = made_by

    def get_many(self, products: Sequence[str]) -> dict[str, Finished]:
        """What is there, by product digest."""
        keys = {self._key(product): product for product in products}
        found = self._store.get_many(list(keys))
        return {keys[key]: Finished(*zlib.decompress(blob).decode().split("\n")) for key, blob in found.items()}

    def put(self, product: str, finished: Finished) -> None:
        """Stores what is not there yet."""
        key = self._key(product)
        if key not in self._store:
            self._store.put(key, zlib.compress("\n".join(finished).encode(), 1))

    def refresh(self) -> None:
        """Takes note of what other processes finished since."""
        self._store.refresh()

    def _key(self, product: str) -> str:
        return digest_value([self._recipe, product])


class Cache(NamedTuple):
    """The caches of a folder, and what this run paid."""

    requests: RequestCache
    items: ItemCache
    book: Book

    def refresh(self) -> None:
        """Takes note of what other processes stored since."""
        self.requests.refresh()
        self.items.refresh()


@contextmanager
def open_cache(folder: Path, teacher: Teacher) -> Iterator[Cache]:
    """Opens the caches in `folder`, making them if need be.

    Raises:
        UserError: the folder cannot be made.
    """
    who = Identity.of(teacher)
    with (
        closing(RequestCache(folder / REQUESTS, who)) as requests,
        closing(Store(folder / _ITEMS)) as items,
        closing(Book(folder / BOOKS, who.digest)) as book,
    ):
        yield Cache(requests, ItemCache(items, recipe(teacher)), book)
