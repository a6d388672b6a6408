"""The team at work: one product's way through all agents, written as a conversation.

Each `yield` asks questions of agents and gets their outcomes; `question_scheduler.py` runs many at once.
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from models.knowledge.agents.agent_roles import (
    ATTRIBUTE_ANALYST,
    CRITIC,
    DEMAND_ANALYST,
    EDITOR,
    PLANNER,
    Agent,
    AgentAnswer,
    AnalystAssignment,
    AttributeFindings,
    CategoryBrief,
    DemandFindings,
    Objection,
    RecordDraft,
    ReviewedDraft,
)
from models.knowledge.agents.conversation import Conversation, Outcome, Question
from models.knowledge.agents.record_review import DroppedClaim, apply_evidence_rules, draft_record
from models.knowledge.distillation.product_text import Product
from models.knowledge.knowledge_schema import KnowledgeRecord


@dataclass
class ProductCase:
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
    dropped_claims: tuple[DroppedClaim, ...] = ()
    """Claims that fell to the rules of evidence."""
    fault: str = ""
    raw_answer: str = ""

    def record_outcome(self, agent: str, outcome: Outcome[Any]) -> bool:
        """Keeps the agent's reasoning; False closes the case: no valid answer, not even after the repair."""
        if outcome.answer is None:
            self.status = "invalid"
            self.fault = f"{agent}: {outcome.fault}"
            self.raw_answer = outcome.raw_answer
            return False
        self.reasoning[agent] = outcome.answer.reasoning
        return True


def distill_product(product: Product) -> Conversation[ProductCase]:
    """Takes a product through planner, analysts, critic and editor; returns its case."""
    case = ProductCase(product)
    if (
        category_plan := (yield from _ask_agent(case, PLANNER, CategoryBrief(category=product.category)))
    ) is None:
        return case
    analyst_input = AnalystAssignment(product=product, plan=category_plan)
    # The analysts do not read each other, so both are asked at once.
    outcomes = yield (Question(DEMAND_ANALYST, analyst_input), Question(ATTRIBUTE_ANALYST, analyst_input))
    analyst_names = (DEMAND_ANALYST.name, ATTRIBUTE_ANALYST.name)
    if not all(
        case.record_outcome(agent, outcome) for agent, outcome in zip(analyst_names, outcomes, strict=True)
    ):
        return case
    demand_findings, attribute_findings = outcomes[0].answer, outcomes[1].answer
    assert isinstance(demand_findings, DemandFindings)
    assert isinstance(attribute_findings, AttributeFindings)
    if not (demand_findings.recognized and attribute_findings.recognized):
        case.status = "unknown"
        return case
    yield from _review_and_edit(
        case, RecordDraft(product=product, record=draft_record(demand_findings, attribute_findings))
    )
    return case


def _review_and_edit(case: ProductCase, draft: RecordDraft) -> Conversation[None]:
    if (critic_review := (yield from _ask_agent(case, CRITIC, draft))) is None:
        return
    case.draft, case.objections = draft.record, critic_review.objections
    reviewed_draft = ReviewedDraft(
        product=draft.product, record=draft.record, objections=critic_review.objections
    )
    if (edited_record := (yield from _ask_agent(case, EDITOR, reviewed_draft))) is None:
        return
    case.record, case.dropped_claims = apply_evidence_rules(edited_record.record, reviewed_draft)
    # Where all claims fell nothing is known, though every answer was valid.
    case.status = "ok" if any(case.record.iterate_claims()) else "unknown"


def _ask_agent(
    case: ProductCase, agent: Agent[AgentAnswer], agent_input: BaseModel
) -> Generator[tuple[Question[Any], ...], tuple[Outcome[Any], ...], AgentAnswer | None]:
    """The agent's answer; none when the case is closed."""
    (outcome,) = yield (Question(agent, agent_input),)
    return outcome.answer if case.record_outcome(agent.name, outcome) else None
