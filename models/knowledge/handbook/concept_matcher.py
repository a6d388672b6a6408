"""Which concept of the handbook a product is, and how sure that is.

Two witnesses speak. The category path says which concepts claim it, or its end. The text says whose terms
occur in the title; words before a "for ..." count most, since what follows names the device that an accessory
fits. They are combined as independent witnesses (noisy or). Below a threshold the answer is "don't know".
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from models.knowledge.distillation.product_text import Product
from models.knowledge.handbook.concepts import Concept

MIN_CONFIDENCE: Final = 0.35
"""Below this confidence the handbook answers "unknown": of three such matches checked by hand, one was
right."""
_CATEGORY_TRUST: Final = 0.85
_TEXT_TRUST: Final = 0.6
_SINGLE_WORD: Final = 0.75
_PARENT: Final = 0.5
"""Weight of the category right above, when none is known for the path's end; each step up counts so much
less."""
_ALIKE: Final = 0.6
"""Weight of a category that only shares words with a concept's."""
_UNNAMED: Final = 0.1
"""Weight of a concept that shares a category but is not named by the text, beside 1 for one that is."""
_IN_TITLE, _AFTER_FOR, _IN_DESCRIPTION = 1.0, 0.7, 0.4
_MIN_SHARED_WORDS: Final = 0.5

_WORD = re.compile(r"\w+")
_FOR = re.compile(
    r"\b(?:for|compatible with|fits|works with|replacement of|designed to fit)\b", re.IGNORECASE
)


class ConceptMatch(NamedTuple):
    """A concept and the case for it."""

    concept: Concept
    confidence: float
    """In [0, 1]."""
    reason: str


class ConceptMatcher:
    """Finds the concept of a product."""

    def __init__(self, concepts: Sequence[Concept]) -> None:
        self._concepts = concepts
        self._by_path: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        self._terms: list[tuple[int, frozenset[str]]] = []
        self._by_word: defaultdict[str, list[int]] = defaultdict(list)
        for index, concept in enumerate(concepts):
            for alias in concept.categories:
                self._by_path[_split_category_path(alias)].append(index)
            for term_words in {frozenset(split_words(term)) for term in (*concept.terms, concept.name)}:
                for word in term_words:
                    self._by_word[word].append(len(self._terms))
                self._terms.append((index, term_words))
        self._category_words = [(frozenset(split_words(path[-1])), path) for path in self._by_path]

    def find_concept(self, product: Product) -> ConceptMatch | None:
        """The likeliest concept; none where it is not likely enough."""
        match = self.match_product(product)
        return match if match and match.confidence >= MIN_CONFIDENCE else None

    def match_product(self, product: Product) -> ConceptMatch | None:
        """The likeliest concept, however unsure; none when nothing speaks for any."""
        by_text = self._match_text(product)
        by_category = _share_by_text(self.match_category(product.category), by_text)
        best_match: tuple[float, int, int] = (0.0, 0, -1)
        for index in by_category.keys() | by_text.keys():
            text_strength, num_words = by_text.get(index, (0.0, 0))
            # Noisy or: each witness leaves a doubt of its own, and doubts multiply.
            doubt = (1 - _CATEGORY_TRUST * by_category.get(index, 0.0)) * (1 - _TEXT_TRUST * text_strength)
            # Of equally sure ones: the longer term, then the one that comes first.
            best_match = max(best_match, (1 - doubt, num_words, -index))
        confidence, _, negative_index = best_match
        if not confidence:
            return None
        concept = self._concepts[-negative_index]
        strengths = {
            "category": by_category.get(-negative_index),
            "text": by_text.get(-negative_index, (0.0, 0))[0],
        }
        witness_texts = [
            f"its {witness} speaks for it ({value:.2f})" for witness, value in strengths.items() if value
        ]
        match_reason = f"handbook concept '{concept.id}': {' and '.join(witness_texts)}"
        return ConceptMatch(concept, round(confidence, 3), match_reason)

    def match_category(self, category: str) -> dict[int, float]:
        """Strength in [0, 1] of each concept that a category path speaks for; several divide it."""
        path = _split_category_path(category)
        # Longest end first: "Dogs > Food" says more than "Food".
        for start in range(len(path)):
            if concept_numbers := self._by_path.get(path[start:]):
                return dict.fromkeys(concept_numbers, 1 / len(concept_numbers))
        # No concept claims the path's end: its parents speak, the nearest first, each step half as loud.
        for end in range(len(path) - 1, 0, -1):
            for start in range(end):
                if concept_numbers := self._by_path.get(path[start:end]):
                    return dict.fromkeys(concept_numbers, _PARENT ** (len(path) - end) / len(concept_numbers))
        return self._match_similar_leaf(path[-1]) if path else {}

    def _match_similar_leaf(self, leaf: str) -> dict[int, float]:
        """By the known category that shares most words with a path's end."""
        leaf_words = frozenset(split_words(leaf))
        shared_words = {
            path: len(leaf_words & words) / len(leaf_words | words)
            for words, path in self._category_words
            if leaf_words
        }
        best_path = max(shared_words, key=lambda path: shared_words[path], default=())
        if not best_path or shared_words[best_path] < _MIN_SHARED_WORDS:
            return {}
        concept_numbers = self._by_path[best_path]
        return dict.fromkeys(concept_numbers, _ALIKE * shared_words[best_path] / len(concept_numbers))

    def _match_text(self, product: Product) -> dict[int, tuple[float, int]]:
        """Strength in [0, 1] and length of the best term of each concept whose terms stand in the text."""
        weighted_texts = (
            (_FOR.split(product.title, maxsplit=1)[0], _IN_TITLE),
            (product.title, _AFTER_FOR),
            (f"{product.title} {product.description}", _IN_DESCRIPTION),
        )
        best_terms: dict[int, tuple[float, int]] = {}
        for text, weight in weighted_texts:
            for index, term_words in self._find_matching_terms(text):
                strength = weight * (1.0 if len(term_words) > 1 else _SINGLE_WORD)
                best_terms[index] = max(best_terms.get(index, (0.0, 0)), (strength, len(term_words)))
        return best_terms

    def _find_matching_terms(self, text: str) -> Iterable[tuple[int, frozenset[str]]]:
        """Terms all of whose words stand in a text, with the concepts that they name."""
        word_hits = Counter(term for word in set(split_words(text)) for term in self._by_word.get(word, ()))
        return (
            self._terms[term] for term, num_hits in word_hits.items() if num_hits == len(self._terms[term][1])
        )


def _share_by_text(by_category: dict[int, float], by_text: dict[int, tuple[float, int]]) -> dict[int, float]:
    """Concepts that share a category share its strength by what the text says for each."""
    if len(by_category) < 2:
        return by_category
    weights = {index: _UNNAMED + by_text.get(index, (0.0, 0))[0] for index in by_category}
    scale = sum(by_category.values()) / sum(weights.values())
    return {index: scale * weight for index, weight in weights.items()}


def split_words(text: str) -> list[str]:
    """Lower-case words, plurals cut."""
    return [_cut_plural(word) for word in _WORD.findall(text.casefold())]


def _cut_plural(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _split_category_path(category: str) -> tuple[str, ...]:
    return tuple(
        " ".join(split_words(category_name)) for category_name in category.split(">") if category_name.strip()
    )
