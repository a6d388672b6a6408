"""Whatever a teacher or its server answers is an answer that fits the schema, or a fault in words."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from models.knowledge.agents.agent_roles import AGENTS, DEMAND_ANALYST, EDITOR, PLANNER, Agent
from models.knowledge.agents.answer_parsing import parse_teacher_answer
from models.knowledge.knowledge_schema import build_answer_schema
from models.knowledge.teachers.chat_completion import read_chat_completion
from models.knowledge.teachers.json_answers import extract_json_object
from models.knowledge.teachers.teacher import TeacherResponse

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # halves of surrogate pairs, too
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(ANY_TEXT, children, max_size=4),
    max_leaves=12,
)
CLAIM = st.fixed_dictionaries(
    {
        "text": st.text(max_size=170) | ANY_JSON,
        "evidence": st.text(max_size=330),
        "source": st.sampled_from(["catalogue", "reasoning", "both"]),
        "confidence": st.floats(allow_nan=True) | st.integers(-1, 2) | st.just("0.5"),
    },
    optional={"note": st.text(max_size=3)},
)
FINDINGS = st.fixed_dictionaries(
    {
        "reasoning": ANY_TEXT,
        "recognized": st.booleans() | st.just("yes"),
        "summary": ANY_TEXT,
        **dict.fromkeys(("demands", "audiences", "scenarios"), st.lists(CLAIM, max_size=9)),
    },
)
THOUGHTS = ["<think>", "</think>", "<think>\n{}</think>"]
AROUND = st.sampled_from(["", "\ufeff", *THOUGHTS, "```json\n", "\n```", "Sure: {", "}", "[", "]"])
FIELD_NAMES = [
    *("choices", "message", "content", "finish_reason", "reasoning_content", "reasoning", "refusal", "usage"),
    *("error", "code", "type", "text", "prompt_tokens", "object", "detail"),
]
WORDS = st.sampled_from(["length", "error", "{}", '{"a": 1}'])
ANY_COMPLETION = st.recursive(
    st.none()
    | st.integers()
    | st.floats()
    | ANY_TEXT
    | st.sampled_from(["length", "error", "{}", '{"a": 1}']),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.sampled_from(FIELD_NAMES), children, max_size=6)
    ),
    max_leaves=20,
)


def check_outcome(agent: Agent[Any], response: TeacherResponse) -> bool:
    """Says whether there is an answer, and verifies that it fits the schema."""
    outcome = parse_teacher_answer(agent, response)
    outcome.raw_answer.encode()
    outcome.fault.encode()
    if outcome.answer is None:
        assert outcome.fault
        return False
    answer = outcome.answer.model_dump(mode="json")
    Draft202012Validator(build_answer_schema(agent.answer_type)).validate(answer)
    json.dumps(answer, allow_nan=False).encode()
    return True


@given(ANY_TEXT | ANY_JSON.map(json.dumps))
def test_any_text_is_parsed_without_an_exception(text: str) -> None:
    for agent in AGENTS:
        check_outcome(agent, TeacherResponse(0, extract_json_object(text)))


@given(FINDINGS, AROUND, AROUND)
def test_what_is_accepted_fits_the_schema(findings: dict[str, Any], before: str, after: str) -> None:
    text = before + json.dumps(findings) + after
    check_outcome(DEMAND_ANALYST, TeacherResponse(0, extract_json_object(text, findings.keys())))


@given(
    st.binary() | ANY_JSON.map(json.dumps).map(str.encode), st.sampled_from([200, 204, 302, 400, 429, 500])
)
def test_any_body_is_read_without_an_exception(body: bytes, status: int) -> None:
    check_completion(body, status)


@given(ANY_COMPLETION.map(json.dumps).map(str.encode))
def test_any_completion_is_read_without_an_exception(body: bytes) -> None:
    check_completion(body, 200)


@given(ANY_COMPLETION, ANY_COMPLETION)
def test_any_message_is_read_without_an_exception(message: object, usage: object) -> None:
    choice = {"message": message if isinstance(message, dict) else {"content": message}}
    check_completion(json.dumps({"choices": [choice], "usage": usage}).encode(), 200)


def check_completion(body: bytes, status: int) -> None:
    answer = read_chat_completion(body, status=status, expected_keys=PLANNER.answer_type.model_fields)
    answer.text.encode()
    answer.error.encode()
    assert min(answer.tokens_in, answer.tokens_out) >= 0
    assert not (status >= 400 and not answer.error)
    check_outcome(PLANNER, TeacherResponse(0, answer.text, truncated=answer.is_truncated, error=answer.error))


@given(FINDINGS, st.data())
def test_a_part_of_an_answer_is_never_taken_for_it(findings: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps(findings)
    cut_text = text[: data.draw(st.integers(0, len(text) - 1))]
    assert extract_json_object(cut_text, findings.keys()) == cut_text.strip()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "{" * 100_000, '{"reasoning": NaN}'])
def test_deep_and_strange_texts_are_faults(text: str) -> None:
    assert not check_outcome(EDITOR, TeacherResponse(0, extract_json_object(text)))
