"""The embedded teacher: answers the agents from the handbook by retrieval, with no weights and no network."""

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
from models.knowledge.handbook.reader import read_handbook
from models.knowledge.handbook.matcher import ConceptMatcher, Match
from models.knowledge.products import Product, fold
from models.knowledge.schema import MAX_CLAIMS, Claim
from models.knowledge.teachers.base import Price, Request, Response

_REASONED = 0.9
"""Confidence of a claim that follows from the kind of product, if the kind is right."""
_MATCHES_KEPT = 4096
_MAX_SHOWN = 3
"""Claims from cues in the product's text, per facet; the rest is left to the kind of product."""


class HandbookTeacher:
    """Answers each agent from the concept that fits the product."""

    def __init__(self, config: HandbookTeacherConfig) -> None:
        handbook = read_handbook(config.folder)
        self._concepts = handbook.concepts
        self._traits = handbook.traits
        self._matcher = ConceptMatcher(handbook.concepts)
        self._min_confidence = config.min_confidence
        self._find = lru_cache(_MATCHES_KEPT)(self._find_uncached)
        self._fold_text = lru_cache(_MATCHES_KEPT)(lambda product: fold(product.text))
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
        if answer is DemandFindings:
            return self._demand(given.product)
        return self._attributes(given.product)

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
        text = self._fold_text(draft.product)
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

    def _demand(self, product: Product) -> DemandFindings:
        match = self._find(product)
        if match is None:
            return DemandFindings(
                reasoning=_UNKNOWN, recognised=False, summary="", demands=(), audiences=(), scenarios=()
            )
        claims = {facet: self._claims(facet, product, match) for facet in ("demands", "audiences", "scenarios")}
        reasoning = f"{match.reason}, so this is: {match.concept.summary}"
        return DemandFindings(reasoning=reasoning, recognised=True, summary=match.concept.summary, **claims)

    def _attributes(self, product: Product) -> AttributeFindings:
        match = self._find(product)
        if match is None:
            return AttributeFindings(
                reasoning=_UNKNOWN, recognised=False, attributes=(), complements=(), substitutes=(), lifecycle=()
            )
        facets = ("attributes", "complements", "substitutes", "lifecycle")
        claims = {facet: self._claims(facet, product, match) for facet in facets}
        reasoning = f"{match.reason}, so what matters is: {', '.join(match.concept.focus[:3])}."
        return AttributeFindings(reasoning=reasoning, recognised=True, **claims)

    def _claims(self, facet: str, product: Product, match: Match) -> tuple[Claim, ...]:
        """The hints that hold for this product; those that its own text shows come first and quote it."""
        text = self._fold_text(product)
        sure = round(max(match.confidence, _REASONED), 3)
        likely = round(_REASONED * match.confidence, 3)
        traits = (hint for trait in self._traits for hint in getattr(trait, facet, ()))
        shown = [
            Claim(text=hint.text, evidence=quote, source="catalogue", confidence=sure)
            for hint in (*getattr(match.concept, facet), *traits)
            if (quote := _quote(hint.cues, text))
        ]
        general = [
            Claim(text=hint.text, evidence=match.reason, source="reasoning", confidence=likely)
            for hint in getattr(match.concept, facet)
            if not hint.cues
        ]
        distinct = {claim.text: claim for claim in reversed(shown[:_MAX_SHOWN] + general)}
        return tuple(reversed(distinct.values()))[:MAX_CLAIMS]


_UNKNOWN = "Neither the category nor the text matches a concept of the handbook well enough."


def _edit(draft: ReviewedDraft) -> Edition:
    record = apply_objections(draft.record, draft.objections)
    kept, before = len(list(record.claims())), len(list(draft.record.claims()))
    return Edition(reasoning=f"Kept {kept} of {before} claims; dropped those objected to.", record=record)


def _quote(cues: tuple[str, ...], text: str) -> str:
    """The first cue that stands in the folded text; empty when none does."""
    return next((cue for cue in cues if _fold_cue(cue) in text), "")


_fold_cue = cache(fold)
