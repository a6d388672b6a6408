"""What is settled by code, whoever the teacher is: drafting, applying objections, and dropping what has no evidence."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from models.knowledge.agents.roles import AttributeFindings, DemandFindings, Objection, ReviewedDraft
from models.knowledge.products import fold
from models.knowledge.schema import Claim, KnowledgeRecord, PlacedClaim

RULES: Final = 2
"""Version of the rules in this file, of the order in which the team works, and of what `records.finish` keeps. Raise it
when they give other records or traces: finished items are then settled anew, from answers that are cached."""

NOT_IN_DRAFT: Final = "not in the draft"
OBJECTED: Final = "objected to"
LEFT_OUT: Final = "left out by the editor"
REPEATED: Final = "repeated"
NO_EVIDENCE: Final = "no evidence"
NOT_QUOTED: Final = "quotation not in the catalogue"
REASONS: Final = (NOT_IN_DRAFT, OBJECTED, LEFT_OUT, REPEATED, NO_EVIDENCE, NOT_QUOTED)
"""Why a claim may fall."""


class Dropped(NamedTuple):
    """A claim that fell, and why."""

    facet: str
    text: str
    evidence: str
    reason: str


class Settled(NamedTuple):
    """A record after the rules of evidence."""

    record: KnowledgeRecord
    dropped: tuple[Dropped, ...]


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

    The editor may only choose among the draft's claims that the critic left standing, and they are kept as the analysts
    wrote and the critic weakened them: what no analyst argued for has no reasoning in the trace.
    """
    dropped: list[Dropped] = []
    seen: set[tuple[str, str]] = set()
    drafted = _by_place(draft.record)
    standing = _by_place(apply_objections(draft.record, draft.objections))
    text = fold(draft.product.text)

    def keep(placed: PlacedClaim) -> Claim | None:
        place = (placed.facet, _fold(placed.claim.text))
        if place not in drafted:
            reason = NOT_IN_DRAFT
        elif place not in standing:
            reason = OBJECTED
        elif place in seen:
            reason = REPEATED
        else:
            reason = _find_fault(standing[place], text)
        seen.add(place)
        if reason:
            dropped.append(_drop(placed, reason))
        return None if reason else standing[place]

    settled = _select(record, keep)
    kept_by_editor = _by_place(record)
    for placed in draft.record.claims():
        place = (placed.facet, _fold(placed.claim.text))
        if place not in kept_by_editor:
            dropped.append(_drop(placed, LEFT_OUT if place in standing else OBJECTED))
    return Settled(settled, tuple(dropped))


_fold = lru_cache(1024)(fold)
"""A claim is looked at several times in a row."""


def _drop(placed: PlacedClaim, reason: str) -> Dropped:
    return Dropped(placed.facet, placed.claim.text, placed.claim.evidence, reason)


def _by_place(record: KnowledgeRecord) -> dict[tuple[str, str], Claim]:
    """Claims by facet and folded text, the first of equal ones."""
    return {(placed.facet, _fold(placed.claim.text)): placed.claim for placed in reversed(list(record.claims()))}


def _find_fault(claim: Claim, folded_text: str) -> str:
    """Why a claim's evidence does not count; empty when it does."""
    if not claim.evidence:
        return NO_EVIDENCE
    if claim.source == "catalogue" and fold(claim.evidence) not in folded_text:
        return NOT_QUOTED
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
