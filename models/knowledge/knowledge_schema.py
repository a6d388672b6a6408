"""The knowledge record: what an agent may say about a product, and its row in the KNOWLEDGE table.

Every list and every string is bounded, so that structured decoding cannot run away (FACTS of the vLLM and
xgrammar back-ends: unbounded arrays and strings are what makes constrained answers hit the token limit).
"""

from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from contracts.tables import FACETS

Facet = Literal["demands", "audiences", "scenarios", "attributes", "complements", "substitutes", "lifecycle"]
ClaimSource = Literal["catalogue", "reasoning"]
ShortText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=160)]
Sentence = Annotated[str, StringConstraints(strip_whitespace=True, max_length=320)]
Reasoning = Annotated[str, StringConstraints(strip_whitespace=True, max_length=1600)]

MAX_CLAIMS: Final = 8
assert get_args(Facet) == FACETS, "the schema's facets must be those of the KNOWLEDGE table"


class StrictModel(BaseModel):
    """Base of everything an agent writes: unknown keys are errors, values do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Claim(StrictModel):
    """One statement about a product."""

    text: ShortText
    evidence: Sentence
    """`catalogue`: words quoted from the catalogue; `reasoning`: why it holds. Empty evidence is dropped by
    review."""
    source: ClaimSource
    confidence: float = Field(ge=0, le=1)


Claims = Annotated[tuple[Claim, ...], Field(max_length=MAX_CLAIMS)]


class KnowledgeRecord(StrictModel):
    """What is known of one product."""

    summary: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=320)]
    demands: Claims
    audiences: Claims
    scenarios: Claims
    attributes: Claims
    complements: Claims
    substitutes: Claims
    lifecycle: Claims

    def iterate_claims(self) -> "Iterator[PlacedClaim]":
        """All claims with their places, in the order of the facets."""
        for facet in get_args(Facet):
            for number, claim in enumerate(getattr(self, facet)):
                yield PlacedClaim(facet, number, claim)

    @property
    def confidence(self) -> float:
        """Mean confidence of the claims; 0 where there are none."""
        claim_confidences = [placed_claim.claim.confidence for placed_claim in self.iterate_claims()]
        return sum(claim_confidences) / len(claim_confidences) if claim_confidences else 0.0


class PlacedClaim(NamedTuple):
    """A claim and where it stands in its record."""

    facet: Facet
    number: int
    claim: Claim


def record_to_row(record: KnowledgeRecord) -> dict[str, Any]:
    """The record's columns of the KNOWLEDGE table."""
    return {**record.model_dump(mode="python"), "confidence": record.confidence}


def record_from_row(row: dict[str, Any]) -> KnowledgeRecord:
    """The record in a row of the KNOWLEDGE table whose status is `ok`."""
    return KnowledgeRecord.model_validate({name: row[name] for name in KnowledgeRecord.model_fields})


@cache  # every request carries one, and making it takes longer than all else that a request needs
def build_answer_schema(model: type[BaseModel]) -> dict[str, Any]:
    """JSON schema of an agent's answer: bounded, closed to unknown keys, every key required, no titles.

    The same object is given out each time: don't change it.
    """
    schema = _slim_schema(model.model_json_schema())
    assert isinstance(schema, dict)
    return schema


def _slim_schema(node: Any) -> Any:
    if isinstance(node, list):
        return [_slim_schema(child_value) for child_value in node]
    if not isinstance(node, dict):
        return node
    # Titles and docs would cost tokens in every request and constrain nothing.
    slim_node = {
        key: {name: _slim_schema(child_value) for name, child_value in child_node.items()}
        if key in ("properties", "$defs")
        else _slim_schema(child_node)
        for key, child_node in node.items()
        if key not in ("title", "description", "default")
    }
    if slim_node.get("type") == "object":
        # Every key is required: a model that may leave out the reasoning does.
        slim_node["required"] = list(slim_node["properties"])
    return slim_node
