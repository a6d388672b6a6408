"""Finds the concepts of products: by category and words where these decide, else with the meaning of the title too."""

from collections.abc import Callable, Sequence
from typing import Final

from models.knowledge.handbook.concepts import Concept
from models.knowledge.handbook.likeness import Likeness
from models.knowledge.handbook.matcher import ConceptMatcher, Match
from models.knowledge.products import Product

_KEPT: Final = 8192
_DECIDED: Final = 0.75
"""Above this confidence the encoder is not asked, unless category and title name different concepts."""


class ConceptFinder:
    """Matches products in batches, and remembers the latest."""

    def __init__(
        self,
        concepts: Sequence[Concept],
        *,
        min_confidence: float,
        load_likeness: Callable[[], Likeness] | None = None,
    ) -> None:
        """Prepares the matching.

        Args:
            concepts: All concepts.
            min_confidence: Below it the answer is "don't know".
            load_likeness: Called when a product is left undecided; none means category and words alone.
        """
        self.matcher = ConceptMatcher(concepts)
        self._min_confidence = min_confidence
        self._load_likeness = load_likeness
        self._known: dict[Product, Match | None] = {}

    def find(self, products: Sequence[Product]) -> list[Match | None]:
        """The concept of each product, or none where nothing is likely enough."""
        fresh = [product for product in dict.fromkeys(products) if product not in self._known]
        if len(self._known) + len(fresh) > _KEPT:
            self._known = {product: self._known[product] for product in products if product in self._known}
        matches = {product: self.matcher.match(product) for product in fresh}
        self._decide({product for product, match in matches.items() if not _is_decided(match)}, matches)
        for product, match in matches.items():
            self._known[product] = match if match and match.confidence >= self._min_confidence else None
        return [self._known[product] for product in products]

    def _decide(self, undecided: set[Product], matches: dict[Product, Match | None]) -> None:
        asked = [product for product in matches if product in undecided and product.title]
        if not asked or self._load_likeness is None:
            return
        likenesses = self._load_likeness().compare([product.title for product in asked])
        for product, likeness in zip(asked, likenesses, strict=True):
            matches[product] = self.matcher.match(product, likeness)


def _is_decided(match: Match | None) -> bool:
    return match is not None and match.confidence >= _DECIDED and not match.contested
