"""Which concept of the handbook a product is, and how sure that is; "don't know" where it is not sure.

For a concept speak the category path, the terms of the title, and other words that are the concept's own.
Against it speak things and words of other departments. All add up to a score. How often a score is right was
counted on labelled titles (benchmarks/knowledge/labelled_titles).
"""

from collections import defaultdict
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from models.knowledge.distillation.product_text import Product
from models.knowledge.handbook.category_index import CategoryIndex
from models.knowledge.handbook.concepts import Concept
from models.knowledge.handbook.handbook_files import Handbook
from models.knowledge.handbook.title_evidence import TermEvidence, TitleEvidence, TitleReader, list_own_words
from models.knowledge.handbook.title_words import is_readable, parse_title, split_words

_SCORES: Final = (0.2, 0.5, 0.65, 0.75, 1.0, 2.0)
_SHARES_RIGHT: Final = (0.02, 0.5, 0.8, 0.9, 0.97, 0.99)
"""What share of answers with such a score was right on the tuning half of the labelled titles.

It is the mean of two counts: with the departments of the handbook, and without any. The departments' words
were written by the hand that wrote the titles. Without them titles are as strange as those of another shop.
"""
MIN_CONFIDENCE: Final = 0.9
"""Below this confidence the handbook answers "unknown"."""
_OWN_WORD, _MAX_OWN_WORDS = 0.15, 3
"""For words of title and category that few other concepts have."""
_DESCRIBED, _MAX_DESCRIBED = 0.05, 3
"""For such words in the description, which tells of many other things."""
_AT_HOME: Final = 0.45
"""For a head noun in a category of a department where its concept is at home: the tent of "Camping"."""
_AT_HOME_IN_BROAD: Final = 0.3
"""For such a noun in one of many trades: "Electrical" does not tell a lamp's chain from a hoist's."""
_AGAINST, _MAX_AGAINST = 0.6, 2.0
_FILED: Final = 0.6
"""Strength of a category from which a product may be the concept without being called so."""
_SURE_PLACE, _AGAINST_FILED = 0.95, 0.15
"""Who files a thing under just the concept's category knows what it is, however they call it."""
_THING_AT_HOME: Final = 0.5
"""Weight of another thing of a department where the concept is at home: a handbag is no laptop bag."""
_STRANGER: Final = 0.3
"""Against a concept that is at home in no department of a category, where all of these are closed."""
_UNNAMED: Final = 0.1
"""Weight of a concept that shares a category but is not named by the title, beside 1 for one that is."""
_CATEGORIES_KEPT: Final = 1 << 14


class ConceptMatch(NamedTuple):
    """A concept and the case for it."""

    concept: Concept
    confidence: float
    """In [0, 1]."""
    reason: str


class _CategoryEvidence(NamedTuple):
    """What a category path says."""

    by_concept: dict[int, float]
    other_departments: dict[int, list[frozenset[str]]]
    """Departments that speak against concepts -> the words that name them."""
    own_departments: frozenset[int]
    """Departments that the handbook knows."""
    is_closed: bool
    """Whether it names departments that the handbook knows, and all of these are closed."""
    words: frozenset[str]


