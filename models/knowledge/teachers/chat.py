"""What every language model is asked, whatever runs it: messages, the answer's schema, and what a repair adds."""

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from pydantic import BaseModel

from contracts.digests import digest_value
from models.knowledge.agents.prompts import lay_out, render
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
        messages.append(_complain(request.complaint))
    return Chat(request.agent, messages, json_schema(request.answer), request.attempt)


class _Sample(BaseModel):
    """An input of every kind of value whose rendering may change."""

    text: str = "<tag> & 'quotes' \"\u00e9\u4e16\" \\ \n"
    number: float = 0.5
    parts: tuple[str, ...] = ("a", "b")
    nothing: str | None = None


_FIRST_TOKENS: Final = 100


@cache
def rendering_version() -> str:
    """Digest (8 hex digits) of how a fixed sample is put to a language model.

    It changes with whatever all requests have in common: markers, escapes, the frame of the schema, the words of a
    repair, its room and its seed. What requests differ in (instructions, schema, input) has digests of its own.
    """
    messages = [*lay_out("Instructions.", _Sample(), _Sample), _complain("fault")]
    chats = [Chat("sample", messages, {}, attempt) for attempt in (0, 1)]
    asked = [(chat.messages, chat.seed(0), chat.max_tokens(_FIRST_TOKENS)) for chat in chats]
    return digest_value(asked)[:8]


def _complain(complaint: str) -> dict[str, str]:
    """The message that asks for a repair."""
    fault = f"Your last answer was not valid ({complaint}). Answer again, with valid JSON only."
    return {"role": "user", "content": fault}


def bare_json(text: str) -> str:
    """The JSON object in an unconstrained answer, without thoughts, remarks and code fences around it."""
    answer = text.rpartition("</think>")[2]
    start, end = answer.find("{"), answer.rfind("}")
    return answer[start : end + 1] if 0 <= start < end else answer.strip()
