"""What is settled by code, whoever the teacher is: drafting, applying objections, and dropping what has no evidence."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from models.knowledge.agents.roles import AttributeFindings, DemandFindings, Objection, ReviewedDraft
from models.knowledge.products import fold
from models.knowledge.schema import Claim, KnowledgeRecord, PlacedClaim


class Settled(NamedTuple):
    """A record after the rules of evidence."""

    record: KnowledgeRecord
    dropped: Counter[str]
    """How many claims fell, by reason."""


def draft_record(demand: DemandFindings, attribute: AttributeFindings) -> KnowledgeRecord:
    """Puts the two analysts' findings into one record."""
    return KnowledgeRecord(
        summary=demand.summary or "No summary.",
        demands=demand.demands,
        audiences=demand.audiences,
        scenarios=demand.scenarios,
        attributes=attribute.attributes,
        complements=attribute.complements,
        substitutes=attribute.substitutes,
        lifecycle=attribute.lifecycle,
    )


def apply_objections(record: KnowledgeRecord, objections: Iterable[Objection]) -> KnowledgeRecord:
    """Drops or weakens (halves the confidence of) the claims objected to."""
    remedies = {(str(objection.facet), objection.number): objection.remedy for objection in objections}

    def keep(placed: PlacedClaim) -> Claim | None:
        remedy = remedies.get((placed.facet, placed.number))
        if remedy == "drop":
            return None
        return _weaken(placed.claim) if remedy == "weaken" else placed.claim

    return _select(record, keep)


def settle(record: KnowledgeRecord, draft: ReviewedDraft) -> Settled:
    """Drops claims without evidence, quotations that the catalogue does not hold, repetitions and the editor's own.

    The editor may only choose among the draft's claims that the critic left standing: what no analyst argued for has no
    reasoning in the trace.
    """
    dropped: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    drafted = _texts(draft.record)
    standing = _texts(apply_objections(draft.record, draft.objections))
    text = fold(draft.product.text)

    def keep(placed: PlacedClaim) -> Claim | None:
        place = (placed.facet, fold(placed.claim.text))
        if place not in drafted:
            reason = "not in the draft"
        elif place not in standing:
            reason = "objected to"
        elif place in seen:
            reason = "repeated"
        else:
            reason = _find_fault(placed.claim, text)
        seen.add(place)
        if reason:
            dropped[reason] += 1
        return None if reason else placed.claim

    settled = _select(record, keep)
    left_out = drafted - _texts(record)
    dropped["objected to"] += len(left_out - standing)
    dropped["left out by the editor"] += len(left_out & standing)
    return Settled(settled, +dropped)


def _texts(record: KnowledgeRecord) -> set[tuple[str, str]]:
    return {(placed.facet, fold(placed.claim.text)) for placed in record.claims()}


def _find_fault(claim: Claim, folded_text: str) -> str:
    """Why a claim's evidence does not count; empty when it does."""
    if not claim.evidence:
        return "no evidence"
    if claim.source == "catalogue" and fold(claim.evidence) not in folded_text:
        return "quotation not in the catalogue"
    return ""


def _select(record: KnowledgeRecord, keep: Callable[[PlacedClaim], Claim | None]) -> KnowledgeRecord:
    kept: dict[str, list[Claim]] = defaultdict(list)
    for placed in record.claims():
        claim = keep(placed)
        if claim is not None:
            kept[placed.facet].append(claim)
    emptied: dict[str, tuple[Claim, ...]] = {placed.facet: () for placed in record.claims()}
    return record.model_copy(update=emptied | {facet: tuple(claims) for facet, claims in kept.items()})


def _weaken(claim: Claim) -> Claim:
    return claim.model_copy(update={"confidence": claim.confidence / 2})
