"""Content-addressed caches of single answers and of finished items, shared by all runs and shards of a workspace.

`requests/` holds each answer of a teacher under all that may change it, and once more under agent, input and attempt
alone, as a recording that `replay` can read. `items/` holds what the whole team made of a product, so that a rerun
looks up one entry per item instead of five, and parses no answer again.
"""

import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from contracts.digests import digest_value
from contracts.errors import UserError
from models.knowledge.agents.prompts import prompt_set_version
from models.knowledge.agents.review import RULES
from models.knowledge.agents.roles import AGENTS
from models.knowledge.schema import json_schema
from models.knowledge.store import Store
from models.knowledge.teachers.base import Request, Response, Teacher
from models.knowledge.teachers.chat import rendering_version

REQUESTS = "requests"
"""Folder of the answers inside a cache folder."""
_ITEMS = "items"


class RequestKey(NamedTuple):
    """Every field that may change an answer."""

    teacher: str
    sampling: str
    agent: str
    prompt_version: str
    rendering: str
    schema_digest: str
    input_digest: str
    attempt: int
    complaint: str

    @property
    def digest(self) -> str:
        """The key as 16 hex digits."""
        return digest_value(self)

    @property
    def recording(self) -> str:
        """The key under which any teacher's answer to this agent and input is found."""
        return _recording(self.agent, self.input_digest, self.attempt)


def request_key(request: Request, teacher: Teacher) -> RequestKey:
    """The cache key of a request to a teacher."""
    return RequestKey(
        teacher=teacher.name,
        sampling=digest_value(teacher.sampling),
        agent=request.agent,
        prompt_version=request.prompt_version,
        rendering=rendering_version(),
        schema_digest=_schema_digest(request.answer),
        input_digest=input_digest(request),
        attempt=request.attempt,
        complaint=request.complaint,
    )


def input_digest(request: Request) -> str:
    """Digest (16 hex digits) of what the agent read."""
    return digest_value(request.given.model_dump(mode="json"))


def recipe(teacher: Teacher) -> str:
    """Digest (16 hex digits) of all but the product that decides what the team makes of it."""
    answers: list[type[BaseModel]] = [agent.answer for agent in AGENTS]
    schemas = [_schema_digest(answer) for answer in answers]
    return digest_value([teacher.name, teacher.sampling, prompt_set_version(), rendering_version(), schemas, RULES])


@cache
def _schema_digest(answer: type[BaseModel]) -> str:
    return digest_value(json_schema(answer))


def _recording(agent: str, given: str, attempt: int) -> str:
    return digest_value(["recording", agent, given, attempt])


class RequestCache:
    """Responses by key digest."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get_many(self, digests: Sequence[str]) -> dict[str, Response]:
        """The responses that are there, by digest; their `number` and `seconds` are 0: they cost nothing now."""
        return {digest: _unpack(blob) for digest, blob in self._store.get_many(digests).items()}

    def put(self, key: RequestKey, response: Response) -> None:
        """Stores one response durably before it returns (against a killed process)."""
        self._store.put([key.digest, key.recording], _pack(response))

    def refresh(self) -> None:
        """Takes note of what other processes were answered since."""
        self._store.refresh()

    def recorded(self, request: Request) -> Response | None:
        """The answer that any teacher once gave to this agent and input."""
        key = _recording(request.agent, input_digest(request), request.attempt)
        return next(iter(self.get_many([key]).values()), None)


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
            self._store.put([key], zlib.compress("\n".join(finished).encode(), 1))

    def refresh(self) -> None:
        """Takes note of what other processes finished since."""
        self._store.refresh()

    def _key(self, product: str) -> str:
        return digest_value([self._recipe, product])


class Cache(NamedTuple):
    """Both caches of a folder."""

    requests: RequestCache
    items: ItemCache

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
    with closing(Store(folder / REQUESTS)) as requests, closing(Store(folder / _ITEMS)) as items:
        yield Cache(RequestCache(requests), ItemCache(items, recipe(teacher)))


def open_recordings(folder: Path) -> RequestCache:
    """Opens the answers of an earlier run.

    Raises:
        UserError: there is no such folder.
    """
    if not any(folder.glob("*.idx")):
        raise UserError(f"teacher.recordings: {folder} holds no answers; give the folder `{REQUESTS}` of a cache.")
    return RequestCache(Store(folder))


def _pack(response: Response) -> bytes:
    content = [response.text, response.tokens_in, response.tokens_out, response.truncated]
    return zlib.compress(json.dumps(content).encode(), 1)  # escapes what is not valid Unicode


def _unpack(blob: bytes) -> Response:
    text, tokens_in, tokens_out, truncated = json.loads(zlib.decompress(blob))
    return Response(0, text, tokens_in, tokens_out, truncated=truncated)
