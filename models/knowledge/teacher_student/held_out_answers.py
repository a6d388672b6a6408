"""What a student is worth on items that it never learned from: does it answer, and as the teacher did?"""

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from models.knowledge.reporting.teacher_agreement import measure_item_agreement
from models.knowledge.teacher_student.training_examples import Lesson
from models.knowledge.teachers.cascade.calibration import Calibration
from models.knowledge.teachers.compact.compact_answer import CompactAnswer
from models.knowledge.teachers.compact.compact_teacher import CompactTeacher, ItemReply

KIND: Final = "kind"
SAME_KIND: Final = 0.5
"""Two kinds are the same from this agreement of their words on: `nitrile gloves`, `disposable gloves`."""


class HeldOutAnswers(NamedTuple):
    """Each lesson with the student's reply to it."""

    lessons: Sequence[Lesson]
    replies: list[ItemReply]
    """By lesson."""
    agreements: list[dict[str, float]]
    """By lesson, of each facet that either speaks of; empty where the reply is not valid."""

    @property
    def valid_share(self) -> float:
        """Of the replies."""
        return sum(reply.answer is not None for reply in self.replies) / len(self.replies)

    @property
    def kind_accuracy(self) -> float:
        """Share of the items whose kind is the teacher's; one without a valid reply has none."""
        return sum(facets.get(KIND, 0.0) >= SAME_KIND for facets in self.agreements) / len(self.agreements)

    def average_facets(self) -> dict[str, float]:
        """Agreement of each facet, over the items with a valid reply in which either speaks of it."""
        scores: dict[str, list[float]] = {}
        for facets in self.agreements:
            for facet, score in facets.items():
                scores.setdefault(facet, []).append(score)
        return {facet: float(np.mean(values)) for facet, values in scores.items()}

    def calibrate(self) -> Calibration:
        """What the student's confidence says of its agreement with the teacher."""
        measured = [
            (reply.response.mean_logprob, float(np.mean(list(facets.values()))))
            for reply, facets in zip(self.replies, self.agreements, strict=True)
            if reply.response.mean_logprob is not None
            and math.isfinite(reply.response.mean_logprob)
            and facets
        ]
        return Calibration.fit(
            [confidence for confidence, _ in measured],
            [agreement for _, agreement in measured],
            num_invalid=len(self.replies) - len(measured),
        )


def answer_held_out_items(student: CompactTeacher, lessons: Sequence[Lesson]) -> HeldOutAnswers:
    """Lets the student answer and compares with the teacher.

    Args:
        student: With `confidence`, so that it can be calibrated.
        lessons: What the teacher said; the student never learned from these items.
    """
    replies = sorted(student.ask_about_products([lesson.product for lesson in lessons]))
    agreements = [
        measure_item_agreement(list_facets(reply.answer), list_facets(lesson.answer)) if reply.answer else {}
        for reply, lesson in zip(replies, lessons, strict=True)
    ]
    return HeldOutAnswers(lessons, replies, agreements)


def list_facets(answer: CompactAnswer) -> Mapping[str, Sequence[str]]:
    """The claims of each facet, the kind among them."""
    facets = answer.model_dump()
    return {name: [value] if isinstance(value, str) else list(value) for name, value in facets.items()}
