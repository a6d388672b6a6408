"""What every language model is asked, whatever runs it: messages, the answer's schema, and what a repair adds."""

from dataclasses import dataclass
from typing import Any

from contracts.digests import digest_value
from models.knowledge.agents.prompts import render
from models.knowledge.schema import json_schema
from models.knowledge.teachers.base import Request


@dataclass(frozen=True)
class Chat:
    """One conversation that waits for an answer."""

    name: str
    """Of the schema: the agent's."""
    messages: list[dict[str, str]]
    schema: dict[str, Any]
    attempt: int = 0
    """1 for a repair: it gets twice the tokens, since answers are often broken because they were cut off."""

    def seed(self, seed: int) -> int:
        """Sampling seed of this conversation alone: the order of requests does not matter, nor are answers alike."""
        return int(digest_value([seed, self.messages])[:7], 16)

    def max_tokens(self, first: int) -> int:
        """Longest answer, where a first attempt may take `first` tokens."""
        return first * (1 + self.attempt)


def make_chat(request: Request) -> Chat:
    """The conversation that puts a request to a language model; instructions, which many requests share, come first."""
    messages = render(request.agent, request.given, request.answer)
    if request.attempt:
        fault = f"Your last answer was not valid ({request.complaint}). Answer again, with valid JSON only."
        messages.append({"role": "user", "content": fault})
    return Chat(request.agent, messages, json_schema(request.answer), request.attempt)


def bare_json(text: str) -> str:
    """The JSON object in an unconstrained answer, without thoughts, remarks and code fences around it."""
    answer = text.rpartition("</think>")[2]
    start, end = answer.find("{"), answer.rfind("}")
    return answer[start : end + 1] if 0 <= start < end else answer.strip()
