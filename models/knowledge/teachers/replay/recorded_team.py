"""The agents' answers, as compact knowledge of an item gives them.

It names no evidence. What stands in the catalogue word for word is quoted; the rest says where it is from.
The critic's part is done by rules: what contradicts itself falls, and figures that the catalogue does not
have are doubted.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Final, NamedTuple, Protocol

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
from models.knowledge.distillation.product_text import Product, QuotableText, fold_words
from models.knowledge.knowledge_schema import Claim, Claims, KnowledgeRecord
from models.knowledge.teachers.replay.recorded_knowledge import UNKNOWN_KIND, ItemKnowledge
from models.knowledge.writing_systems import normalize_letters

_CONFIDENCE_QUOTED: Final = 0.9
"""At least, of a claim that the catalogue makes itself."""
_FIGURE: Final = re.compile(r"(?:\d+\s+)?\d+/\d+|\d+(?:[.,]\d+)*|\.\d+")
"""12,000 or 0.71 or 1/16 or 1 1/2."""
_GROUPED: Final = (re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?"), re.compile(r"\d{1,3}(?:\.\d{3})+(?:,\d+)?"))
"""Thousands apart, as in English and as in most of Europe."""
_SEPARATORS: Final = str.maketrans({"\N{FRACTION SLASH}": "/", "\u066b": ".", "\u066c": ",", "\u00b7": "."})
"""Those of Arabic figures, and the raised point."""
_MAX_OBJECTIONS: Final = 12
"""As many as the schema allows a critic."""


class KnowledgeSource(Protocol):
    """Compact knowledge of products."""

    evidence: str
    """Of what the catalogue does not say itself: where it is from."""

    def list_category_kinds(self, category: str) -> list[str]:
        """The kinds that it names most often in a category."""

    def find_product_knowledge(self, product: Product) -> ItemKnowledge | None:
        """What it says of a product."""


def answer_from_knowledge(
    agent_input: BaseModel, answer_type: type[BaseModel], source: KnowledgeSource
) -> str:
    """The agent's answer as JSON; empty where the source says nothing of the product."""
    if isinstance(agent_input, CategoryBrief):
        return _plan_category(source.list_category_kinds(agent_input.category)).model_dump_json()
    if isinstance(agent_input, ReviewedDraft):
        return _edit_record(agent_input).model_dump_json()
    if isinstance(agent_input, RecordDraft):
        return _review_draft(agent_input).model_dump_json()
    assert isinstance(agent_input, AnalystAssignment), f"no agent reads {type(agent_input).__name__}"
    knowledge = source.find_product_knowledge(agent_input.product)
    if knowledge is None:
        return ""
    grounding = _Grounding(knowledge, agent_input.product, source.evidence)
    if answer_type is DemandFindings:
        return _find_demands(knowledge, grounding).model_dump_json()
    return _find_attributes(knowledge, grounding).model_dump_json()


def _plan_category(kinds: Sequence[str]) -> CategoryPlan:
    told_kinds = f"In this category it names: {', '.join(kinds)}." if kinds else "It names no kind here."
    return CategoryPlan(
        reasoning=f"Compact knowledge holds no plan. {told_kinds}",
        product_kind=kinds[0] if kinds else UNKNOWN_KIND,
        focus=(),
        pitfalls=(),
    )


def _find_demands(knowledge: ItemKnowledge, grounding: "_Grounding") -> DemandFindings:
    return DemandFindings(
        reasoning=_tell_kind(knowledge),
        recognized=knowledge.is_known,
        summary=knowledge.kind or "" if knowledge.is_known else "",
        demands=grounding.ground_claims(knowledge.demands),
        audiences=grounding.ground_claims(knowledge.audiences),
        scenarios=grounding.ground_claims(knowledge.scenarios),
    )


def _find_attributes(knowledge: ItemKnowledge, grounding: "_Grounding") -> AttributeFindings:
    return AttributeFindings(
        reasoning=_tell_kind(knowledge),
        recognized=knowledge.is_known,
        attributes=grounding.ground_claims(knowledge.features),
        complements=grounding.ground_claims(knowledge.complements),
        substitutes=grounding.ground_claims(knowledge.substitutes),
        lifecycle=grounding.ground_claims(knowledge.lifecycle),
    )


