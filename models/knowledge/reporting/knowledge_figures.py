"""Figures of a knowledge artifact: how much is known, what it rests on, what fell and why, what it cost.

The table and the trace are read in a stream, so memory does not grow with the catalogue.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import polars as pl

from contracts.artifacts import Lineage, read_lineage
from contracts.tables import FACETS
from models.knowledge.distillation.distill_knowledge import LEDGER_FILE
from models.knowledge.distillation.finished_records import TRACE_FILE, explain_damage, scan_knowledge

_NUM_EXAMPLES: Final = 3


class FacetFigures(NamedTuple):
    """One facet over all items."""

    facet: str
    num_claims: int
    num_quoted: int
    """Claims that quote the catalogue."""
    mean_confidence: float
    num_items: int
    """Items with a claim."""


class CertainItem(NamedTuple):
    """An item at one end of the order by confidence."""

    item_id: str
    title: str
    summary: str
    confidence: float


@dataclass
class TraceTally:
    """What the trace tells: each counted by cause and facet, with a few examples by cause."""

    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    objections: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add_trace(self, trace: dict[str, Any]) -> None:
        """Counts one line."""
        item = f"{trace['item_id']}: {trace['product']['title']}"
        for claim in trace["dropped"]:
            self.dropped[claim["reason"], claim["facet"]] += 1
            evidence = f" (evidence: {claim['evidence']})" if claim["evidence"] else ""
            self._add_example(claim["reason"], f"{item}: {claim['facet']} '{claim['text']}'{evidence}")
        for objection in trace["objections"]:
            self.objections[objection["remedy"], objection["facet"]] += 1
            words = f"{item}: {objection['facet']} '{objection['claim']}': {objection['problem']}"
            self._add_example(f"to {objection['remedy']}", words)
        if trace["fault"]:
            self.faults[trace["fault"]] += 1

    def _add_example(self, cause: str, words: str) -> None:
        examples = self.examples.setdefault(cause, [])
        if len(examples) < _NUM_EXAMPLES:
            examples.append(words)


@dataclass(frozen=True)
class KnowledgeFigures:
    """All figures of one artifact."""

    lineage: Lineage
    statuses: dict[str, int]
    facets: list[FacetFigures]
    tally: TraceTally
    most_certain: list[CertainItem]
    least_certain: list[CertainItem]
    paid: dict[str, dict[str, float]]
    """What this run paid, by agent and in `total`."""

    @property
    def num_items(self) -> int:
        """Items of the catalogue."""
        return sum(self.statuses.values())

    @property
    def coverage(self) -> float:
        """The share of items with knowledge."""
        return self.statuses.get("ok", 0) / max(self.num_items, 1)


def read_knowledge_figures(knowledge: Path, *, num_shown: int = 5) -> KnowledgeFigures:
    """Reads an artifact's figures, and its `num_shown` most and least certain items.

    Raises:
        UserError: the folder is no knowledge artifact, or a file of it is missing or damaged.
    """
    table = scan_knowledge(knowledge)
    statuses = dict(table.group_by("status").len().collect().iter_rows())
    by_confidence = table.filter(pl.col("status") == "ok").select("item_id", "summary", "confidence")
    least = by_confidence.sort("confidence", "item_id").head(num_shown).collect()
    most = by_confidence.sort("confidence", "item_id", descending=[True, False]).head(num_shown).collect()
    shown_ids = {*least["item_id"], *most["item_id"]}
    tally, titles = TraceTally(), dict[str, str]()
    with explain_damage(knowledge / TRACE_FILE) as trace_path, trace_path.open(encoding="utf-8") as lines:
        for line in lines:
            trace = json.loads(line)
            tally.add_trace(trace)
            if trace["item_id"] in shown_ids:
                titles[trace["item_id"]] = trace["product"]["title"]
    most_certain, least_certain = (
        [CertainItem(item_id, titles.get(item_id, ""), *rest) for item_id, *rest in frame.iter_rows()]
        for frame in (most, least)
    )
    with explain_damage(knowledge / LEDGER_FILE) as ledger_path:
        ledger = json.loads(ledger_path.read_text(encoding="utf-8"))["paid"]
        paid = {**ledger["agents"], "total": ledger["total"]}
    return KnowledgeFigures(
        lineage=read_lineage(knowledge),
        statuses=statuses,
        facets=[_measure_facet(table, facet) for facet in FACETS],
        tally=tally,
        most_certain=most_certain,
        least_certain=least_certain,
        paid=paid,
    )


def _measure_facet(table: pl.LazyFrame, facet: str) -> FacetFigures:
    is_filled = pl.col(facet).list.len() > 0
    claims = table.filter(is_filled).select(facet).explode(facet).unnest(facet)
    num_claims, num_quoted, confidence = (
        claims.select(pl.len(), (pl.col("source") == "catalogue").sum(), pl.col("confidence").mean())
        .collect()
        .row(0)
    )
    num_items = table.select(is_filled.sum()).collect().item()
    return FacetFigures(facet, num_claims, num_quoted, confidence or 0.0, num_items or 0)
