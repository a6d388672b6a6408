"""Which concept of the handbook a product is, and how sure that is.

Three witnesses: the category path (which concept claims this path or its end), the text (whose terms occur in the
title, best before a "for ...", which names the device an accessory fits) and, where the caller asked an encoder
(`likeness.py`), the meaning of the title. They are combined as independent witnesses (noisy or); below a threshold the
answer is "don't know".
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from models.knowledge.handbook.concepts import Concept
from models.knowledge.products import Product

_CATEGORY_TRUST: Final = 0.85
_TEXT_TRUST: Final = 0.6
_VECTOR_TRUST: Final = 0.7
_SINGLE_WORD: Final = 0.75
_PARENT: Final = 0.5
"""Weight of the category right above, when none is known for the path's end; each step up counts so much less."""
_ALIKE: Final = 0.6
"""Weight of a category that only shares words with a concept's."""
_UNNAMED: Final = 0.1
"""Weight of a concept that shares a category but is not named by the text, beside 1 for one that is."""
_IN_TITLE, _AFTER_FOR, _IN_DESCRIPTION = 1.0, 0.7, 0.4

_WORD = re.compile(r"\w+")
_FOR = re.compile(r"\b(?:for|compatible with|fits|works with|replacement of|designed to fit)\b", re.IGNORECASE)


class Match(NamedTuple):
    """A concept and the case for it."""

    concept: Concept
    confidence: float
    """In [0, 1]."""
    reason: str
    contested: bool
    """The title names another concept, and not this one."""


class ConceptMatcher:
    """Finds the concept of a product."""

    def __init__(self, concepts: Sequence[Concept]) -> None:
        self._concepts = concepts
        self._by_path: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        self._terms: list[tuple[int, frozenset[str]]] = []
        self._by_word: defaultdict[str, list[int]] = defaultdict(list)
        for index, concept in enumerate(concepts):
            for alias in concept.categories:
                self._by_path[_path(alias)].append(index)
            for words in {frozenset(words_of(term)) for term in (*concept.terms, concept.name)}:
                for word in words:
                    self._by_word[word].append(len(self._terms))
                self._terms.append((index, words))
        self._category_words = [(frozenset(words_of(path[-1])), path) for path in self._by_path]

    def match(self, product: Product, likeness: Mapping[int, float] | None = None) -> Match | None:
        """The likeliest concept; none when nothing speaks for any.

        Args:
            product: What is to be matched.
            likeness: Probability of concepts by the vectors of their texts, where these were asked (`Likeness`).
        """
        by_text = self._match_text(product)
        by_category = _share_out(self.match_category(product.category), by_text)
        by_vector = likeness or {}
        best: tuple[float, int, int] = (0.0, 0, -1)
        for index in by_category.keys() | by_text.keys() | by_vector.keys():
            text, num_words = by_text.get(index, (0.0, 0))
            doubt = (1 - _CATEGORY_TRUST * by_category.get(index, 0.0)) * (1 - _TEXT_TRUST * text)
            doubt *= 1 - _VECTOR_TRUST * by_vector.get(index, 0.0)
            best = max(best, (1 - doubt, num_words, -index))
        confidence, _, negative = best
        if not confidence:
            return None
        text, _ = by_text.get(-negative, (0.0, 0))
        strengths = {"category": by_category.get(-negative), "text": text, "meaning": by_vector.get(-negative)}
        concept = self._concepts[-negative]
        contested = not text and any(strength >= _IN_TITLE for strength, _ in by_text.values())
        return Match(concept, round(confidence, 3), _explain(concept, strengths), contested)

    def match_category(self, category: str) -> dict[int, float]:
        """Strength in [0, 1] of each concept that a category path speaks for; concepts that share it share that."""
        path = _path(category)
        for start in range(len(path)):
            if found := self._by_path.get(path[start:]):
                return dict.fromkeys(found, 1 / len(found))
        for end in range(len(path) - 1, 0, -1):
            for start in range(end):
                if found := self._by_path.get(path[start:end]):
                    return dict.fromkeys(found, _PARENT ** (len(path) - end) / len(found))
        return self._alike(path[-1]) if path else {}

    def _alike(self, leaf: str) -> dict[int, float]:
        words = frozenset(words_of(leaf))
        likeness = {path: len(words & known) / len(words | known) for known, path in self._category_words if words}
        best = max(likeness, key=lambda path: likeness[path], default=())
        if not best or likeness[best] < 0.5:
            return {}
        return dict.fromkeys(self._by_path[best], _ALIKE * likeness[best] / len(self._by_path[best]))

    def _match_text(self, product: Product) -> dict[int, tuple[float, int]]:
        """Strength in [0, 1] and length of the best term of each concept found in the text."""
        head = _FOR.split(product.title, maxsplit=1)[0]
        best: dict[int, tuple[float, int]] = {}
        for text, weight in (
            (head, _IN_TITLE),
            (product.title, _AFTER_FOR),
            (f"{product.title} {product.description}", _IN_DESCRIPTION),
        ):
            for index, words in self._terms_in(text):
                strength = weight * (1.0 if len(words) > 1 else _SINGLE_WORD)
                best[index] = max(best.get(index, (0.0, 0)), (strength, len(words)))
        return best

    def _terms_in(self, text: str) -> Iterable[tuple[int, frozenset[str]]]:
        hits = Counter(term for word in set(words_of(text)) for term in self._by_word.get(word, ()))
        return (self._terms[term] for term, count in hits.items() if count == len(self._terms[term][1]))


def _share_out(by_category: dict[int, float], by_text: dict[int, tuple[float, int]]) -> dict[int, float]:
    """Concepts that share a category share its strength by what the text says for each."""
    if len(by_category) < 2:
        return by_category
    weights = {index: _UNNAMED + by_text.get(index, (0.0, 0))[0] for index in by_category}
    scale = sum(by_category.values()) / sum(weights.values())
    return {index: scale * weight for index, weight in weights.items()}


def _explain(concept: Concept, strengths: Mapping[str, float | None]) -> str:
    reasons = [f"its {witness} speaks for it ({strength:.2f})" for witness, strength in strengths.items() if strength]
    return f"handbook concept '{concept.id}': {' and '.join(reasons)}"


def words_of(text: str) -> list[str]:
    """Lower-case words, plurals cut."""
    return [_singular(word) for word in _WORD.findall(text.casefold())]


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _path(category: str) -> tuple[str, ...]:
    return tuple(" ".join(words_of(part)) for part in category.split(">") if part.strip())
