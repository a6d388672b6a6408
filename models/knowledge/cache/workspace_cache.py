"""The caches of a folder, shared by all runs and shards of a workspace.

`requests/` holds each answer of a teacher (`answer_cache.py`). `items/` holds what the whole team made of a
product, so that a rerun looks up one entry per item instead of five, and parses no answer again. `books/`
says what it cost.
"""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from contracts.digests import digest_value
from models.knowledge.agents.agent_roles import AGENTS
from models.knowledge.agents.prompt_files import digest_prompt_set
from models.knowledge.agents.record_review import RULES_VERSION
from models.knowledge.cache.answer_cache import ANSWERS_FOLDER, AnswerCache, digest_schema
from models.knowledge.cache.blob_store import BlobStore
from models.knowledge.costs.spending_history import SpendingRecord
from models.knowledge.teachers.chat_messages import digest_prompt_rendering
from models.knowledge.teachers.model_identity import TeacherIdentity
from models.knowledge.teachers.teacher import Teacher

SPENDING_FOLDER = "books"
"""Folder of what the answers cost."""
_ITEMS_FOLDER = "items"


def digest_recipe(teacher: Teacher) -> str:
    """Digest (16 hex digits) of all but the product that decides what the team makes of it."""
    answer_types: list[type[BaseModel]] = [agent.answer_type for agent in AGENTS]
    schema_digests = [digest_schema(answer_type) for answer_type in answer_types]
    return digest_value(
        [
            teacher.name,
            teacher.sampling,
            digest_prompt_set(),
            digest_prompt_rendering(),
            schema_digests,
            RULES_VERSION,
        ]
    )


class FinishedItem(NamedTuple):
    """What the team made of a product, as JSON objects without the item's id."""

    row_json: str
    """Its columns of the KNOWLEDGE table; what is not there is null."""
    trace_json: str
    """Each agent's reasoning, objections and dropped claims."""


class FinishedItemCache:
    """Finished items by recipe and product digest."""

    def __init__(self, store: BlobStore, recipe_digest: str) -> None:
        self._store = store
        self._recipe = recipe_digest

    def load_finished_items(self, product_digests: Sequence[str]) -> dict[str, FinishedItem]:
        """What is there, by product digest."""
        products_by_key = {
            self._make_item_key(product_digest): product_digest for product_digest in product_digests
        }
        found_blobs = self._store.get_blobs(list(products_by_key))
        return {
            products_by_key[key]: FinishedItem(*zlib.decompress(blob).decode().split("\n"))
            for key, blob in found_blobs.items()
        }

    def store_finished_item(self, product_digest: str, finished: FinishedItem) -> None:
        """Stores what is not there yet."""
        item_key = self._make_item_key(product_digest)
        # Several runs may finish the same item; one entry is enough.
        if item_key not in self._store:
            self._store.put_blob(item_key, zlib.compress("\n".join(finished).encode(), 1))

    def refresh_index(self) -> None:
        """Takes note of what other processes finished since."""
        self._store.refresh_index()

    def _make_item_key(self, product_digest: str) -> str:
        return digest_value([self._recipe, product_digest])


class WorkspaceCache(NamedTuple):
    """The caches of a folder, and what this run paid."""

    answers: AnswerCache
    items: FinishedItemCache
    spending_record: SpendingRecord

    def refresh_indexes(self) -> None:
        """Takes note of what other processes stored since."""
        self.answers.refresh_index()
        self.items.refresh_index()


@contextmanager
def open_workspace_cache(folder: Path, teacher: Teacher) -> Iterator[WorkspaceCache]:
    """Opens the caches in `folder`, making them if need be.

    Raises:
        UserError: the folder cannot be made.
    """
    identity = TeacherIdentity.of_teacher(teacher)
    with (
        closing(AnswerCache(folder / ANSWERS_FOLDER, identity)) as answer_cache,
        closing(BlobStore(folder / _ITEMS_FOLDER)) as item_store,
        closing(SpendingRecord(folder / SPENDING_FOLDER, identity.digest)) as spending_record,
    ):
        yield WorkspaceCache(
            answer_cache, FinishedItemCache(item_store, digest_recipe(teacher)), spending_record
        )
