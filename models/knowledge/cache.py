"""Content-addressed cache of single requests.

One SQLite file in WAL mode: several processes can append to it, a `kill -9` loses at most the answer being written, and
memory does not grow with it. WAL needs a local (or block-device) disk: don't put the cache on NFS.
"""

import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from contracts.digests import digest_value
from contracts.errors import UserError
from models.knowledge.schema import json_schema
from models.knowledge.teachers.base import Request, Response, Teacher

CACHE_FILE = "requests.sqlite"
_TABLE = """
CREATE TABLE IF NOT EXISTS responses (
    key TEXT PRIMARY KEY, agent TEXT, input_digest TEXT, attempt INTEGER, text BLOB, tokens_in INTEGER,
    tokens_out INTEGER, seconds REAL, truncated INTEGER
) WITHOUT ROWID
"""
_BY_INPUT = "CREATE INDEX IF NOT EXISTS by_input ON responses (input_digest, agent, attempt)"
_RECORDED = """
SELECT text, tokens_in, tokens_out, truncated FROM responses WHERE input_digest = ? AND agent = ? AND attempt = ?
"""
_MAX_VARIABLES = 500


class RequestKey(NamedTuple):
    """Every field that may change an answer."""

    teacher: str
    sampling: str
    agent: str
    prompt_version: str
    schema_digest: str
    input_digest: str
    attempt: int
    complaint: str

    @property
    def digest(self) -> str:
        """The key as 16 hex digits."""
        return digest_value(self)


def request_key(request: Request, teacher: Teacher) -> RequestKey:
    """The cache key of a request to a teacher."""
    return RequestKey(
        teacher=teacher.name,
        sampling=digest_value(teacher.sampling),
        agent=request.agent,
        prompt_version=request.prompt_version,
        schema_digest=_schema_digest(request.answer),
        input_digest=input_digest(request),
        attempt=request.attempt,
        complaint=request.complaint,
    )


def input_digest(request: Request) -> str:
    """Digest (16 hex digits) of what the agent read."""
    return digest_value(request.given.model_dump(mode="json"))


@cache
def _schema_digest(answer: type[BaseModel]) -> str:
    return digest_value(json_schema(answer))


class RequestCache:
    """Responses by key digest."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def get_many(self, digests: Sequence[str]) -> dict[str, Response]:
        """The responses that are there, by digest; their `number` and `seconds` are 0: they cost nothing now."""
        found: dict[str, Response] = {}
        for part in _parts(digests):
            query = f"SELECT key, text, truncated FROM responses WHERE key IN ({_marks(part)})"  # noqa: S608
            for key, text, truncated in self._connection.execute(query, part):
                found[key] = Response(0, _unpack(text), truncated=bool(truncated))
        return found

    def put(self, key: RequestKey, response: Response) -> None:
        """Stores one response durably before it returns (against a killed process)."""
        row = (key.digest, key.agent, key.input_digest, key.attempt, _pack(response.text), response.tokens_in)
        rest = (response.tokens_out, response.seconds, int(response.truncated))
        self._connection.execute("INSERT OR IGNORE INTO responses VALUES (?,?,?,?,?,?,?,?,?)", row + rest)

    def recorded(self, request: Request) -> Response | None:
        """The answer that any teacher once gave to this agent and input."""
        row = self._connection.execute(_RECORDED, (input_digest(request), request.agent, request.attempt)).fetchone()
        return Response(0, _unpack(row[0]), row[1], row[2], truncated=bool(row[3])) if row else None


@contextmanager
def open_cache(folder: Path) -> Iterator[RequestCache]:
    """Opens the cache in `folder`, making it if need be.

    Raises:
        UserError: the file there is not a request cache.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CACHE_FILE
    with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as connection:
        try:
            for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL", _TABLE, _BY_INPUT):
                connection.execute(statement)
        except sqlite3.DatabaseError as error:
            raise UserError(f"{path} is not a usable request cache ({error}); move it away and run again.") from error
        yield RequestCache(connection)


def open_recordings(path: Path) -> RequestCache:
    """Opens a cache for reading only.

    Raises:
        UserError: there is no such file.
    """
    if not path.is_file():
        raise UserError(f"teacher.recordings: {path} not found; give the {CACHE_FILE} of an earlier distillation.")
    return RequestCache(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False))


def _pack(text: str) -> bytes:
    return zlib.compress(text.encode(), 1)


def _unpack(blob: bytes) -> str:
    return zlib.decompress(blob).decode()


def _parts(digests: Sequence[str]) -> Iterable[list[str]]:
    return (list(digests[start : start + _MAX_VARIABLES]) for start in range(0, len(digests), _MAX_VARIABLES))


def _marks(part: Sequence[Any]) -> str:
    return ",".join("?" * len(part))
