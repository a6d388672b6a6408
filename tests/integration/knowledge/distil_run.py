"""Distills in a process of its own, which the tests can kill.

Usage: python distil_run.py TEACHER DATASET CACHE OUT [agents|agents-once]

TEACHER is the teacher's configuration as JSON. With `agents`, each agent is asked directly first; with
`agents-once` each a single time.
One JSON object per line tells what happens: first {"pid"}, then {"agent", "valid"}, {"asked"} and {"stored"}
(digests of requests).
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from contracts.digests import digest_value
from models.knowledge.agents.agent_roles import (
    AGENTS,
    AnalystAssignment,
    CategoryBrief,
    CategoryPlan,
    RecordDraft,
    ReviewedDraft,
)
from models.knowledge.config import KnowledgeConfig
from models.knowledge.distillation import distill_knowledge as distill
from models.knowledge.distillation.product_text import Product
from models.knowledge.knowledge_schema import Claim, KnowledgeRecord
from models.knowledge.teachers.build_teacher import build_teacher
from models.knowledge.teachers.teacher import LiveTeacher, TeacherRequest, TeacherResponse

REQUESTS_PER_AGENT = 4


def tell(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


class Watched:
    """A teacher that tells what it is asked, and what its caller has taken in."""

    def __init__(self, teacher: LiveTeacher) -> None:
        self._teacher = teacher
        self.name, self.sampling, self.price = teacher.name, teacher.sampling, teacher.price

    def answer_batch(self, requests: list[TeacherRequest]) -> Iterator[TeacherResponse]:
        return self.answer_live(iter(requests))

    def answer_live(self, feed: Iterator[TeacherRequest]) -> Iterator[TeacherResponse]:
        asked: list[str] = []

        def note(request: TeacherRequest) -> TeacherRequest:
            asked.append(
                digest_value([request.agent, request.agent_input.model_dump(mode="json"), request.attempt])
            )
            tell(asked=asked[-1])
            return request

        for response in self._teacher.answer_live(map(note, feed)):
            yield response
            tell(stored=asked[response.number])


def requests_of_every_agent(per_agent: int = REQUESTS_PER_AGENT) -> Iterator[TeacherRequest]:
    claim = Claim(text="drink tea", evidence="mug", source="catalogue", confidence=0.9)
    record = KnowledgeRecord.model_validate(
        {"summary": "A mug."} | {name: [claim] for name in KnowledgeRecord.model_fields if name != "summary"}
    )
    plan = CategoryPlan(reasoning="r", product_kind="mug", focus=("size",), pitfalls=())
    for number in range(per_agent):
        product = Product(title=f"Red Mug {number}", category="Mugs")
        given = {
            "planner": CategoryBrief(category=f"Mugs {number}"),
            "demand_analyst": AnalystAssignment(product=product, plan=plan),
            "attribute_analyst": AnalystAssignment(product=product, plan=plan),
            "critic": RecordDraft(product=product, record=record),
            "editor": ReviewedDraft(product=product, record=record, objections=()),
        }
        for agent in AGENTS:
            yield TeacherRequest(agent.name, given[agent.name], agent.answer_type, "1")


def ask_every_agent(teacher: LiveTeacher, per_agent: int = REQUESTS_PER_AGENT) -> None:
    requests = list(requests_of_every_agent(per_agent))
    too_long = TeacherRequest("planner", CategoryBrief(category="x" * 40_000), requests[0].answer_type, "1")
    for response in teacher.answer_batch([too_long, *requests]):
        request = [too_long, *requests][response.number]
        try:
            request.answer_type.model_validate_json(response.text)
            valid = not response.truncated
        except ValidationError:
            valid = False
        tell(
            agent=request.agent,
            valid=valid,
            error=response.error,
            tokens=[response.tokens_in, response.tokens_out],
        )


def main(teacher: str, dataset: str, cache: str, out: str, *options: str) -> None:
    config = KnowledgeConfig.model_validate({"teacher": json.loads(teacher), "max_invalid_rate": 1})
    tell(pid=os.getpid())
    watched = Watched(build_teacher(config.teacher))
    if "agents" in options:
        ask_every_agent(watched._teacher)
    if "agents-once" in options:
        ask_every_agent(watched._teacher, per_agent=1)
    distill.build_teacher = lambda config: watched
    distill.distill_knowledge(Path(dataset), config, cache=Path(cache), out=Path(out))


if __name__ == "__main__":  # vLLM starts further processes from this file
    main(*sys.argv[1:])
