"""A conversation with the desk: questions, their outcomes, and whether an answer is valid."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from models.knowledge.agents.roles import Agent, Reasoned
from models.knowledge.teachers.base import Response

Answer = TypeVar("Answer", bound=Reasoned)
Result = TypeVar("Result")

_MAX_COMPLAINT_CHARS: Final = 300


@dataclass(frozen=True)
class Question(Generic[Answer]):
    """What a conversation wants to know of an agent."""

    agent: Agent[Answer]
    given: BaseModel


@dataclass(frozen=True)
class Outcome(Generic[Answer]):
    """What became of one question."""

    answer: Answer | None
    fault: str = ""
    """Why there is no valid answer."""
    raw: str = ""
    """The last answer as it came, for the quarantine; empty when none came."""


Conversation = Generator[tuple[Question[Any], ...], tuple[Outcome[Any], ...], Result]


def judge(agent: Agent[Answer], response: Response) -> Outcome[Answer]:
    """Reads a response as the agent's answer."""
    if response.error:
        return Outcome(None, fault=_writable(response.error))
    raw = _writable(response.text) or "(empty)"
    if response.truncated:
        return Outcome(None, fault="the answer was cut off at the token limit", raw=raw)
    try:
        return Outcome(agent.answer.model_validate_json(response.text), raw=raw)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'answer'}: {e['msg']}" for e in error.errors()[:3])
        return Outcome(None, fault=faults[:_MAX_COMPLAINT_CHARS], raw=raw)


def _writable(text: str) -> str:
    """Text of a teacher may hold half a surrogate pair, which no file can."""
    return text.encode("utf-8", "backslashreplace").decode()
