"""A real pretrained model as teacher: weak, but what it answers is always of its schema."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from distil_run import REQUESTS_PER_AGENT, requests_of_every_agent
from model_processes import ENGINE, distill

from models.knowledge.agents.agent_roles import AGENT_NAMES
from models.knowledge.config import OpenAITeacherConfig, TransformersTeacherConfig
from models.knowledge.teachers.build_teacher import build_teacher
from models.knowledge.teachers.teacher import Teacher

pytestmark = pytest.mark.integration

MAX_TOKENS = 1500
SLOW_S = 1800


def assert_every_agent_is_answered(teacher: Teacher) -> None:
    requests = list(requests_of_every_agent(1))
    assert REQUESTS_PER_AGENT * len(requests) == len(list(requests_of_every_agent()))
    answers = {}
    for response in teacher.answer_batch(requests):
        assert not response.error
        assert not response.truncated
        request = requests[response.number]
        answers[request.agent] = request.answer_type.model_validate_json(response.text)
    assert set(answers) == set(AGENT_NAMES)


def take_agents(facts: Iterable[dict[str, object]]) -> list[dict[str, object]]:
    """What was told of each agent; the distillation that would follow is not waited for."""
    answers: list[dict[str, object]] = []
    for fact in facts:
        if "agent" in fact:
            answers.append(fact)
        if len(answers) == 1 + len(AGENT_NAMES):
            break
    return answers


def test_by_transformers_every_agent_is_answered_in_its_schema(pretrained_model: Path) -> None:
    config = TransformersTeacherConfig(
        kind="transformers", model=str(pretrained_model), max_tokens=MAX_TOKENS
    )
    assert_every_agent_is_answered(build_teacher(config))


def test_by_vllm_in_process_every_agent_is_answered_in_its_schema(
    vllm_python: Path, pretrained_model: Path, write_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    write_dataset("Red Mug")
    teacher = {"kind": "vllm", "model": str(pretrained_model), "dtype": "float32", "temperature": 0}
    teacher |= {"max_tokens": MAX_TOKENS, "concurrency": len(AGENT_NAMES), "engine_args": ENGINE}
    too_long, *answers = take_agents(distill(vllm_python, teacher, tmp_path, "out", "agents-once"))
    assert "maximum context length" in str(too_long["error"])
    assert {answer["agent"] for answer in answers if answer["valid"]} == set(AGENT_NAMES)


def test_by_a_vllm_server_every_agent_is_answered_in_its_schema(pretrained_server: str) -> None:
    config = OpenAITeacherConfig(
        kind="openai",
        base_url=pretrained_server,
        model="pretrained",
        temperature=0,
        max_tokens=MAX_TOKENS,
        # Two busy cores write a few tokens a second.
        timeout_s=SLOW_S,
        deadline_s=SLOW_S,
    )
    assert_every_agent_is_answered(build_teacher(config))
