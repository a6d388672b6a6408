"""The team at work: a batch of products goes through all agents, stage by stage."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from models.knowledge.agents.desk import Desk, Outcome
from models.knowledge.agents.review import draft_record, settle
from models.knowledge.agents.roles import (
    ATTRIBUTE_ANALYST,
    CRITIC,
    DEMAND_ANALYST,
    EDITOR,
    PLANNER,
    Agent,
    Answer,
    Assignment,
    CategoryBrief,
    Draft,
    Objection,
    ReviewedDraft,
)
from models.knowledge.products import Product
from models.knowledge.schema import KnowledgeRecord


@dataclass
class Case:
    """One product on its way through the team."""

    product: Product
    status: str = "open"
    """`open`, then `ok`, `unknown` or `invalid`."""
    record: KnowledgeRecord | None = None
    reasoning: dict[str, str] = field(default_factory=dict)
    """Each agent's chain of thought."""
    objections: tuple[Objection, ...] = ()
    dropped: Counter[str] = field(default_factory=Counter)
    """Claims that fell to the rules of evidence, by reason."""
    fault: str = ""
    raw: str = ""

    def fail(self, agent: str, outcome: Outcome[Answer]) -> None:
        """Closes the case: an agent gave no valid answer, not even after the repair."""
        self.status = "invalid"
        self.fault = f"{agent}: {outcome.fault}"
        self.raw = outcome.raw


def distil(products: Sequence[Product], desk: Desk) -> list[Case]:
    """Takes a batch of products through planner, analysts, critic and editor."""
    cases = [Case(product) for product in products]
    assignments = _assign(cases, desk)
    drafts = _analyse(cases, assignments, desk)
    _edit(cases, drafts, desk)
    return cases


def _assign(cases: Sequence[Case], desk: Desk) -> list[Assignment | None]:
    plans = _ask(desk, PLANNER, cases, [CategoryBrief(category=case.product.category) for case in cases])
    return [
        None if plan is None else Assignment(product=case.product, plan=plan)
        for case, plan in zip(cases, plans, strict=True)
    ]


def _analyse(cases: Sequence[Case], assignments: Sequence[Assignment | None], desk: Desk) -> list[Draft | None]:
    demands = _ask(desk, DEMAND_ANALYST, cases, assignments)
    attributes = _ask(desk, ATTRIBUTE_ANALYST, cases, assignments)
    drafts: list[Draft | None] = []
    for case, demand, attribute in zip(cases, demands, attributes, strict=True):
        if demand is None or attribute is None:
            drafts.append(None)
        elif demand.recognised and attribute.recognised:
            drafts.append(Draft(product=case.product, record=draft_record(demand, attribute)))
        else:
            case.status = "unknown"
            drafts.append(None)
    return drafts


def _edit(cases: Sequence[Case], drafts: Sequence[Draft | None], desk: Desk) -> None:
    reviews = _ask(desk, CRITIC, cases, drafts)
    reviewed = [
        ReviewedDraft(product=draft.product, record=draft.record, objections=review.objections)
        if draft and review
        else None
        for draft, review in zip(drafts, reviews, strict=True)
    ]
    editions = _ask(desk, EDITOR, cases, reviewed)
    for case, given, edition in zip(cases, reviewed, editions, strict=True):
        if given is not None and edition is not None:
            case.objections = given.objections
            case.record, case.dropped = settle(edition.record, given)
            case.status = "ok" if any(case.record.claims()) else "unknown"


def _ask(
    desk: Desk, agent: Agent[Answer], cases: Sequence[Case], inputs: Sequence[Assignment | Draft | CategoryBrief | None]
) -> list[Answer | None]:
    """Asks about the open cases that have an input; a case without a valid answer is closed."""
    asked = [number for number, given in enumerate(inputs) if given is not None and cases[number].status == "open"]
    outcomes = desk.ask(agent, [given for number in asked if (given := inputs[number]) is not None])
    answers: list[Answer | None] = [None] * len(inputs)
    for number, outcome in zip(asked, outcomes, strict=True):
        answers[number] = outcome.answer
        if outcome.answer is None:
            cases[number].fail(agent.name, outcome)
        else:
            cases[number].reasoning[agent.name] = outcome.answer.reasoning
    return answers
