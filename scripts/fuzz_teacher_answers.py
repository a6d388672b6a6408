"""Fuzzes the reading of teachers' answers with coverage as its guide (Atheris, libFuzzer).

    pip install atheris          # in an environment of its own; the project does not depend on it
    python scripts/fuzz_teacher_answers.py -max_total_time=600 CORPUS_FOLDER

It ends at the first input that raises. The same claims are held by tests/unit/knowledge/test_answer_fuzz.py,
which needs nothing and searches less.
"""

import json
import sys
from typing import Any

import atheris  # type: ignore[import-not-found, unused-ignore]

with atheris.instrument_imports(include=["models.knowledge", "json", "jsonschema"]):
    from jsonschema import Draft202012Validator

    from models.knowledge.agents.agent_roles import AGENTS
    from models.knowledge.agents.answer_parsing import parse_teacher_answer
    from models.knowledge.knowledge_schema import build_answer_schema
    from models.knowledge.teachers.chat_completion import read_chat_completion
    from models.knowledge.teachers.json_answers import extract_json_object
    from models.knowledge.teachers.teacher import TeacherResponse

_STATUSES = (200, 200, 200, 400, 429, 500)
_VALIDATORS = {agent: Draft202012Validator(build_answer_schema(agent.answer_type)) for agent in AGENTS}


def check_answer(data: bytes) -> None:
    """Reads bytes as a response's body, and as what a model wrote, and verifies what is accepted."""
    provider = atheris.FuzzedDataProvider(data)
    agent = AGENTS[provider.ConsumeIntInRange(0, len(AGENTS) - 1)]
    status = _STATUSES[provider.ConsumeIntInRange(0, len(_STATUSES) - 1)]
    body = provider.ConsumeBytes(sys.maxsize)
    keys = agent.answer_type.model_fields
    text = body.decode("utf-8", "surrogatepass" if status == 200 else "replace") if _is_text(body) else ""
    wrapped_body = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
    for answer in (
        read_chat_completion(body, status=status, expected_keys=keys),
        read_chat_completion(wrapped_body, expected_keys=keys),
    ):
        answer.text.encode()
        answer.error.encode()
        check_outcome(agent, TeacherResponse(0, answer.text, error=answer.error))
    check_outcome(agent, TeacherResponse(0, extract_json_object(text)))


def check_outcome(agent: Any, response: TeacherResponse) -> None:
    """Verifies that a response is an answer that fits the schema, or a fault in words."""
    outcome = parse_teacher_answer(agent, response)
    if outcome.answer is None:
        assert outcome.fault
    else:
        _VALIDATORS[agent].validate(outcome.answer.model_dump(mode="json"))


def _is_text(body: bytes) -> bool:
    try:
        body.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


if __name__ == "__main__":
    atheris.Setup(sys.argv, check_answer)
    atheris.Fuzz()
