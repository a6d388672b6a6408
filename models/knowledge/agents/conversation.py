"""What a conversation with the agents is made of: questions and their outcomes."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from models.knowledge.agents.agent_roles import Agent, AgentAnswer

Result = TypeVar("Result")


@dataclass(frozen=True)
class Question(Generic[AgentAnswer]):
    """What a conversation asks an agent."""

    agent: Agent[AgentAnswer]
    agent_input: BaseModel


@dataclass(frozen=True)
class Outcome(Generic[AgentAnswer]):
    """What became of one question."""

    answer: AgentAnswer | None
    fault: str = ""
    """Why there is no valid answer."""
    raw_answer: str = ""
    """The last answer as it came, for the quarantine. It is empty when none came."""
    is_answered: bool = True
    """The teacher gave an answer, valid or not. Else it has tried all that it could, and a repair is idle."""


Conversation = Generator[tuple[Question[Any], ...], tuple[Outcome[Any], ...], Result]
"""It yields the questions that it can ask now, is sent their outcomes, and returns its result."""