class ConceptMatcher:
    """Finds the concept of a product."""

    def __init__(self, handbook: Handbook) -> None:
        concepts, departments = handbook.concepts, handbook.departments
        self._concepts = concepts
        self._categories = CategoryIndex(concepts)
        self._reader = TitleReader(concepts, departments)
        self._own_words = list_own_words(concepts)
        self._name_words = [
            frozenset(word for text in (*one.terms, one.name, *one.categories) for word in split_words(text))
            for one in concepts
        ]
        self._homes = [
            frozenset(
                number for number, department in enumerate(departments) if one.id in department.concepts
            )
            for one in concepts
        ]
        self._closed_departments = frozenset(
            number for number, department in enumerate(departments) if department.is_closed
        )
        self._department_names = [
            (split_words(name), number, department.is_evidence)
            for number, department in enumerate(departments)
            for name in department.categories
        ]
        self._read_category = lru_cache(_CATEGORIES_KEPT)(self._weigh_category)

    def find_concept(self, product: Product) -> ConceptMatch | None:
        """The likeliest concept; none where it is not likely enough."""
        match = self.match_product(product)
        return match if match and match.confidence >= MIN_CONFIDENCE else None

    def match_category(self, category: str) -> dict[int, float]:
        """Strength in [0, 1] of each concept that a category path speaks for."""
        return self._categories.match_category(category)

    def match_product(self, product: Product) -> ConceptMatch | None:
        """The likeliest concept, however unsure; none when nothing speaks for any."""
        if not is_readable(product.title):
            return None
        # "Ring Video Doorbell" is no ring. But some brands are what people call the thing.
        brand = "" if self._reader.is_term(product.brand) else product.brand
        title = self._reader.read_title(parse_title(product.title, brand))
        category = self._read_category(product.category)
        described_words = frozenset(split_words(product.description))
        by_category = _share_by_title(category.by_concept, title.by_concept)
        best: tuple[float, int, int] | None = None
        for index in by_category.keys() | title.by_concept.keys():
            term = title.by_concept.get(index)
            score_by_category = by_category.get(index, 0.0)
            is_sure_place = score_by_category >= _SURE_PLACE
            score = score_by_category - self._weigh_against(index, title, category, is_filed=is_sure_place)
            is_known_place = index in by_category or self._homes[index] & category.own_departments
            if category.is_closed and not is_known_place:
                score -= _STRANGER
            # A thing that is neither named nor filed as the concept may share many words with it.
            if score_by_category >= _FILED or (term and term.is_head):
                score += self._weigh_words(index, title, category, described_words)
            if term:
                score += term.strength + self._weigh_home(index, term, category)
            # Of equally sure ones: the longer term, then the one that comes first.
            rank = (score, term.num_words if term else 0, -index)
            best = rank if best is None else max(best, rank)
        if best is None:
            return None
        score, _, negative_index = best
        index = -negative_index
        reason = _explain_match(self._concepts[index], by_category.get(index), title.by_concept.get(index))
        return ConceptMatch(self._concepts[index], calibrate_score(score), reason)

    def _weigh_words(
        self, index: int, title: TitleEvidence, category: _CategoryEvidence, described_words: frozenset[str]
    ) -> float:
        """What a concept's own words say, besides its term: they tell in which sense a term is meant."""
        term = title.by_concept.get(index)
        own_words = self._own_words[index].difference(term.words if term else ())
        said_words = own_words & (title.words | category.words)
        num_described = len(own_words & described_words - said_words)
        return _OWN_WORD * min(len(said_words), _MAX_OWN_WORDS) + _DESCRIBED * min(
            num_described, _MAX_DESCRIBED
        )

    def _weigh_home(self, index: int, term: TermEvidence, category: _CategoryEvidence) -> float:
        """What it says that a head noun stands in a category of a department where its concept is at home."""
        homes = self._homes[index] & category.own_departments
        if not homes or not term.is_head:
            return 0.0
        if homes & self._closed_departments:
            return _AT_HOME
        return _AT_HOME_IN_BROAD if term.is_last else 0.0

    def _weigh_against(
        self, index: int, title: TitleEvidence, category: _CategoryEvidence, *, is_filed: bool
    ) -> float:
        """What other departments say against a concept."""
        against = 0.0
        for department in title.by_department.keys() | category.other_departments.keys():
            is_home = department in self._homes[index]
            value = sum(
                one.value * (_THING_AT_HOME if is_home else 1.0)
                for one in title.by_department.get(department, ())
                if (one.is_thing or not is_home) and not one.words <= self._name_words[index]
            )
            if not is_home:
                names = category.other_departments.get(department, ())
                value += any(not words <= self._name_words[index] for words in names)
            against += min(value, 1.0)
        return (_AGAINST_FILED if is_filed else _AGAINST) * min(against, _MAX_AGAINST)

    def _weigh_category(self, category: str) -> _CategoryEvidence:
        words = split_words(category)
        joined_words = f" {' '.join(words)} "
        other_departments: defaultdict[int, list[frozenset[str]]] = defaultdict(list)
        own_departments: set[int] = set()
        for name_words, number, is_evidence in self._department_names:
            if f" {' '.join(name_words)} " not in joined_words:
                continue
            if is_evidence:
                other_departments[number].append(frozenset(name_words))
            else:
                own_departments.add(number)
        return _CategoryEvidence(
            self._categories.match_category(category),
            other_departments,
            frozenset(own_departments),
            is_closed=bool(own_departments) and own_departments <= self._closed_departments,
            words=frozenset(words),
        )


def calibrate_score(score: float) -> float:
    """The share of right answers among those with such a score."""
    return round(float(np.interp(score, _SCORES, _SHARES_RIGHT)), 3)


def _share_by_title(by_category: dict[int, float], by_title: dict[int, TermEvidence]) -> dict[int, float]:
    """Concepts that share a category share its strength by what the title says for each."""
    if len(by_category) < 2:
        return by_category
    weights = {
        index: _UNNAMED + (by_title[index].strength if index in by_title else 0.0) for index in by_category
    }
    scale = sum(by_category.values()) / sum(weights.values())
    return {index: scale * weight for index, weight in weights.items()}


def _explain_match(concept: Concept, by_category: float | None, term: TermEvidence | None) -> str:
    reasons = [f"its category speaks for it ({by_category:.2f})"] if by_category else []
    if term:
        place = "is called" if term.is_head else "mentions"
        reasons.append(f"it {place} '{' '.join(term.words)}' ({term.strength:.2f})")
    return f"handbook concept '{concept.id}': {' and '.join(reasons)}"
