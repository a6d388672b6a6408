"""The five agents: what each reads and what each writes.

planner (once per category) -> demand analyst and attribute analyst (once per product) -> critic -> editor.
An answer starts with its reasoning, so that a language model reasons before it commits itself.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

from pydantic import Field

from models.knowledge.distillation.product_text import Product
from models.knowledge.knowledge_schema import (
    Claims,
    Facet,
    KnowledgeRecord,
    Reasoning,
    Sentence,
    ShortText,
    StrictModel,
)

AgentAnswer = TypeVar("AgentAnswer", bound="ReasonedAnswer")


class ReasonedAnswer(StrictModel):
    """An answer that says first how it came about."""

    reasoning: Reasoning


class CategoryBrief(StrictModel):
    """What the planner reads: the category alone, so that no product can speak to another's record."""

    category: str


class CategoryPlan(ReasonedAnswer):
    """What matters when describing products of a category."""

    product_kind: ShortText
    focus: Annotated[tuple[ShortText, ...], Field(max_length=6)]
    pitfalls: Annotated[tuple[ShortText, ...], Field(max_length=4)]


class AnalystAssignment(StrictModel):
    """What both analysts read."""

    product: Product
    plan: CategoryPlan


class DemandFindings(ReasonedAnswer):
    """The demand side: who needs the product, for what and when."""

    recognized: bool
    summary: Sentence
    demands: Claims
    audiences: Claims
    scenarios: Claims


class AttributeFindings(ReasonedAnswer):
    """The product side: what it is made of, what goes with it and what could stand in for it."""

    recognized: bool
    attributes: Claims
    complements: Claims
    substitutes: Claims
    lifecycle: Claims


class RecordDraft(StrictModel):
    """What the critic reads."""

    product: Product
    record: KnowledgeRecord


class Objection(StrictModel):
    """A fault found in one claim."""

    facet: Facet
    number: int = Field(ge=0, le=9)
    problem: Sentence
    remedy: Literal["drop", "weaken"]


class CriticReview(ReasonedAnswer):
    """The critic's findings."""

    objections: Annotated[tuple[Objection, ...], Field(max_length=12)]


class ReviewedDraft(RecordDraft):
    """What the editor reads."""

    objections: tuple[Objection, ...]


class EditedRecord(ReasonedAnswer):
    """The editor's final record."""

    record: KnowledgeRecord


@dataclass(frozen=True)
class Agent(Generic[AgentAnswer]):
    """A role: its name (also of its prompt file) and the type of its answer."""

    name: str
    answer_type: type[AgentAnswer]
    is_shared: bool = False
    """One answer serves many products."""


PLANNER: Final = Agent("planner", CategoryPlan, is_shared=True)
DEMAND_ANALYST: Final = Agent("demand_analyst", DemandFindings)
ATTRIBUTE_ANALYST: Final = Agent("attribute_analyst", AttributeFindings)
CRITIC: Final = Agent("critic", CriticReview)
EDITOR: Final = Agent("editor", EditedRecord)
AGENTS: Final[tuple[Agent[Any], ...]] = (PLANNER, DEMAND_ANALYST, ATTRIBUTE_ANALYST, CRITIC, EDITOR)
AGENT_NAMES: Final = tuple(agent.name for agent in AGENTS)
