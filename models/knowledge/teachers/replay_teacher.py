"""Replays answers that another teacher gave."""

from collections.abc import Iterator, Sequence
from typing import Any

from contracts.digests import digest_file, digest_folder, digest_value
from models.knowledge.cache.answer_cache import AnswerCache, open_recorded_answers
from models.knowledge.config import ReplayTeacherConfig
from models.knowledge.teachers.recordings import RecordedAnswers
from models.knowledge.teachers.teacher import TeacherRequest, TeacherResponse, TokenPrice


class ReplayTeacher:
    """Answers from the request cache of an earlier run, or from recorded answers as JSON lines."""

    def __init__(self, config: ReplayTeacherConfig) -> None:
        path = config.recordings
        self._recordings: AnswerCache | RecordedAnswers
        if path.is_dir():
            self._recordings = open_recorded_answers(path, config.recorded_by)
            recordings_digest = digest_value([digest_folder(path), self._recordings.teacher])
        else:
            self._recordings = RecordedAnswers(path)
            recordings_digest = digest_file(path)
        self.name = f"replay-{recordings_digest[:8]}"
        self.sampling: dict[str, Any] = {}
        self.price = TokenPrice()

    def answer_batch(self, requests: Sequence[TeacherRequest]) -> Iterator[TeacherResponse]:
        """Answers in order; what was never recorded is an error of that request alone."""
        for number, request in enumerate(requests):
            recorded_response = self._find_recorded_response(request)
            if recorded_response is None:
                yield TeacherResponse(number, "", error="no recorded answer to this input")
            else:
                yield recorded_response._replace(number=number)

    def _find_recorded_response(self, request: TeacherRequest) -> TeacherResponse | None:
        if isinstance(self._recordings, RecordedAnswers):
            answer_text = self._recordings.find_recorded_answer(request)
            return None if answer_text is None else TeacherResponse(0, answer_text)
        request_digest = self._recordings.digest_request(request)
        # A plan was agreed on among shards: that one was used, whatever this key's own answer says.
        agreed_response = self._recordings.load_agreed_response(request_digest)
        return agreed_response or self._recordings.load_cached_responses([request_digest]).get(request_digest)
