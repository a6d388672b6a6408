"""The team at work: one product's way through all agents, told as a conversation with the desk."""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from models.knowledge.agents.conversation import Conversation, Outcome, Question
from models.knowledge.agents.review import Dropped, draft_record, settle
from models.knowledge.agents.roles import (
    ATTRIBUTE_ANALYST,
    CRITIC,
    DEMAND_ANALYST,
    EDITOR,
    PLANNER,
    Agent,
    Answer,
    Assignment,
    AttributeFindings,
    CategoryBrief,
    DemandFindings,
    Draft,
    Objection,
    ReviewedDraft,
)
from models.knowledge.products import Product
from models.knowledge.schema import KnowledgeRecord


@dataclass
class Case:
    """One product and what the team made of it."""

    product: Product
    status: str = "open"
    """`open`, then `ok`, `unknown` or `invalid`."""
    record: KnowledgeRecord | None = None
    reasoning: dict[str, str] = field(default_factory=dict)
    """Each agent's chain of thought."""
    draft: KnowledgeRecord | None = None
    """What the analysts wrote; the critic's objections count its claims."""
    objections: tuple[Objection, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    """Claims that fell to the rules of evidence."""
    fault: str = ""
    raw: str = ""

    def take(self, agent: str, outcome: Outcome[Any]) -> bool:
        """Keeps the agent's reasoning; closes the case when there is no valid answer, not even after the repair."""
        if outcome.answer is None:
            self.status = "invalid"
            self.fault = f"{agent}: {outcome.fault}"
            self.raw = outcome.raw
            return False
        self.reasoning[agent] = outcome.answer.reasoning
        return True


def distil(product: Product) -> Conversation[Case]:
    """Takes a product through planner, analysts, critic and editor; returns its case."""
    case = Case(product)
    if (plan := (yield from _ask(case, PLANNER, CategoryBrief(category=product.category)))) is None:
        return case
    assignment = Assignment(product=product, plan=plan)
    outcomes = yield (Question(DEMAND_ANALYST, assignment), Question(ATTRIBUTE_ANALYST, assignment))
    agents = (DEMAND_ANALYST.name, ATTRIBUTE_ANALYST.name)
    if not all(case.take(agent, outcome) for agent, outcome in zip(agents, outcomes, strict=True)):
        return case
    demand, attribute = outcomes[0].answer, outcomes[1].answer
    assert isinstance(demand, DemandFindings) and isinstance(attribute, AttributeFindings)  # noqa: PT018
    if not (demand.recognised and attribute.recognised):
        case.status = "unknown"
        return case
    yield from _finish(case, Draft(product=product, record=draft_record(demand, attribute)))
    return case


def _finish(case: Case, draft: Draft) -> Conversation[None]:
    if (review := (yield from _ask(case, CRITIC, draft))) is None:
        return
    case.draft, case.objections = draft.record, review.objections
    reviewed = ReviewedDraft(product=draft.product, record=draft.record, objections=review.objections)
    if (edition := (yield from _ask(case, EDITOR, reviewed))) is None:
        return
    case.record, case.dropped = settle(edition.record, reviewed)
    case.status = "ok" if any(case.record.claims()) else "unknown"


def _ask(
    case: Case, agent: Agent[Answer], given: BaseModel
) -> Generator[tuple[Question[Any], ...], tuple[Outcome[Any], ...], Answer | None]:
    """The agent's answer; none when the case is closed."""
    (outcome,) = yield (Question(agent, given),)
    return outcome.answer if case.take(agent.name, outcome) else None
