"""A real pretrained model as teacher: weak, but what it answers is always of its schema."""

from pathlib import Path

import pytest
from distil_run import REQUESTS_PER_AGENT, requests_of_every_agent

from models.knowledge.agents.agent_roles import AGENT_NAMES
from models.knowledge.config import TransformersTeacherConfig
from models.knowledge.teachers.build_teacher import build_teacher

pytestmark = pytest.mark.integration


def test_a_pretrained_model_answers_every_agent_in_its_schema(pretrained_model: Path) -> None:
    config = TransformersTeacherConfig(kind="transformers", model=str(pretrained_model), max_tokens=1500)
    requests = list(requests_of_every_agent())[: len(AGENT_NAMES)]
    assert REQUESTS_PER_AGENT * len(requests) == len(list(requests_of_every_agent()))
    answers = {}
    for response in build_teacher(config).answer_batch(requests):
        assert not response.error
        assert not response.truncated
        request = requests[response.number]
        answers[request.agent] = request.answer_type.model_validate_json(response.text)
    assert set(answers) == set(AGENT_NAMES)
