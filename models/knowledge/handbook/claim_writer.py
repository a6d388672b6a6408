"""What the handbook claims of a product, once its concept is known."""

from collections import defaultdict
from functools import cache
from typing import Final

from models.knowledge.distillation.product_text import fold_words
from models.knowledge.handbook.concept_matcher import ConceptMatch
from models.knowledge.handbook.concepts import Hint
from models.knowledge.handbook.handbook_files import Handbook
from models.knowledge.knowledge_schema import MAX_CLAIMS, Claim

_REASONED_CONFIDENCE: Final = 0.9
"""Confidence of a claim that follows from the kind of product, if the kind is right."""
_MAX_QUOTED: Final = 3
"""Claims from cues in the product's text, per facet; the rest is left to the kind of product."""


class ClaimWriter:
    """Writes the claims of a facet: first what the product's own text shows, then what holds for its kind."""

    def __init__(self, handbook: Handbook) -> None:
        self._traits = handbook.traits
        self._situation_hints: defaultdict[tuple[str, str], list[Hint]] = defaultdict(list)
        """By facet and concept id."""
        for situation in handbook.situations:
            for concept_id in situation.concepts:
                for facet, text in (("demands", situation.demand), ("scenarios", situation.scenario)):
                    hint = Hint(text=text, cues=situation.cues)
                    self._situation_hints[facet, concept_id].append(hint)

    def write_facet_claims(self, facet: str, folded_text: str, match: ConceptMatch) -> tuple[Claim, ...]:
        """The claims of a facet that hold for a product.

        Args:
            facet: A facet of the KNOWLEDGE table.
            folded_text: The product's text, folded (`product_text.fold_words`).
            match: The product's concept.
        """
        quoted_confidence = round(max(match.confidence, _REASONED_CONFIDENCE), 3)
        reasoned_confidence = round(_REASONED_CONFIDENCE * match.confidence, 3)
        concept_hints: tuple[Hint, ...] = getattr(match.concept, facet)
        situation_hints = self._situation_hints.get((facet, match.concept.id), [])
        trait_hints = (hint for trait in self._traits for hint in getattr(trait, facet, ()))
        quoted_claims = [
            Claim(text=hint.text, evidence=quote, source="catalogue", confidence=quoted_confidence)
            for hint in (*concept_hints, *situation_hints, *trait_hints)
            if hint.cues and (quote := find_quoted_cue(hint.cues, folded_text))
        ]
        # A situation holds for all its concepts; its cues only say of which products it holds most surely.
        general_hints = [*(hint for hint in concept_hints if not hint.cues), *situation_hints]
        general_claims = [
            Claim(text=hint.text, evidence=match.reason, source="reasoning", confidence=reasoned_confidence)
            for hint in general_hints
        ]
        # Of claims with one text the first stays, which is the quoted one.
        distinct_claims = {
            claim.text: claim for claim in reversed(quoted_claims[:_MAX_QUOTED] + general_claims)
        }
        return tuple(reversed(distinct_claims.values()))[:MAX_CLAIMS]


def find_quoted_cue(cues: tuple[str, ...], folded_text: str) -> str:
    """The first cue that stands in the folded text; empty when none does."""
    return next((cue for cue in cues if _fold_cue(cue) in folded_text), "")


_fold_cue = cache(fold_words)
