"""What code decides, whoever the teacher is: the draft, objections, and the rules of evidence."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from contracts.tables import FACETS
from models.knowledge.agents.agent_roles import AttributeFindings, DemandFindings, Objection, ReviewedDraft
from models.knowledge.distillation.product_text import QuotableText, fold_words
from models.knowledge.knowledge_schema import Claim, KnowledgeRecord, PlacedClaim

RULES_VERSION: Final = 3
"""Version of these rules, of the order in which the team works, and of what `serialize_case` keeps. Raise it
when they give other records or traces: finished items are then settled anew, from answers that are cached."""

NOT_IN_DRAFT: Final = "not in the draft"
OBJECTED: Final = "objected to"
LEFT_OUT: Final = "left out by the editor"
REPEATED: Final = "repeated"
NO_EVIDENCE: Final = "no evidence"
NOT_QUOTED: Final = "quotation not in the catalogue"
DROP_REASONS: Final = (NOT_IN_DRAFT, OBJECTED, LEFT_OUT, REPEATED, NO_EVIDENCE, NOT_QUOTED)
"""Why a claim may fall."""


class DroppedClaim(NamedTuple):
    """A claim that fell, and why."""

    facet: str
    text: str
    evidence: str
    reason: str


class SettledRecord(NamedTuple):
    """A record after the rules of evidence."""

    record: KnowledgeRecord
    dropped_claims: tuple[DroppedClaim, ...]


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
    remedies_by_place = {(str(one.facet), one.number): one.remedy for one in objections}

    def select_claim(placed: PlacedClaim) -> Claim | None:
        remedy = remedies_by_place.get((placed.facet, placed.number))
        if remedy == "drop":
            return None
        if remedy == "weaken":
            return placed.claim.model_copy(update={"confidence": placed.claim.confidence / 2})
        return placed.claim

    return _select_claims(record, select_claim)


def apply_evidence_rules(record: KnowledgeRecord, draft: ReviewedDraft) -> SettledRecord:
    """Drops claims without evidence, false quotations, repetitions, and claims of the editor's own.

    The editor may only choose among the draft's claims that the critic left standing. They are kept as the
    analysts wrote and the critic weakened them: what no analyst argued for has no reasoning in the trace.
    """
    dropped_claims: list[DroppedClaim] = []
    seen_places: set[tuple[str, str]] = set()
    drafted_claims = _index_claims_by_text(draft.record)
    standing_claims = _index_claims_by_text(apply_objections(draft.record, draft.objections))
    quotable_text = QuotableText(draft.product.text)

    def select_claim(placed: PlacedClaim) -> Claim | None:
        place = (placed.facet, _fold_claim(placed.claim.text))
        if place not in drafted_claims:
            reason = NOT_IN_DRAFT
        elif place not in standing_claims:
            reason = OBJECTED
        elif place in seen_places:
            reason = REPEATED
        else:
            reason = _find_evidence_fault(standing_claims[place], quotable_text)
        seen_places.add(place)
        if reason:
            dropped_claims.append(_make_dropped_claim(placed, reason))
        return None if reason else standing_claims[place]

    settled_record = _select_claims(record, select_claim)
    edited_claims = _index_claims_by_text(record)
    for drafted_claim in draft.record.iterate_claims():
        claim_place = (drafted_claim.facet, _fold_claim(drafted_claim.claim.text))
        if claim_place not in edited_claims:
            drop_reason = LEFT_OUT if claim_place in standing_claims else OBJECTED
            dropped_claims.append(_make_dropped_claim(drafted_claim, drop_reason))
    return SettledRecord(settled_record, tuple(dropped_claims))


@lru_cache(1024)  # a claim is looked at several times in a row
def _fold_claim(text: str) -> str:
    folded_text = fold_words(text)
    return folded_text if folded_text.strip() else text


def _make_dropped_claim(placed: PlacedClaim, reason: str) -> DroppedClaim:
    return DroppedClaim(placed.facet, placed.claim.text, placed.claim.evidence, reason)


def _index_claims_by_text(record: KnowledgeRecord) -> dict[tuple[str, str], Claim]:
    """Claims by facet and folded text, the first of equal ones."""
    return {
        (placed_claim.facet, _fold_claim(placed_claim.claim.text)): placed_claim.claim
        for placed_claim in reversed(list(record.iterate_claims()))
    }


def _find_evidence_fault(claim: Claim, quotable_text: QuotableText) -> str:
    """Why a claim's evidence does not count; empty when it does."""
    if not claim.evidence:
        return NO_EVIDENCE
    if claim.source == "catalogue" and not quotable_text.holds_quotation(claim.evidence):
        return NOT_QUOTED
    return ""


def _select_claims(
    record: KnowledgeRecord, select_claim: Callable[[PlacedClaim], Claim | None]
) -> KnowledgeRecord:
    selected_claims: dict[str, list[Claim]] = {facet: [] for facet in FACETS}
    for placed_claim in record.iterate_claims():
        if (selected_claim := select_claim(placed_claim)) is not None:
            selected_claims[placed_claim.facet].append(selected_claim)
    return record.model_copy(update={facet: tuple(claims) for facet, claims in selected_claims.items()})
