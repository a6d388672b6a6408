"""What the handbook claims of a product, once its concept is known."""

from collections import defaultdict
from functools import cache
from typing import Final

from models.knowledge.handbook.concepts import Hint
from models.knowledge.handbook.matcher import Match
from models.knowledge.handbook.reader import Handbook
from models.knowledge.products import fold
from models.knowledge.schema import MAX_CLAIMS, Claim

_REASONED: Final = 0.9
"""Confidence of a claim that follows from the kind of product, if the kind is right."""
_MAX_SHOWN: Final = 3
"""Claims from cues in the product's text, per facet; the rest is left to the kind of product."""


class ClaimWriter:
    """Writes the claims of one facet: first what the product's own text shows, then what holds for its kind."""

    def __init__(self, handbook: Handbook) -> None:
        self._traits = handbook.traits
        demands, scenarios = defaultdict[str, list[Hint]](list), defaultdict[str, list[Hint]](list)
        for situation in handbook.situations:
            for concept in situation.concepts:
                demands[concept].append(Hint(text=situation.demand, cues=situation.cues))
                scenarios[concept].append(Hint(text=situation.scenario, cues=situation.cues))
        self._lived = {"demands": demands, "scenarios": scenarios}

    def write(self, facet: str, folded_text: str, match: Match) -> tuple[Claim, ...]:
        """The claims of a facet that hold for a product.

        Args:
            facet: A facet of the KNOWLEDGE table.
            folded_text: The product's text, folded (`products.fold`).
            match: The product's concept.
        """
        sure = round(max(match.confidence, _REASONED), 3)
        likely = round(_REASONED * match.confidence, 3)
        own: tuple[Hint, ...] = getattr(match.concept, facet)
        lived = self._lived[facet].get(match.concept.id, ()) if facet in self._lived else ()
        of_all = (hint for trait in self._traits for hint in getattr(trait, facet, ()))
        shown = [
            Claim(text=hint.text, evidence=quote, source="catalogue", confidence=sure)
            for hint in (*own, *lived, *of_all)
            if hint.cues and (quote := find_quote(hint.cues, folded_text))
        ]
        # A situation holds for all its concepts; its cues only say of which products it holds most surely.
        general = [
            Claim(text=hint.text, evidence=match.reason, source="reasoning", confidence=likely)
            for hint in (*(hint for hint in own if not hint.cues), *lived)
        ]
        distinct = {claim.text: claim for claim in reversed(shown[:_MAX_SHOWN] + general)}
        return tuple(reversed(distinct.values()))[:MAX_CLAIMS]


def find_quote(cues: tuple[str, ...], folded_text: str) -> str:
    """The first cue that stands in the folded text; empty when none does."""
    return next((cue for cue in cues if _fold_cue(cue) in folded_text), "")


_fold_cue = cache(fold)
