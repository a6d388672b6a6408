"""How many events became sampled lists, and what became of the others; counted where the lists were built."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from contracts.artifacts import read_lineage
from models.ranker.lists.build_lists import TEST

REASONS = {
    "repeat": "the user had the item before",
    "new_item": "nobody had the item before",
    "no_history": "the user did nothing before",
    "no_negative": "nothing to compare with",
    "frequent_item": "the item fills its window, or most users have it: left out by lot",
    "over_the_cap": "over `lists.max_eval_lists`",
}
"""Why an event became no list -> in words."""


class ListCounts(NamedTuple):
    """Of the test lists of one protocol."""

    events: int
    lists: int
    skipped: dict[str, int]
    """Reason -> events; only those that occur."""
    candidates_mean: float
    candidates_min: int


def read_list_counts(artifact: Path) -> dict[str, ListCounts]:
    """Sampled protocol -> counts of its test lists, from the lineage of what was made of them; empty where
    it tells none."""
    for lineage in read_lineage(artifact).chain.values():
        if lineage["kind"] == "ranking_lists":
            return parse_list_counts(lineage["metrics"])
    return {}


def parse_list_counts(metrics: Mapping[str, float]) -> dict[str, ListCounts]:
    """Sampled protocol -> counts of its test lists, from the metrics of the lists step."""
    protocols = [
        name.split(".")[1] for name in metrics if name.startswith("events.") and name.endswith(f".{TEST}")
    ]
    counts = {}
    for protocol in protocols:
        part = f"{protocol}.{TEST}"
        skipped = {reason: int(metrics.get(f"skipped.{part}.{reason}", 0)) for reason in REASONS}
        counts[protocol] = ListCounts(
            events=int(metrics[f"events.{part}"]),
            lists=int(metrics[f"lists.{part}"]),
            skipped={reason: num_events for reason, num_events in skipped.items() if num_events},
            candidates_mean=metrics[f"candidates_mean.{part}"],
            candidates_min=int(metrics[f"candidates_min.{part}"]),
        )
    return counts


def describe_list_counts(counts: ListCounts) -> str:
    """One sentence."""
    reasons = ", ".join(f"{num_events:,} {reason}" for reason, num_events in counts.skipped.items())
    return (
        f"{counts.lists:,} of {counts.events:,} events became lists of {counts.candidates_mean:.1f} "
        f"candidates, at least {counts.candidates_min}" + (f"; left out: {reasons}" if reasons else "")
    )
