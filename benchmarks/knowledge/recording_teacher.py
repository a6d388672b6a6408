"""A teacher that keeps what it was asked, so that the same requests can be timed alone."""

from collections.abc import Iterator, Sequence
from typing import Any

from models.knowledge.teachers.teacher import TeacherRequest, TeacherResponse


class RecordingTeacher:
    """Passes requests on to a live teacher and appends them to `recorded`."""

    def __init__(self, teacher: Any, recorded: list[TeacherRequest]) -> None:
        self._teacher = teacher
        self._recorded = recorded
        self.name, self.sampling, self.price = teacher.name, teacher.sampling, teacher.price

    def answer_batch(self, requests: Sequence[TeacherRequest]) -> Iterator[TeacherResponse]:
        """Answers requests that are all there."""
        return self.answer_live(iter(requests))

    def answer_live(self, feed: Iterator[TeacherRequest]) -> Iterator[TeacherResponse]:
        """Answers requests that come one by one."""
        # `map`, not a generator: a feed may be read on after it had nothing for a moment.
        responses: Iterator[TeacherResponse] = self._teacher.answer_live(map(self._record_request, feed))
        return responses

    def _record_request(self, request: TeacherRequest) -> TeacherRequest:
        self._recorded.append(request)
        return request
