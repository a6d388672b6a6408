"""Replays answers that another teacher gave to the same agents and inputs."""

from collections.abc import Iterator, Sequence
from typing import Any

from contracts.digests import digest_file
from models.knowledge.cache import open_recordings
from models.knowledge.config import ReplayTeacherConfig
from models.knowledge.teachers.base import Price, Request, Response


class ReplayTeacher:
    """Answers from the request cache of an earlier run."""

    def __init__(self, config: ReplayTeacherConfig) -> None:
        self._recordings = open_recordings(config.recordings)
        self.name = f"replay-{digest_file(config.recordings)[:8]}"
        self.sampling: dict[str, Any] = {}
        self.price = Price()

    def answer(self, requests: Sequence[Request]) -> Iterator[Response]:
        """Answers in order; what was never recorded is an error of that request alone."""
        for number, request in enumerate(requests):
            recorded = self._recordings.recorded(request)
            if recorded is None:
                yield Response(number, "", error="no recorded answer to this input")
            else:
                yield recorded._replace(number=number)
