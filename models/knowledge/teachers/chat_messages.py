"""What every language model is asked, whatever runs it: messages, schema, and what a repair adds."""

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from pydantic import BaseModel

from contracts.digests import digest_value
from models.knowledge.agents.prompt_files import frame_chat_messages, render_chat_messages
from models.knowledge.knowledge_schema import build_answer_schema
from models.knowledge.teachers.teacher import TeacherRequest


@dataclass(frozen=True)
class ChatPrompt:
    """What a model is to answer once."""

    name: str
    """Of the schema: the agent's."""
    messages: list[dict[str, str]]
    schema: dict[str, Any]
    attempt: int = 0
    """1 for a repair: it gets twice the tokens, since answers are often broken because they were cut off."""

    def derive_sampling_seed(self, seed: int) -> int:
        """Sampling seed of this prompt alone, so that the order of requests does not matter."""
        return int(digest_value([seed, self.messages])[:7], 16)

    def limit_answer_tokens(self, first: int) -> int:
        """Longest answer, where a first attempt may take `first` tokens."""
        return first * (1 + self.attempt)


def make_chat_prompt(request: TeacherRequest) -> ChatPrompt:
    """Puts a request to a language model; the instructions, which many requests share, come first."""
    messages = render_chat_messages(
        request.agent, request.agent_input, request.answer_type, tells_schema=request.tells_schema
    )
    if request.attempt:
        messages.append(_make_repair_message(request.complaint))
    return ChatPrompt(request.agent, messages, build_answer_schema(request.answer_type), request.attempt)


class _Sample(BaseModel):
    """An input of every kind of value whose rendering may change."""

    text: str = "<tag> & 'quotes' \"\u00e9\u4e16\" \\ \n"
    number: float = 0.5
    parts: tuple[str, ...] = ("a", "b")
    nothing: str | None = None


_FIRST_TOKENS: Final = 100


@cache
def digest_prompt_rendering() -> str:
    """Digest (8 hex digits) of how a fixed sample is put to a language model.

    It changes with whatever all requests have in common: markers, escapes, the frame of the schema, the words
    of a repair, its room and its seed. What requests differ in (instructions, schema, input) has digests of
    its own.
    """
    messages = [*frame_chat_messages("Instructions.", _Sample(), _Sample), _make_repair_message("fault")]
    chats = [ChatPrompt("sample", messages, {}, attempt) for attempt in (0, 1)]
    chat_contents = [
        (chat.messages, chat.derive_sampling_seed(0), chat.limit_answer_tokens(_FIRST_TOKENS))
        for chat in chats
    ]
    return digest_value(chat_contents)[:8]


def _make_repair_message(complaint: str) -> dict[str, str]:
    """The message that asks for a repair."""
    fault = f"Your last answer was not valid ({complaint}). Answer again, with valid JSON only."
    return {"role": "user", "content": fault}
