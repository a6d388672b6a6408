"""The embedded teacher: answers the agents from the handbook by retrieval, with no weights and no network."""

import re
import time
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from typing import Any

from pydantic import BaseModel

from models.knowledge.agents.review import apply_objections
from models.knowledge.agents.roles import (
    Assignment,
    AttributeFindings,
    CategoryBrief,
    DemandFindings,
    Draft,
    Edition,
    Objection,
    Plan,
    Review,
    ReviewedDraft,
)
from models.knowledge.config import HandbookTeacherConfig
from models.knowledge.handbook.concepts import Hints, read_handbook
from models.knowledge.handbook.matcher import ConceptMatcher, Match
from models.knowledge.products import Product
from models.knowledge.schema import MAX_CLAIMS, Claim
from models.knowledge.teachers.base import Price, Request, Response

_REASONED = 0.9
"""Confidence of a claim that follows from the kind of product, if the kind is right."""
_MATCHES_KEPT = 4096
_MAX_QUOTE_CHARS = 200


class HandbookTeacher:
    """Answers each agent from the concept that fits the product."""

    def __init__(self, config: HandbookTeacherConfig) -> None:
        handbook = read_handbook(config.folder)
        self._concepts = handbook.concepts
        self._matcher = ConceptMatcher(handbook.concepts)
        self._min_confidence = config.min_confidence
        self._find = lru_cache(_MATCHES_KEPT)(self._find_uncached)
        self.name = f"handbook-{handbook.version}"
        self.sampling: dict[str, Any] = {"min_confidence": config.min_confidence}
        self.price = Price()

    def answer(self, requests: Sequence[Request]) -> Iterator[Response]:
        """Answers in order."""
        for number, request in enumerate(requests):
            start = time.perf_counter()
            text = self._reply(request.answer, request.given).model_dump_json()
            yield Response(number, text, seconds=time.perf_counter() - start)

    def _reply(self, answer: type[BaseModel], given: BaseModel) -> BaseModel:
        if isinstance(given, CategoryBrief):
            return self._plan(given)
        if isinstance(given, ReviewedDraft):
            return _edit(given)
        if isinstance(given, Draft):
            return self._review(given)
        assert isinstance(given, Assignment), f"no agent reads {type(given).__name__}"
        match = self._find(given.product)
        return _demand(given.product, match) if answer is DemandFindings else _attributes(given.product, match)

    def _find_uncached(self, product: Product) -> Match | None:
        match = self._matcher.match(product)
        return match if match and match.confidence >= self._min_confidence else None

    def _plan(self, brief: CategoryBrief) -> Plan:
        strengths = self._matcher.match_category(brief.category)
        if not strengths:
            return Plan(reasoning="The handbook knows no such category.", product_kind="unknown", focus=(), pitfalls=())
        concept = self._concepts[max(strengths, key=lambda index: strengths[index])]
        pitfalls = tuple(f"taking it for {hint.text}" for hint in concept.complements[:2])
        reasoning = f"The category holds products like handbook concept '{concept.id}': {concept.summary}"
        return Plan(reasoning=reasoning, product_kind=concept.name, focus=concept.focus, pitfalls=pitfalls)

    def _review(self, draft: Draft) -> Review:
        match = self._find(draft.product)
        text = draft.product.text.casefold()
        unless = match.concept.unless if match else {}
        wrong = {words: cue for cue, words in unless.items() if _quote((cue,), text)}
        objections = [
            Objection(facet=placed.facet, number=placed.number, problem=f"the text says '{cue}'", remedy="drop")
            for placed in draft.record.claims()
            for words, cue in wrong.items()
            if words in placed.claim.text
        ]
        reasoning = f"Compared each claim with the product's text; {len(objections)} contradict it."
        return Review(reasoning=reasoning, objections=tuple(objections[:12]))


def _demand(product: Product, match: Match | None) -> DemandFindings:
    if match is None:
        return DemandFindings(
            reasoning=_UNKNOWN, recognised=False, summary="", demands=(), audiences=(), scenarios=()
        )
    concept = match.concept
    return DemandFindings(
        reasoning=f"{match.reason}, so this is: {concept.summary}",
        recognised=True,
        summary=concept.summary,
        demands=_claims(concept.demands, product, match),
        audiences=_claims(concept.audiences, product, match),
        scenarios=_claims(concept.scenarios, product, match),
    )


def _attributes(product: Product, match: Match | None) -> AttributeFindings:
    if match is None:
        return AttributeFindings(
            reasoning=_UNKNOWN, recognised=False, attributes=(), complements=(), substitutes=(), lifecycle=()
        )
    concept = match.concept
    return AttributeFindings(
        reasoning=f"{match.reason}, so what matters is: {', '.join(concept.focus[:3])}.",
        recognised=True,
        attributes=_claims(concept.attributes, product, match),
        complements=_claims(concept.complements, product, match),
        substitutes=_claims(concept.substitutes, product, match),
        lifecycle=_claims(concept.lifecycle, product, match),
    )


_UNKNOWN = "Neither the category nor the text matches a concept of the handbook well enough."


def _edit(draft: ReviewedDraft) -> Edition:
    record = apply_objections(draft.record, draft.objections)
    kept, before = len(list(record.claims())), len(list(draft.record.claims()))
    return Edition(reasoning=f"Kept {kept} of {before} claims; dropped those objected to.", record=record)


def _claims(hints: Hints, product: Product, match: Match) -> tuple[Claim, ...]:
    """The hints that hold for this product; those that its own text shows come first and quote it."""
    text = product.text.casefold()
    shown: list[Claim] = []
    general: list[Claim] = []
    for hint in hints:
        quote = _quote(hint.cues, text)
        if quote:
            sure = max(match.confidence, _REASONED)
            shown.append(Claim(text=hint.text, evidence=quote, source="catalogue", confidence=round(sure, 3)))
        elif not hint.cues:
            confidence = round(_REASONED * match.confidence, 3)
            general.append(Claim(text=hint.text, evidence=match.reason, source="reasoning", confidence=confidence))
    return tuple((shown + general)[:MAX_CLAIMS])


def _quote(cues: tuple[str, ...], text: str) -> str:
    """The first cue that stands in the (case-folded) text as words of their own; empty when none does."""
    found = (_pattern(cue).search(text) for cue in cues)
    return next((hit.group()[:_MAX_QUOTE_CHARS] for hit in found if hit), "")


@cache
def _pattern(cue: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(cue.casefold())}(?!\w)")
