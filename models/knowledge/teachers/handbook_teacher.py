"""The embedded teacher: it answers the agents from the handbook, with no weights and no network."""

import time
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from models.knowledge.agents.agent_roles import (
    AnalystAssignment,
    AttributeFindings,
    CategoryBrief,
    CategoryPlan,
    CriticReview,
    DemandFindings,
    EditedRecord,
    Objection,
    RecordDraft,
    ReviewedDraft,
)
from models.knowledge.agents.record_review import apply_objections
from models.knowledge.config import HandbookTeacherConfig
from models.knowledge.distillation.product_text import Product, fold_words
from models.knowledge.handbook.claim_writer import ClaimWriter, find_quoted_cue
from models.knowledge.handbook.concept_matcher import ConceptMatch, ConceptMatcher
from models.knowledge.handbook.handbook_files import read_handbook
from models.knowledge.knowledge_schema import Claims
from models.knowledge.teachers.model_identity import identify_source_code
from models.knowledge.teachers.teacher import TeacherRequest, TeacherResponse, TokenPrice

_PRODUCTS_KEPT: Final = 4096
"""Each product is asked about by four agents, so its match and its folded text are kept for a while."""
_UNKNOWN: Final = "Neither the category nor the text matches a concept of the handbook well enough."
_DEMAND_FACETS: Final = ("demands", "audiences", "scenarios")
_ATTRIBUTE_FACETS: Final = ("attributes", "complements", "substitutes", "lifecycle")


class HandbookTeacher:
    """Answers each agent from the concept that fits the product."""

    def __init__(self, config: HandbookTeacherConfig) -> None:
        handbook = read_handbook(config.folder)
        self._concepts = handbook.concepts
        self._claim_writer = ClaimWriter(handbook)
        self._matcher = ConceptMatcher(handbook)
        self._find_concept = lru_cache(_PRODUCTS_KEPT)(self._matcher.find_concept)
        self._fold_text = lru_cache(_PRODUCTS_KEPT)(lambda product: fold_words(product.text))
        self.name = f"handbook-{handbook.version}"
        self.sampling: dict[str, Any] = {"code": _digest_answering_code()}
        self.price = TokenPrice()

    def answer_batch(self, requests: Sequence[TeacherRequest]) -> Iterator[TeacherResponse]:
        """Answers in order."""
        for number, request in enumerate(requests):
            start = time.perf_counter()
            answer_text = self._answer_agent(request.answer_type, request.agent_input).model_dump_json()
            yield TeacherResponse(number, answer_text, seconds=time.perf_counter() - start)

    def _answer_agent(self, answer_type: type[BaseModel], agent_input: BaseModel) -> BaseModel:
        if isinstance(agent_input, CategoryBrief):
            return self._plan_category(agent_input)
        if isinstance(agent_input, ReviewedDraft):
            return _edit_record(agent_input)
        if isinstance(agent_input, RecordDraft):
            return self._review_draft(agent_input)
        assert isinstance(agent_input, AnalystAssignment), f"no agent reads {type(agent_input).__name__}"
        if answer_type is DemandFindings:
            return self._find_demands(agent_input.product)
        return self._find_attributes(agent_input.product)

    def _plan_category(self, brief: CategoryBrief) -> CategoryPlan:
        strengths = self._matcher.match_category(brief.category)
        if not strengths:
            reasoning = "The handbook knows no such category."
            return CategoryPlan(reasoning=reasoning, product_kind="unknown", focus=(), pitfalls=())
        concept = self._concepts[max(strengths, key=lambda index: strengths[index])]
        return CategoryPlan(
            reasoning=f"The category holds products like handbook concept '{concept.id}': {concept.summary}",
            product_kind=concept.name,
            focus=concept.focus,
            pitfalls=tuple(f"taking it for {hint.text}" for hint in concept.complements[:2]),
        )

    def _find_demands(self, product: Product) -> DemandFindings:
        match = self._find_concept(product)
        if match is None:
            no_claims = dict.fromkeys(_DEMAND_FACETS, ())
            return DemandFindings(reasoning=_UNKNOWN, recognized=False, summary="", **no_claims)
        summary = match.concept.summary
        reasoning = f"{match.reason}, so this is: {summary}"
        facet_claims = self._write_claims_of_facets(_DEMAND_FACETS, product, match)
        return DemandFindings(reasoning=reasoning, recognized=True, summary=summary, **facet_claims)

    def _find_attributes(self, product: Product) -> AttributeFindings:
        match = self._find_concept(product)
        if match is None:
            no_claims = dict.fromkeys(_ATTRIBUTE_FACETS, ())
            return AttributeFindings(reasoning=_UNKNOWN, recognized=False, **no_claims)
        reasoning = f"{match.reason}, so what matters is: {', '.join(match.concept.focus[:3])}."
        facet_claims = self._write_claims_of_facets(_ATTRIBUTE_FACETS, product, match)
        return AttributeFindings(reasoning=reasoning, recognized=True, **facet_claims)

    def _write_claims_of_facets(
        self, facets: Sequence[str], product: Product, match: ConceptMatch
    ) -> dict[str, Claims]:
        folded_text = self._fold_text(product)
        return {facet: self._claim_writer.write_facet_claims(facet, folded_text, match) for facet in facets}

    def _review_draft(self, draft: RecordDraft) -> CriticReview:
        """Objects to the claims that a concept's `unless` cues rule out for this product."""
        match = self._find_concept(draft.product)
        folded_text = self._fold_text(draft.product)
        ruled_out = match.concept.unless if match else {}
        wrong_words = {words: cue for cue, words in ruled_out.items() if find_quoted_cue((cue,), folded_text)}
        objections = [
            Objection(
                facet=placed.facet, number=placed.number, problem=f"the text says '{cue}'", remedy="drop"
            )
            for placed in draft.record.iterate_claims()
            for words, cue in wrong_words.items()
            if words in placed.claim.text
        ]
        reasoning = f"Compared each claim with the product's text; {len(objections)} contradict it."
        # The schema allows a critic twelve objections.
        return CriticReview(reasoning=reasoning, objections=tuple(objections[:12]))


def _edit_record(draft: ReviewedDraft) -> EditedRecord:
    record = apply_objections(draft.record, draft.objections)
    num_left, num_drafted = (len(list(one.iterate_claims())) for one in (record, draft.record))
    reasoning = f"Kept {num_left} of {num_drafted} claims; dropped those objected to."
    return EditedRecord(reasoning=reasoning, record=record)


@cache
def _digest_answering_code() -> str:
    """Digest of the code that matches products and writes claims: other code answers otherwise."""
    room = Path(__file__).parents[1]
    code_paths = (
        "handbook",
        "teachers/handbook_teacher.py",
        "agents/record_review.py",
        "distillation/product_text.py",
    )
    return identify_source_code(room / path for path in code_paths)
