"""What a category path says of a product's concept."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from models.knowledge.handbook.concepts import Concept
from models.knowledge.handbook.title_words import split_words

_SINGLE_WORD: Final = 0.4
"""Strength of a category known by one word: "Cases" or "Adapters" hold many kinds."""
_SEVERAL_WORDS: Final = 0.8
"""Strength of a category whose name has several words, such as "USB Cables"."""
_SEVERAL_NAMES: Final = 1.0
"""Strength of a path of several names, such as "Dogs > Food"."""
_PARENT: Final = 0.5
"""Weight of the category right above, when none is known for the path's end; each step up counts so much
less."""
_AISLE: Final = 0.4
"""Strength, together, of all concepts whose categories lie right under a path's end."""
_ALIKE: Final = 0.6
"""Weight of a category that only shares words with a concept's."""
_MIN_SHARED_WORDS: Final = 0.5

Path = tuple[str, ...]


class CategoryIndex:
    """The categories that concepts claim."""

    def __init__(self, concepts: Sequence[Concept]) -> None:
        self._by_path: defaultdict[Path, list[int]] = defaultdict(list)
        for number, concept in enumerate(concepts):
            for alias in concept.categories:
                self._by_path[split_category_path(alias)].append(number)
        self._by_aisle: defaultdict[str, list[int]] = defaultdict(list)
        for path, numbers in self._by_path.items():
            if len(path) > 1:
                self._by_aisle[path[-2]] += [one for one in numbers if one not in self._by_aisle[path[-2]]]
        self._leaf_words = [(frozenset(split_words(path[-1])), path) for path in self._by_path]

    def match_category(self, category: str) -> dict[int, float]:
        """Strength in [0, 1] of each concept that a category path speaks for; several divide it."""
        path = split_category_path(category)
        # Longest end first: "Dogs > Food" says more than "Food".
        for start in range(len(path)):
            if known_path := self._find_path(path[start:]):
                return self._divide_strength(known_path, 1.0)
        if path and (concept_numbers := self._by_aisle.get(path[-1])):
            return dict.fromkeys(concept_numbers, _AISLE / len(concept_numbers))
        # No concept claims the path's end: its parents speak, the nearest first, each step half as loud.
        for end in range(len(path) - 1, 0, -1):
            for start in range(end):
                if known_path := self._find_path(path[start:end]):
                    return self._divide_strength(known_path, _PARENT ** (len(path) - end))
        return self._match_similar_leaf(path[-1]) if path else {}

    def _find_path(self, path: Path) -> Path:
        return path if path in self._by_path else ()

    def _divide_strength(self, path: Path, weight: float) -> dict[int, float]:
        concept_numbers = self._by_path[path]
        if len(path) > 1:
            strength = _SEVERAL_NAMES
        else:
            strength = _SEVERAL_WORDS if len(path[0].split()) > 1 else _SINGLE_WORD
        return dict.fromkeys(concept_numbers, weight * strength / len(concept_numbers))

    def _match_similar_leaf(self, leaf: str) -> dict[int, float]:
        """By the known category that shares most words with a path's end."""
        leaf_words = frozenset(split_words(leaf))
        shared_words = {
            path: len(leaf_words & words) / len(leaf_words | words)
            for words, path in self._leaf_words
            if leaf_words
        }
        best_path = max(shared_words, key=lambda path: shared_words[path], default=())
        if not best_path or shared_words[best_path] < _MIN_SHARED_WORDS:
            return {}
        # Only the name of the path's end is alike, so how long the path is says nothing.
        strength = _SEVERAL_WORDS if len(leaf_words) > 1 else _SINGLE_WORD
        concept_numbers = self._by_path[best_path]
        share = _ALIKE * shared_words[best_path] * strength / len(concept_numbers)
        return dict.fromkeys(concept_numbers, share)


def split_category_path(category: str) -> Path:
    """The normalized names of a category path."""
    return tuple(
        " ".join(split_words(category_name)) for category_name in category.split(">") if category_name.strip()
    )
