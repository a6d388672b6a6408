"""The embedded teacher: answers the agents from the handbook by retrieval, with no weights and no network."""

import time
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache, partial
from pathlib import Path
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
from models.knowledge.config import EmbeddingConfig, HandbookTeacherConfig
from models.knowledge.handbook.claims import ClaimWriter, find_quote
from models.knowledge.handbook.finder import ConceptFinder
from models.knowledge.handbook.likeness import Likeness
from models.knowledge.handbook.matcher import Match
from models.knowledge.handbook.reader import read_handbook
from models.knowledge.products import Product, fold
from models.knowledge.teachers.base import Price, Request, Response
from models.knowledge.teachers.identity import identify_code, identify_model

_MATCHES_KEPT = 4096
_MAX_TITLE_TOKENS = 32
"""What a title is stands at its beginning."""


class HandbookTeacher:
    """Answers each agent from the concept that fits the product."""

    def __init__(self, config: HandbookTeacherConfig) -> None:
        handbook = read_handbook(config.folder)
        self._concepts = handbook.concepts
        self._claims = ClaimWriter(handbook)
        self._finder = ConceptFinder(
            handbook.concepts,
            min_confidence=config.min_confidence,
            load_likeness=partial(_load_likeness, config, handbook.version) if config.encoder else None,
        )
        self._fold_text = lru_cache(_MATCHES_KEPT)(lambda product: fold(product.text))
        self.name = f"handbook-{handbook.version}"
        self.sampling: dict[str, Any] = {
            "min_confidence": config.min_confidence,
            "encoder": identify_model(config.encoder, None) if config.encoder else None,
            "code": _code_version(),
        }
        self.price = Price()

    def answer(self, requests: Sequence[Request]) -> Iterator[Response]:
        """Answers in order; the products of the batch are matched together."""
        self._finder.find([product for request in requests if (product := getattr(request.given, "product", None))])
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

    def _find(self, product: Product) -> Match | None:
        return self._finder.find([product])[0]

    def _plan(self, brief: CategoryBrief) -> Plan:
        strengths = self._finder.matcher.match_category(brief.category)
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
        wrong = {words: cue for cue, words in unless.items() if find_quote((cue,), text)}
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
        text = self._fold_text(product)
        claims = {facet: self._claims.write(facet, text, match) for facet in ("demands", "audiences", "scenarios")}
        reasoning = f"{match.reason}, so this is: {match.concept.summary}"
        return DemandFindings(reasoning=reasoning, recognised=True, summary=match.concept.summary, **claims)

    def _attributes(self, product: Product) -> AttributeFindings:
        match = self._find(product)
        if match is None:
            return AttributeFindings(
                reasoning=_UNKNOWN, recognised=False, attributes=(), complements=(), substitutes=(), lifecycle=()
            )
        facets = ("attributes", "complements", "substitutes", "lifecycle")
        text = self._fold_text(product)
        claims = {facet: self._claims.write(facet, text, match) for facet in facets}
        reasoning = f"{match.reason}, so what matters is: {', '.join(match.concept.focus[:3])}."
        return AttributeFindings(reasoning=reasoning, recognised=True, **claims)


@cache
def _code_version() -> str:
    """Digest of the code that matches products and writes claims: other code answers otherwise."""
    room = Path(__file__).parents[1]
    files = ("handbook", "teachers/handbook.py", "agents/review.py", "products.py", "encoder.py")
    return identify_code(room / name for name in files)


_UNKNOWN = "Neither the category nor the text matches a concept of the handbook well enough."


def _edit(draft: ReviewedDraft) -> Edition:
    record = apply_objections(draft.record, draft.objections)
    kept, before = len(list(record.claims())), len(list(draft.record.claims()))
    return Edition(reasoning=f"Kept {kept} of {before} claims; dropped those objected to.", record=record)


@lru_cache(maxsize=1)
def _load_likeness(config: HandbookTeacherConfig, version: str) -> Likeness:
    """Encodes the concepts; once for all teachers of one handbook in this process."""
    from models.knowledge.encoder import Encoder

    assert config.encoder
    handbook = read_handbook(config.folder)
    assert handbook.version == version, "the handbook changed while it was in use"
    # bfloat16 would let a title's neighbours in its batch change the second digit of its likeness.
    encoding = EmbeddingConfig(encoder=config.encoder, max_tokens=_MAX_TITLE_TOKENS, precision="float32")
    return Likeness(handbook.concepts, Encoder(encoding))
