"""The one interface of all teachers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

from pydantic import BaseModel

from models.knowledge.distillation.product_text import Product


@dataclass(frozen=True)
class TeacherRequest:
    """One question of one agent."""

    agent: str
    agent_input: BaseModel
    """The agent's typed input."""
    answer_type: type[BaseModel]
    """The type the answer must have; its JSON schema constrains the teacher."""
    prompt_version: str
    attempt: int = 0
    """1 when a first answer was not valid."""
    complaint: str = ""
    """What was wrong with the first answer."""
    tells_schema: bool = True
    """The instructions are followed by the schema. It costs tokens; where words say it all, leave it out."""


class TeacherResponse(NamedTuple):
    """A teacher's answer to the request at `number` in its batch."""

    number: int
    text: str
    """The answer as it came: JSON if all is well. With an `error`, what came instead, for the quarantine."""
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    truncated: bool = False
    """The answer hit the token limit."""
    error: str = ""
    """Why there is no answer; such a response is never cached."""
    mean_logprob: float | None = None
    """Mean log-probability of the answer's tokens, where the teacher was told to say it (`confidence`)."""
    money: float | None = None
    """What it cost, where several teachers answered; else the teacher's price decides."""


class TokenPrice(NamedTuple):
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
    def price(self) -> TokenPrice:
        """What tokens cost."""

    def answer_batch(self, requests: Sequence[TeacherRequest]) -> Iterator[TeacherResponse]:
        """Answers a batch: one response for each request, in any order, each as soon as it is there."""


@runtime_checkable
class LiveTeacher(Teacher, Protocol):
    """A teacher that takes further requests while others are in flight, so that none waits for the last."""

    def answer_live(self, feed: Iterator[TeacherRequest]) -> Iterator[TeacherResponse]:
        """Answers requests numbered in the order in which they are taken from the feed.

        The feed is live: a response that was yielded may put more into it, so it may end now and go on later.
        The teacher tries it whenever it has room, and ends when the feed gives nothing and nothing is in
        flight.
        """


RECORDED_COUNT: Final = "recorded_"
ROUTED_COUNT: Final = "cascade_"


@runtime_checkable
class CatalogueTeacher(Teacher, Protocol):
    """A teacher that must see the whole catalogue first, since it knows items by their ids."""

    counts: Mapping[str, int]
    """What became of what it holds, each name beginning with `RECORDED_COUNT`: metrics of the artifact."""

    def join_catalogue(self, items: Iterable[tuple[str, Product]]) -> Sequence[str]:
        """Reads ids and products; its name is final only then. Returns lines to tell who runs it.

        Raises:
            UserError: it knows none of them.
        """


class RoutingSummary(NamedTuple):
    """Which of several teachers answered in this run."""

    lines: Sequence[str]
    """For who runs it."""
    counts: Mapping[str, float]
    """Metrics of the artifact, each name beginning with `ROUTED_COUNT`; those of shards add up."""


@runtime_checkable
class RoutingTeacher(Teacher, Protocol):
    """A teacher that hands each item to one of several."""

    def summarize_routing(self) -> RoutingSummary:
        """What it did since it was made. Cached answers are not counted."""
