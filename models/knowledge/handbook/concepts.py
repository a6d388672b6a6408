"""What stands in the handbook: concepts (kinds of products), traits, situations of life, departments."""

from functools import cached_property
from typing import Any

from pydantic import Field, field_validator, model_validator

from contracts.config import Config
from contracts.tables import FACETS


class Hint(Config):
    """One piece of knowledge; with cues it holds only for products whose text mentions one of them."""

    text: str = Field(min_length=1, max_length=160)
    cues: tuple[str, ...] = ()


Hints = tuple[Hint, ...]


class Concept(Config):
    """One kind of product.

    In YAML a hint is its text, or `cue / other cue: text`.
    """

    id: str
    name: str
    categories: tuple[str, ...] = ()
    """Category paths, or the ends of paths, that hold products of this kind: `Dogs > Food`."""
    terms: tuple[str, ...]
    """What titles call it: phrases, their words in this order."""
    ambiguous: tuple[str, ...] = ()
    """Terms that other things are called too ("tap", "glass jar"): alone they decide nothing."""
    summary: str = Field(max_length=300)
    demands: Hints
    audiences: Hints
    scenarios: Hints
    attributes: Hints
    complements: Hints
    substitutes: Hints
    lifecycle: Hints
    goes_with: tuple[str, ...] = ()
    """Ids of concepts that are used with it."""
    instead_of: tuple[str, ...] = ()
    """Ids of concepts that could stand in for it; the other direction follows."""
    unless: dict[str, str] = {}
    """Cue -> words: where the product's text mentions the cue, claims holding these words are wrong."""

    @field_validator(*FACETS, mode="before")
    @classmethod
    def _read_hints(cls, value: Any) -> Any:
        if not isinstance(value, list):
            raise ValueError("write a list")
        return [_read_hint(entry) for entry in value]

    @model_validator(mode="after")
    def _refuse_ambiguous_strangers(self) -> "Concept":
        if strangers := sorted(set(self.ambiguous) - {*self.terms, self.name}):
            raise ValueError(f"ambiguous: {', '.join(strangers)} are no terms of this concept")
        return self

    @cached_property
    def focus(self) -> tuple[str, ...]:
        """What the planner should look at: the attributes that matter."""
        return tuple(hint.text for hint in self.attributes[:6])


class Trait(Config):
    """What is known of any product whose text mentions a cue: "iPad" speaks of an owner of Apple devices."""

    id: str
    cues: tuple[str, ...]
    demands: Hints = ()
    audiences: Hints = ()
    scenarios: Hints = ()
    complements: Hints = ()

    @model_validator(mode="before")
    @classmethod
    def _read_hints(cls, value: Any) -> Any:
        cues = tuple(value.get("cues", ()))
        facets = {facet: [{"text": text, "cues": cues} for text in value.get(facet, ())] for facet in FACETS}
        return {**value, **{facet: hints for facet, hints in facets.items() if hints}}


class Department(Config):
    """A part of a shop, with words that speak against all concepts that are not at home there.

    Words that a concept's own terms hold never speak against it.
    """

    id: str
    categories: tuple[str, ...] = ()
    """Words of the names of its categories."""
    things: tuple[str, ...] = ()
    """Nouns of which the handbook has no concept: what a title's noun phrase may end with."""
    words: tuple[str, ...] = ()
    """What only tells the department."""
    concepts: tuple[str, ...] = ()
    """Ids of concepts that are at home there."""
    is_evidence: bool = True
    """Whether its things speak against concepts. Else they only show that a name goes on: "mouse" + "pad"."""
    is_closed: bool = False
    """Whether its categories speak against concepts that are not at home there: of a surf shop's "leash"."""


class Situation(Config):
    """A situation of life in which products of several kinds are wanted: the same words for all of them."""

    id: str
    demand: str = Field(min_length=1, max_length=160)
    """What is wanted then: a claim on demands of all its concepts."""
    scenario: str = Field(min_length=1, max_length=160)
    """Where and when that is: a claim on scenarios of all its concepts."""
    concepts: tuple[str, ...] = Field(min_length=2)
    """Ids of the concepts wanted."""
    cues: tuple[str, ...] = ()
    """Products whose text mentions one of them are likelier bought in this situation than others of their
    concept."""


def _read_hint(entry: Any) -> dict[str, Any]:
    if isinstance(entry, dict):
        ((cues, text),) = entry.items()
        return {"text": text, "cues": tuple(cue.strip() for cue in str(cues).split(" / "))}
    return {"text": str(entry)}
