"""The answers of teachers by content, shared by all runs and shards of a workspace.

An answer is kept under all that may change it. Of an answer that serves many products all processes use the
same one (`answer_agreement.py`). Beside them stands who answered, so that `replay` knows whose answers it
reads.
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
from models.knowledge.cache.answer_agreement import AnswerAgreement
from models.knowledge.cache.blob_store import BlobStore
from models.knowledge.knowledge_schema import build_answer_schema
from models.knowledge.teachers.chat_messages import digest_prompt_rendering
from models.knowledge.teachers.model_identity import TeacherIdentity
from models.knowledge.teachers.teacher import TeacherRequest, TeacherResponse

ANSWERS_FOLDER = "requests"
"""Folder of the answers inside a cache folder."""
_AGREED_FOLDER = "agreed"
_TEACHERS_FOLDER = "teachers"


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


@cache
def digest_schema(answer_type: type[BaseModel]) -> str:
    """Digest (16 hex digits) of the schema of an agent's answer."""
    return digest_value(build_answer_schema(answer_type))


class AnswerCache:
    """One teacher's responses by key digest."""

    def __init__(self, folder: Path, teacher: TeacherIdentity) -> None:
        """Opens the answers in a folder, making it if need be.

        Raises:
            UserError: the folder cannot be made.
        """
        self.teacher = teacher
        self._store = BlobStore(folder)
        self._agreement = AnswerAgreement(folder / _AGREED_FOLDER)
        self._teachers = AnswerAgreement(folder / _TEACHERS_FOLDER)
        self._is_signed = False

    def digest_request(self, request: TeacherRequest) -> str:
        """A request's key digest."""
        return RequestKey(
            teacher=self.teacher.name,
            sampling=self.teacher.sampling,
            agent=request.agent,
            prompt_version=request.prompt_version,
            rendering=digest_prompt_rendering(),
            schema_digest=digest_schema(request.answer_type),
            input_digest=digest_value(request.agent_input.model_dump(mode="json")),
            attempt=request.attempt,
            complaint=request.complaint,
        ).digest

    def load_cached_responses(self, digests: Sequence[str]) -> dict[str, TeacherResponse]:
        """The responses that are there, by digest; their `seconds` are 0, since they cost nothing now."""
        return {digest: _unpack_response(blob) for digest, blob in self._store.get_blobs(digests).items()}

    def store_response(self, digest: str, response: TeacherResponse) -> None:
        """Stores one response durably before it returns (against a killed process)."""
        if not self._is_signed:
            self._teachers.propose_blob(self.teacher.digest, json.dumps(self.teacher).encode())
            self._is_signed = True
        self._store.put_blob(digest, _pack_response(response))

    def load_agreed_response(self, digest: str) -> TeacherResponse | None:
        """The response that all processes use for a question whose answer serves many products."""
        blob = self._agreement.read_agreed_blob(digest)
        return None if blob is None else _unpack_response(blob)

    def agree_on_response(self, digest: str, response: TeacherResponse) -> TeacherResponse:
        """Proposes a response for such a question; returns the one that all processes use."""
        return _unpack_response(self._agreement.propose_blob(digest, _pack_response(response)))

    def refresh_index(self) -> None:
        """Takes note of what other processes were answered since."""
        self._store.refresh_index()

    def close(self) -> None:
        """Closes the own files."""
        self._store.close()


def open_recorded_answers(folder: Path, recorded_by: str | None) -> AnswerCache:
    """Opens what one teacher answered in earlier runs.

    Args:
        folder: The folder `requests` of a cache.
        recorded_by: The teacher, by name or whole identity; none where only one answered in the folder.

    Raises:
        UserError: there are no answers, or it is not clear whose are meant.
    """
    identities = [
        TeacherIdentity(*json.loads(blob))
        for blob in AnswerAgreement(folder / _TEACHERS_FOLDER).read_all_agreed()
    ]
    if not identities:
        raise UserError(
            f"teacher.recordings: {folder} holds no answers; give the folder `{ANSWERS_FOLDER}` of a cache."
        )
    matching_identities = [
        identity for identity in identities if recorded_by in (None, identity.name, str(identity))
    ]
    if len(matching_identities) == 1:
        return AnswerCache(folder, matching_identities[0])
    fault = (
        "is not set, and several teachers"
        if recorded_by is None
        else f"'{recorded_by}' is not one teacher that"
    )
    teacher_names = ", ".join(sorted(map(str, identities)))
    raise UserError(f"teacher.recorded_by: {fault} answered in {folder}; give one of these: {teacher_names}")


def _pack_response(response: TeacherResponse) -> bytes:
    packed_fields = [response.text, response.tokens_in, response.tokens_out, response.truncated]
    return zlib.compress(json.dumps(packed_fields).encode(), 1)  # escapes what is not valid Unicode


def _unpack_response(blob: bytes) -> TeacherResponse:
    text, tokens_in, tokens_out, truncated = json.loads(zlib.decompress(blob))
    return TeacherResponse(0, text, tokens_in, tokens_out, truncated=truncated)
