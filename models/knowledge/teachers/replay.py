"""Replays answers that another teacher gave."""

from collections.abc import Iterator, Sequence
from typing import Any

from contracts.digests import digest_file, digest_tree, digest_value
from models.knowledge.answers import RequestCache, open_recordings
from models.knowledge.config import ReplayTeacherConfig
from models.knowledge.teachers.base import Price, Request, Response
from models.knowledge.teachers.recordings import Recordings


class ReplayTeacher:
    """Answers from the request cache of an earlier run, or from recorded answers as JSON lines."""

    def __init__(self, config: ReplayTeacherConfig) -> None:
        path = config.recordings
        self._recordings: RequestCache | Recordings
        if path.is_dir():
            self._recordings = open_recordings(path, config.recorded_by)
            digest = digest_value([digest_tree(path), self._recordings.teacher])
        else:
            self._recordings = Recordings(path)
            digest = digest_file(path)
        self.name = f"replay-{digest[:8]}"
        self.sampling: dict[str, Any] = {}
        self.price = Price()

    def answer(self, requests: Sequence[Request]) -> Iterator[Response]:
        """Answers in order; what was never recorded is an error of that request alone."""
        for number, request in enumerate(requests):
            recorded = self._find(request)
            if recorded is None:
                yield Response(number, "", error="no recorded answer to this input")
            else:
                yield recorded._replace(number=number)

    def _find(self, request: Request) -> Response | None:
        if isinstance(self._recordings, Recordings):
            text = self._recordings.find(request)
            return None if text is None else Response(0, text)
        digest = self._recordings.digest(request)
        return self._recordings.agreed(digest) or self._recordings.get_many([digest]).get(digest)
