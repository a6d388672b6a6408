"""The handbook as a graph: concepts joined by "goes with", by "instead of" and by the life situations they share."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from models.knowledge.handbook.concepts import Concept, Situation

Edges = Mapping[str, tuple[str, ...]]


class Graph(NamedTuple):
    """Edges by concept id; an id without edges has an empty tuple."""

    goes_with: Edges
    """What is used with a concept, as written: a printer asks for ink, ink does not ask for a printer."""
    instead_of: Edges
    """What could stand in for a concept; symmetric."""
    situations: Edges
    """Ids of the life situations of a concept, in the order of the handbook."""
    members: Edges
    """Situation id -> its concepts."""


def build_graph(concepts: Sequence[Concept], situations: Sequence[Situation]) -> Graph:
    """Resolves all edges; `find_faults` must have found none."""
    substitutes: dict[str, dict[str, None]] = {concept.id: {} for concept in concepts}
    for concept in concepts:
        for other in concept.instead_of:
            substitutes[concept.id][other] = substitutes[other][concept.id] = None
    lived: defaultdict[str, list[str]] = defaultdict(list)
    for situation in situations:
        for member in situation.concepts:
            lived[member].append(situation.id)
    return Graph(
        goes_with={concept.id: concept.goes_with for concept in concepts},
        instead_of={concept: tuple(others) for concept, others in substitutes.items()},
        situations={concept.id: tuple(lived[concept.id]) for concept in concepts},
        members={situation.id: situation.concepts for situation in situations},
    )


def find_faults(concepts: Sequence[Concept], situations: Sequence[Situation]) -> list[str]:
    """What is wrong with the edges: unknown ids, a concept joined to itself, an edge written twice."""
    known = {concept.id for concept in concepts}
    faults = [
        f"{concept.id}: {field}: {fault}"
        for concept in concepts
        for field, others in (("goes_with", concept.goes_with), ("instead_of", concept.instead_of))
        for fault in _faults_of(others, known - {concept.id})
    ]
    return faults + [
        f"situation {situation.id}: {fault}"
        for situation in situations
        for fault in _faults_of(situation.concepts, known)
    ]


def _faults_of(ids: Sequence[str], allowed: Iterable[str]) -> list[str]:
    unknown = sorted(set(ids) - set(allowed))
    twice = sorted({one for one in ids if ids.count(one) > 1})
    return [f"no other concept is called {one}" for one in unknown] + [f"{one} stands twice" for one in twice]
