"""The answers of teachers by content, shared by all runs and shards of a workspace.

An answer is kept under all that may change it. Of an answer that serves many products all processes use the same one
(`agreed.py`). Beside them stands who answered, so that `replay` knows whose answers it reads.
"""

import json
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from contracts.digests import digest_value
from contracts.errors import UserError
from models.knowledge.agreed import Agreed
from models.knowledge.schema import json_schema
from models.knowledge.store import Store
from models.knowledge.teachers.base import Request, Response
from models.knowledge.teachers.chat import rendering_version
from models.knowledge.teachers.identity import Identity

REQUESTS = "requests"
"""Folder of the answers inside a cache folder."""
_AGREED = "agreed"
_TEACHERS = "teachers"


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


def request_key(request: Request, teacher: Identity) -> RequestKey:
    """The cache key of a request to a teacher."""
    return RequestKey(
        teacher=teacher.name,
        sampling=teacher.sampling,
        agent=request.agent,
        prompt_version=request.prompt_version,
        rendering=rendering_version(),
        schema_digest=schema_digest(request.answer),
        input_digest=digest_value(request.given.model_dump(mode="json")),
        attempt=request.attempt,
        complaint=request.complaint,
    )


@cache
def schema_digest(answer: type[BaseModel]) -> str:
    """Digest (16 hex digits) of the schema of an agent's answer."""
    return digest_value(json_schema(answer))


class RequestCache:
    """One teacher's responses by key digest."""

    def __init__(self, folder: Path, teacher: Identity) -> None:
        """Opens the answers in a folder, making it if need be.

        Raises:
            UserError: the folder cannot be made.
        """
        self.teacher = teacher
        self._store = Store(folder)
        self._agreed = Agreed(folder / _AGREED)
        self._teachers = Agreed(folder / _TEACHERS)
        self._signed = False

    def digest(self, request: Request) -> str:
        """A request's key digest."""
        return request_key(request, self.teacher).digest

    def get_many(self, digests: Sequence[str]) -> dict[str, Response]:
        """The responses that are there, by digest; their `number` and `seconds` are 0: they cost nothing now."""
        return {digest: _unpack(blob) for digest, blob in self._store.get_many(digests).items()}

    def put(self, digest: str, response: Response) -> None:
        """Stores one response durably before it returns (against a killed process)."""
        if not self._signed:
            self._teachers.put(self.teacher.digest, json.dumps(self.teacher).encode())
            self._signed = True
        self._store.put(digest, _pack(response))

    def agreed(self, digest: str) -> Response | None:
        """The response that all processes use for a question whose answer serves many products."""
        blob = self._agreed.get(digest)
        return None if blob is None else _unpack(blob)

    def agree(self, digest: str, response: Response) -> Response:
        """Proposes a response for such a question; returns the one that all processes use."""
        return _unpack(self._agreed.put(digest, _pack(response)))

    def refresh(self) -> None:
        """Takes note of what other processes were answered since."""
        self._store.refresh()

    def close(self) -> None:
        """Closes the own files."""
        self._store.close()


def open_recordings(folder: Path, recorded_by: str | None) -> RequestCache:
    """Opens what one teacher answered in earlier runs.

    Args:
        folder: The folder `requests` of a cache.
        recorded_by: The teacher, by name or whole identity; none where the folder holds the answers of one only.

    Raises:
        UserError: there are no answers, or it is not clear whose are meant.
    """
    known = [Identity(*json.loads(who)) for who in Agreed(folder / _TEACHERS).all()]
    if not known:
        raise UserError(f"teacher.recordings: {folder} holds no answers; give the folder `{REQUESTS}` of a cache.")
    meant = [who for who in known if recorded_by in (None, who.name, str(who))]
    if len(meant) != 1:
        fault = (
            "is not set, and several teachers" if recorded_by is None else f"'{recorded_by}' is not one teacher that"
        )
        names = ", ".join(sorted(map(str, known)))
        raise UserError(f"teacher.recorded_by: {fault} answered in {folder}; give one of these: {names}")
    return RequestCache(folder, meant[0])


def _pack(response: Response) -> bytes:
    content = [response.text, response.tokens_in, response.tokens_out, response.truncated]
    return zlib.compress(json.dumps(content).encode(), 1)  # escapes what is not valid Unicode


def _unpack(blob: bytes) -> Response:
    text, tokens_in, tokens_out, truncated = json.loads(zlib.decompress(blob))
    return Response(0, text, tokens_in, tokens_out, truncated=truncated)