def _tell_kind(knowledge: ItemKnowledge) -> str:
    if not knowledge.is_known:
        return "The answer says that the item is not known."
    return f"The answer takes it for this kind of product: {knowledge.kind}."


class _Grounding:
    """Gives claims about one product their evidence."""

    def __init__(self, knowledge: ItemKnowledge, product: Product, evidence: str) -> None:
        self._knowledge = knowledge
        self._quotable_text = QuotableText(product.text)
        self._evidence = evidence

    def ground_claims(self, texts: Sequence[str]) -> Claims:
        return tuple(map(self._ground_claim, texts)) if self._knowledge.is_known else ()

    def _ground_claim(self, text: str) -> Claim:
        confidence = self._knowledge.confidence
        if self._quotable_text.holds_quotation(text):
            confidence = max(confidence, _CONFIDENCE_QUOTED)
            return Claim(text=text, evidence=text, source="catalogue", confidence=confidence)
        return Claim(text=text, evidence=self._evidence, source="reasoning", confidence=confidence)


def _review_draft(draft: RecordDraft) -> CriticReview:
    record = draft.record
    folded_kind, objections = fold_words(record.summary), list[Objection]()
    complements = {fold_words(claim.text) for claim in record.complements}
    known_figures = _read_figures(draft.product.text).values()
    known_values = {value for figure in known_figures for value in (*figure.readings, *figure.parts)}
    for facet, number, claim in record.iterate_claims():
        problem, remedy = "", "drop"
        folded_claim = fold_words(claim.text)
        if facet in ("complements", "substitutes") and folded_claim == folded_kind:
            problem = "the product's own kind"
        elif facet == "substitutes" and folded_claim in complements:
            problem = "it is said to go with the product, so it does not stand in for it"
        elif facet == "attributes" and (invented := _find_invented_figures(claim.text, known_values)):
            problem = f"the catalogue does not say {', '.join(invented)}"
            remedy = "weaken"
        if problem:
            objections.append(
                Objection.model_validate(
                    {"facet": facet, "number": number, "problem": problem, "remedy": remedy}
                )
            )
    # What is wrong goes before what is doubtful, should there be too many.
    objections.sort(key=lambda objection: objection.remedy)
    reasoning = f"Rules alone were asked; {len(objections)} claims contradict the record or the catalogue."
    return CriticReview(reasoning=reasoning, objections=tuple(objections[:_MAX_OBJECTIONS]))


class _Figure(NamedTuple):
    readings: tuple[Fraction, ...]
    """What it may mean as a whole: 1.000 is one or a thousand."""
    parts: tuple[Fraction, ...] = ()
    """What it may mean as several: `a/b` may be a ratio, `1,2` a list."""


def _find_invented_figures(text: str, known_values: set[Fraction]) -> list[str]:
    """Figures of a text that are not among the known ones, however they are written."""
    return [
        written
        for written, figure in _read_figures(text).items()
        if known_values.isdisjoint(figure.readings)
        and not (figure.parts and known_values.issuperset(figure.parts))
    ]


def _read_figures(text: str) -> dict[str, _Figure]:
    """Each figure as it is written, and what it may mean."""
    plain_text = normalize_letters(text).translate(_SEPARATORS)
    return {written: _read_figure(written) for written in _FIGURE.findall(plain_text)}


def _read_figure(written: str) -> _Figure:
    if "/" in written:
        *whole, top, bottom = map(Fraction, written.replace("/", " ").split())
        parts = (*whole, top, bottom)
        return _Figure((sum(whole, top / bottom),), parts) if bottom else _Figure((), parts)
    english, european = (pattern.fullmatch(written) is not None for pattern in _GROUPED)
    readings = (
        {Fraction(written.replace(",", ""))} if english or re.fullmatch(r"\d*\.?\d+", written) else set()
    )
    if european or re.fullmatch(r"\d+,\d+", written):
        readings.add(Fraction(written.replace(".", "").replace(",", ".")))
    parts = tuple(Fraction(part) for part in re.split("[.,]", written) if part)
    return _Figure(tuple(readings), parts if "," in written or not readings else ())


def _edit_record(draft: ReviewedDraft) -> EditedRecord:
    record: KnowledgeRecord = apply_objections(draft.record, draft.objections)
    num_left, num_drafted = (len(list(one.iterate_claims())) for one in (record, draft.record))
    return EditedRecord(reasoning=f"Kept {num_left} of {num_drafted} claims.", record=record)
