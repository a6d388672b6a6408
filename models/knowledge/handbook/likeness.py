"""How alike a product's title and the handbook's concepts are in meaning, by the vectors of a text encoder."""

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from models.knowledge.handbook.concepts import Concept

Floats = NDArray[np.float32]

_TEMPERATURE: Final = 0.035
"""Fitted on titles whose category and words agree, so that a share p of those given p is right."""
_STEPS: Final = 20
"""Probabilities are rounded to one part in so many: what else is in a title's batch moves the last digits of its
vector, and must not change its record."""


class TextEncoder(Protocol):
    """Whatever turns texts into unit vectors [N, D]."""

    def encode(self, texts: list[str]) -> Floats:
        """Unit vectors of the texts, in their order."""


class Likeness:
    """Compares titles with all concepts; the concepts are encoded once."""

    def __init__(self, concepts: Sequence[Concept], encoder: TextEncoder) -> None:
        self._encoder = encoder
        # The name and the words of shops err differently: their mean is right more often than each.
        views = [[concept.name for concept in concepts], [", ".join(concept.terms) for concept in concepts]]
        mean = np.mean([encoder.encode(view) for view in views], axis=0)
        self._concept_vectors: Floats = mean / np.linalg.norm(mean, axis=1, keepdims=True)

    def compare(self, titles: list[str]) -> list[dict[int, float]]:
        """Probability in [0, 1] of each concept (by its number) that is likely at all, for each title."""
        cosines = self._encoder.encode(titles) @ self._concept_vectors.T
        odds = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / _TEMPERATURE)
        shares = (odds / odds.sum(axis=1, keepdims=True) * _STEPS).round() / _STEPS
        return [{int(c): float(row[c]) for c in np.flatnonzero(row)} for row in shares]
