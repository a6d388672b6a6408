"""Replays what another teacher said."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from contracts.digests import digest_file, digest_folder, digest_value
from contracts.errors import UserError
from models.knowledge.cache.answer_cache import AnswerCache, open_recorded_answers
from models.knowledge.config import ReplayTeacherConfig
from models.knowledge.distillation.product_text import Product, escape_control_chars
from models.knowledge.teachers.model_identity import identify_source_code
from models.knowledge.teachers.replay.recorded_knowledge import KnowledgeLines, read_file_lines
from models.knowledge.teachers.replay.recorded_team import answer_from_knowledge
from models.knowledge.teachers.replay.recordings import RecordedAnswers
from models.knowledge.teachers.teacher import RECORDED_COUNT, TeacherRequest, TeacherResponse, TokenPrice

_NOT_RECORDED = "no recorded answer to this input"
_MAX_KEYS_TOLD = 8


class ReplayTeacher:
    """Answers from the request cache of an earlier run, from recorded answers, or from recorded knowledge."""

    def __init__(self, config: ReplayTeacherConfig) -> None:
        path = config.recordings
        self._path = path
        self._digest = digest_recordings(path)
        if config.digest not in (None, self._digest):
            raise UserError(
                f"teacher.digest: {path} has the digest {self._digest}, not {config.digest}: it is another "
                "file, or it has changed. Give the digest of the file that is meant, or none."
            )
        self.counts: Mapping[str, int] = {}
        self.sampling: dict[str, Any] = {}
        self.price = TokenPrice()
        self._recordings: AnswerCache | RecordedAnswers | KnowledgeLines
        if path.is_dir():
            self._recordings = open_recorded_answers(path, config.recorded_by)
            self._digest = digest_value([self._digest, self._recordings.teacher])
        else:
            self._recordings = _read_recordings_file(path)
        if isinstance(self._recordings, KnowledgeLines):
            # Which claims are quoted, and which are objected to, the code decides.
            room = Path(__file__).parents[2]
            code_paths = ("teachers/replay", "agents/record_review.py", "distillation/product_text.py")
            self.sampling = {"code": identify_source_code(room / path for path in code_paths)}
        self.name = f"replay-{self._digest[:8]}"

    def join_catalogue(self, items: Iterable[tuple[str, Product]]) -> Sequence[str]:
        """Finds the recorded knowledge of each item by its id; returns what is missing, as lines of text.

        Raises:
            UserError: no answer is about an item of the catalogue.
        """
        if not isinstance(self._recordings, KnowledgeLines):
            return ()
        report = self._recordings.join_catalogue(items)
        self.counts = {f"{RECORDED_COUNT}{name}": count for name, count in report.counts.items()}
        # With other products the same answers are another teacher's.
        self.name = f"replay-{digest_value([self._digest, self._recordings.digest_join()])[:8]}"
        return list(report.describe(self._path))

    def answer_batch(self, requests: Sequence[TeacherRequest]) -> Iterator[TeacherResponse]:
        """Answers in order; what was never recorded is an error of that request alone."""
        for number, request in enumerate(requests):
            recorded_response = self._find_recorded_response(request)
            if recorded_response is None:
                yield TeacherResponse(number, "", error=_NOT_RECORDED)
            else:
                yield recorded_response._replace(number=number)

    def _find_recorded_response(self, request: TeacherRequest) -> TeacherResponse | None:
        if isinstance(self._recordings, KnowledgeLines):
            answer_text = answer_from_knowledge(request.agent_input, request.answer_type, self._recordings)
            return TeacherResponse(0, answer_text) if answer_text else None
        if isinstance(self._recordings, RecordedAnswers):
            recorded_text = self._recordings.find_recorded_answer(request)
            return None if recorded_text is None else TeacherResponse(0, recorded_text)
        request_digest = self._recordings.digest_request(request)
        # A plan was agreed on among shards: that one was used, whatever this key's own answer says.
        agreed_response = self._recordings.load_agreed_response(request_digest)
        return agreed_response or self._recordings.load_cached_responses([request_digest]).get(request_digest)


def digest_recordings(path: Path) -> str:
    """Digest of a file or folder of recordings.

    Raises:
        UserError: it is not there.
    """
    if not path.exists():
        raise UserError(f"teacher.recordings: {path} not found")
    return digest_folder(path) if path.is_dir() else digest_file(path)


class _AnyLine(BaseModel):
    """What tells the two forms of recordings apart."""

    model_config = ConfigDict(extra="allow")

    agent: JsonValue = None
    item_id: JsonValue = None
    version: JsonValue = None


def _read_recordings_file(path: Path) -> RecordedAnswers | KnowledgeLines:
    """Opens a file by what its first whole line is about: an agent's answer, or an item.

    Raises:
        UserError: the file is not there or damaged, or holds neither.
    """
    first_fault = "it is empty"
    for line_number, line in read_file_lines(path):
        try:
            any_line = _AnyLine.model_validate_json(line)
        except ValidationError as error:
            fault = error.errors()[0]["msg"]
        else:
            if any_line.agent is not None:
                return RecordedAnswers(path)
            if (any_line.item_id, any_line.version) != (None, None):
                return KnowledgeLines(path)
            told_keys = ", ".join(list(any_line.model_extra or {})[:_MAX_KEYS_TOLD]) or "none"
            fault = f"it has neither item_id nor agent; its keys are {told_keys}"
        first_fault = f"line {line_number}: {fault}" if first_fault == "it is empty" else first_fault
    raise UserError(
        f"teacher.recordings: {path} holds no recorded answers: {escape_control_chars(first_fault)}. Write "
        "one JSON object a line, in UTF-8, with the key item_id (knowledge of an item) or agent (an agent's "
        "answer); gzip is read, too."
    )
