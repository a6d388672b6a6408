"""How far two knowledge artifacts say the same of the same items: two teachers, or two versions of prompts.

Claims are compared by their words. Each is worth its best match among the other's claims of the same facet
(Dice coefficient of the sets of words), and a facet is worth the mean over both sides. Some words agree by
chance: the same measure over items that are not the same says how much, and is corrected for as in Cohen's
kappa. Paraphrases count for little. One large model that wrote twice about the same 661 industrial articles
agrees with itself by .38 (scenarios) to .80 (kind of product) over chance.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl

from contracts.errors import UserError
from contracts.tables import FACETS
from models.knowledge.distillation.finished_records import scan_knowledge
from models.knowledge.writing_systems import split_words

SUMMARY: Final = "summary"
_MAX_ITEMS: Final = 5000
"""Compared items: an even sample of more."""
_NUM_DIFFERENT: Final = 5

WordSets = Sequence[frozenset[str]]


class FacetAgreement(NamedTuple):
    """How far two artifacts agree in a facet."""

    facet: str
    agreement: float
    """Mean over the items in which either makes a claim, 0 to 1."""
    by_chance: float
    claims_per_item: tuple[float, float]

    @property
    def corrected(self) -> float:
        """1: the same words; 0: as much as items that are not the same."""
        return (self.agreement - self.by_chance) / max(1 - self.by_chance, 1e-9)


class KnowledgeComparison(NamedTuple):
    """Two artifacts side by side."""

    names: tuple[str, str]
    """Teacher and prompts of each."""
    num_items: int
    """Items that both hold with the same text."""
    num_other_text: int
    """Items that both hold, but whose text has changed between them: not compared."""
    coverages: tuple[float, float]
    num_compared: int
    """Items that both know."""
    facets: list[FacetAgreement]
    most_different: list[tuple[str, str, str]]
    """Id and both summaries of the items that agree least."""

    def find_drift(self, *, min_agreement: float, max_coverage_change: float) -> list[str]:
        """What has drifted, in words; empty where nothing has."""
        first, second = self.coverages
        found = []
        if abs(second - first) > max_coverage_change:
            found.append(f"coverage went from {first:.1%} to {second:.1%}")
        return found + [
            f"{facet.facet}: agreement {facet.corrected:.2f} is below {min_agreement:.2f}"
            for facet in self.facets
            if facet.corrected < min_agreement and max(facet.claims_per_item) > 0
        ]


def compare_knowledge(first: Path, second: Path) -> KnowledgeComparison:
    """Compares two knowledge artifacts item by item.

    Raises:
        UserError: a folder is no knowledge artifact, or no item is known to both.
    """
    columns = ["item_id", "source_digest", "status", SUMMARY, "teacher", "prompt_version", *FACETS]
    tables = [scan_knowledge(folder).select(columns) for folder in (first, second)]
    joined = tables[0].join(tables[1], on="item_id", suffix="_second")
    is_same = pl.col("source_digest") == pl.col("source_digest_second")
    is_known, is_known_second = (pl.col(name) == "ok" for name in ("status", "status_second"))
    counts = {
        "shared": pl.len(),
        "same": is_same.sum(),
        "known": (is_same & is_known).sum(),
        "known_second": (is_same & is_known_second).sum(),
    }
    num_shared, num_items, num_known, num_known_second = joined.select(**counts).collect().row(0)
    known_rows = joined.filter(is_same & is_known & is_known_second).sort("item_id").collect()
    if known_rows.is_empty():
        raise UserError(
            f"no item with the same text is known to both {first} and {second} ({num_shared} ids are in both)"
        )
    rows = known_rows.gather_every(-(-known_rows.height // _MAX_ITEMS)).to_dicts()
    scores = {facet: _measure_facet(rows, facet) for facet in (SUMMARY, *FACETS)}
    item_scores = np.nanmean(np.array([score.item_scores for score in scores.values()]), axis=0)
    different_rows = [rows[place] for place in np.argsort(item_scores, kind="stable")[:_NUM_DIFFERENT]]
    return KnowledgeComparison(
        names=(_name_teacher(rows[0], ""), _name_teacher(rows[0], "_second")),
        num_items=num_items,
        num_other_text=num_shared - num_items,
        coverages=(num_known / max(num_items, 1), num_known_second / max(num_items, 1)),
        num_compared=len(rows),
        facets=[score.figures for score in scores.values()],
        most_different=[(row["item_id"], row[SUMMARY], row[f"{SUMMARY}_second"]) for row in different_rows],
    )


def measure_item_agreement(
    first: Mapping[str, Sequence[str]], second: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """How far two answers about one item say the same, facet by facet; without what neither speaks of.

    Args:
        first: The claims of each facet.
        second: Those of the other answer, with the same facets.
    """
    scores = {
        facet: _match_claims(_read_word_sets(claims), _read_word_sets(second[facet]))
        for facet, claims in first.items()
    }
    return {facet: score for facet, score in scores.items() if not np.isnan(score)}


def _name_teacher(row: dict[str, Any], suffix: str) -> str:
    return f"{row[f'teacher{suffix}']}, prompts {row[f'prompt_version{suffix}']}"


class _FacetScores(NamedTuple):
    figures: FacetAgreement
    item_scores: list[float]
    """By item; NaN where neither makes a claim."""


def _measure_facet(rows: Sequence[dict[str, Any]], facet: str) -> _FacetScores:
    sides: list[list[WordSets]] = [
        [_read_word_sets(row[f"{facet}{suffix}"]) for row in rows] for suffix in ("", "_second")
    ]
    item_scores = list(map(_match_claims, *sides))
    # Each item against the next one: what they share, they share by chance.
    chance_scores = list(map(_match_claims, sides[0], [*sides[1][1:], *sides[1][:1]]))
    agreement, by_chance = (_mean_of_claims(scores) for scores in (item_scores, chance_scores))
    first_mean, second_mean = (sum(map(len, side)) / len(rows) for side in sides)
    by_chance = by_chance if len(rows) > 1 else 0.0
    return _FacetScores(FacetAgreement(facet, agreement, by_chance, (first_mean, second_mean)), item_scores)


def _mean_of_claims(scores: Sequence[float]) -> float:
    told_scores = [score for score in scores if not np.isnan(score)]
    return float(np.mean(told_scores)) if told_scores else 0.0


def _read_word_sets(value: Any) -> WordSets:
    claims = [value] if isinstance(value, str) else value or ()
    texts = [claim if isinstance(claim, str) else claim["text"] for claim in claims]
    # A claim of nothing but emoji has no words, and is still the same as itself.
    return [frozenset(split_words(text)) or frozenset((text,)) for text in texts]


def _match_claims(first: WordSets, second: WordSets) -> float:
    """The mean of each claim's best match on the other side; NaN where there are no claims at all."""
    best_matches = [
        max((_measure_overlap(claim, other) for other in others), default=0.0)
        for claims, others in ((first, second), (second, first))
        for claim in claims
    ]
    return sum(best_matches) / len(best_matches) if best_matches else float("nan")


def _measure_overlap(first: frozenset[str], second: frozenset[str]) -> float:
    """Dice coefficient of two sets."""
    num_words = len(first) + len(second)
    return 2 * len(first & second) / num_words if num_words else 0.0
