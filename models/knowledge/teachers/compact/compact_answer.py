"""What is asked and answered about an item in one question, in as few tokens as hold all facets.

The keys are words of one token. A SmolLM2 needs 99 tokens for an answer with two claims a facet, where the
agents' answers with their evidence need several hundred.
"""

from typing import Annotated, Final

from pydantic import Field, StringConstraints

from models.knowledge.distillation.product_text import Product, clean_catalogue_text
from models.knowledge.knowledge_schema import KnowledgeRecord, StrictModel
from models.knowledge.teachers.replay.recorded_knowledge import UNKNOWN_KIND, ItemKnowledge
from models.knowledge.teachers.teacher import TeacherRequest

ITEM_WRITER: Final = "item_writer"
"""Name of the question, and of its prompt file."""
_MAX_PHRASE_CHARS: Final = 80
_MAX_PHRASES: Final = 4
_MAX_TITLE_CHARS: Final = 200
_MAX_DESCRIPTION_CHARS: Final = 100
_CATEGORY_LEVELS: Final = 2
"""Of a category path, the last ones."""

Phrase = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=_MAX_PHRASE_CHARS)]
Phrases = Annotated[tuple[Phrase, ...], Field(max_length=_MAX_PHRASES)]


class CompactProduct(StrictModel):
    """A product, cut to what mostly decides."""

    title: str
    brand: str = ""
    category: str = ""
    description: str = ""

    @classmethod
    def of_product(cls, product: Product) -> "CompactProduct":
        """Cuts a product."""
        return cls(
            title=clean_catalogue_text(product.title, _MAX_TITLE_CHARS),
            brand=product.brand,
            category=" > ".join(product.category.split(" > ")[-_CATEGORY_LEVELS:]),
            description=clean_catalogue_text(product.description, _MAX_DESCRIPTION_CHARS),
        )


class CompactAnswer(StrictModel):
    """What is said of an item."""

    kind: Phrase
    needs: Phrases
    users: Phrases
    uses: Phrases
    features: Phrases
    also: Phrases
    instead: Phrases
    life: Annotated[str, StringConstraints(strip_whitespace=True, max_length=_MAX_PHRASE_CHARS)]

    @classmethod
    def of_record(cls, record: KnowledgeRecord | None, max_claims: int) -> "CompactAnswer":
        """The answer that a record would have been; of an unknown item without a record.

        Args:
            record: What is known. Its summary is the kind.
            max_claims: Claims of each facet that are kept, the first ones.
        """
        if record is None:
            empty_facets = dict.fromkeys(cls.model_fields, ())
            return cls.model_validate({**empty_facets, "kind": UNKNOWN_KIND, "life": ""})
        facets = {name: getattr(record, facet) for name, facet in _FACETS.items()}
        phrases = {
            name: [_cut_phrase(claim.text) for claim in claims[: min(max_claims, _MAX_PHRASES)]]
            for name, claims in facets.items()
        }
        life = _cut_phrase(record.lifecycle[0].text) if record.lifecycle else ""
        return cls.model_validate({**phrases, "kind": _cut_phrase(record.summary), "life": life})

    def to_knowledge(self) -> ItemKnowledge:
        """The same in the form in which knowledge is recorded."""
        return ItemKnowledge(
            item_id="-",
            kind=self.kind,
            demands=self.needs,
            audiences=self.users,
            scenarios=self.uses,
            features=self.features,
            complements=self.also,
            substitutes=self.instead,
            lifecycle=(self.life,) if self.life else (),
        )


class AnsweredProduct(StrictModel):
    """A product and what was said of it."""

    product: CompactProduct
    answer: CompactAnswer


class ExampledProduct(StrictModel):
    """A product, after a similar one whose answer is known."""

    example: AnsweredProduct
    product: CompactProduct


_FACETS: Final = {
    "needs": "demands",
    "users": "audiences",
    "uses": "scenarios",
    "features": "attributes",
    "also": "complements",
    "instead": "substitutes",
}


def make_item_request(
    product: Product, *, prompt_version: str, example: AnsweredProduct | None = None, complaint: str = ""
) -> TeacherRequest:
    """The question about one product, beside an example where there is one; with a complaint, its repair."""
    asked = CompactProduct.of_product(product)
    return TeacherRequest(
        ITEM_WRITER,
        ExampledProduct(example=example, product=asked) if example else asked,
        CompactAnswer,
        prompt_version,
        attempt=int(bool(complaint)),
        complaint=complaint,
        # The instructions name the keys; the schema itself would cost more tokens than question and answer.
        tells_schema=False,
    )


def _cut_phrase(text: str) -> str:
    if len(text) <= _MAX_PHRASE_CHARS:
        return text
    return text[: _MAX_PHRASE_CHARS + 1].rpartition(" ")[0].strip() or text[:_MAX_PHRASE_CHARS]
