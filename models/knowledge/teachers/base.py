"""The one interface of all teachers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from pydantic import BaseModel


@dataclass(frozen=True)
class Request:
    """One question of one agent."""

    agent: str
    given: BaseModel
    """The agent's typed input."""
    answer: type[BaseModel]
    """The type the answer must have; its JSON schema constrains the teacher."""
    prompt_version: str
    attempt: int = 0
    """1 when a first answer was not valid."""
    complaint: str = ""
    """What was wrong with the first answer."""


class Response(NamedTuple):
    """A teacher's answer to the request at `number` in its batch."""

    number: int
    text: str
    """The answer as it came: JSON if all is well."""
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    truncated: bool = False
    """The answer hit the token limit."""
    error: str = ""
    """Why there is no answer; such a response is never cached."""


class Price(NamedTuple):
    """Money per million tokens."""

    tokens_in: float = 0.0
    tokens_out: float = 0.0


class Teacher(Protocol):
    """Whatever answers the agents."""

    @property
    def name(self) -> str:
        """Kind, model and version: `teacher` of the KNOWLEDGE table."""

    @property
    def sampling(self) -> dict[str, Any]:
        """Everything else that changes answers; part of each request's cache key."""

    @property
    def price(self) -> Price:
        """What tokens cost."""

    def answer(self, requests: Sequence[Request]) -> Iterator[Response]:
        """Answers a batch; responses come in any order, as soon as each is there, exactly one for each request."""


@runtime_checkable
class LiveTeacher(Teacher, Protocol):
    """A teacher that takes further requests while others are in flight, so that no stage waits for another's last."""

    def answer_live(self, feed: Iterator[Request]) -> Iterator[Response]:
        """Answers requests numbered in the order in which they are taken from the feed.

        The feed is live: a response that was yielded may put more into it, so it may end now and go on later. The
        teacher tries it whenever it has room, and ends when the feed gives nothing and nothing is in flight.
        """
