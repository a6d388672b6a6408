"""What is known of an item and why, as plain text for a terminal."""

import difflib
import textwrap
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import polars as pl

from contracts.artifacts import read_lineage
from contracts.errors import UserError
from contracts.tables import FACETS
from models.knowledge.distillation.finished_records import read_item_trace, scan_knowledge
from models.knowledge.distillation.product_text import escape_control_chars

_WIDTH: Final = 110
_MAX_COMPARED: Final = 50_000


def describe_item(knowledge: Path, item_id: str) -> str:
    """The item as it was read, the agents' reasoning, objections, the final record, and the claims that fell.

    Raises:
        UserError: the folder is no knowledge artifact, or does not know the item.
    """
    lineage = read_lineage(knowledge)
    knowledge_table = scan_knowledge(knowledge)
    item_rows = knowledge_table.filter(pl.col("item_id") == item_id).collect()
    if item_rows.is_empty():
        suggestion = suggest_item_ids(item_id, knowledge_table)
        raise UserError(f"no item '{escape_control_chars(item_id)}' in {knowledge}{suggestion}")
    item_row, item_trace = item_rows.row(0, named=True), read_item_trace(knowledge, item_id)
    made_at = f"{lineage.created_at:%Y-%m-%d %H:%M} UTC"
    text_lines = [
        *_describe_product(item_row, item_trace),
        *_describe_reasoning(item_trace),
        *_describe_objections(item_trace),
        *_describe_record(item_row),
        *_describe_dropped_claims(item_trace),
        *("", f"artifact {lineage.digest}, made {made_at}"),
    ]
    return "\n".join(text_lines)


def suggest_item_ids(item_id: str, table: pl.LazyFrame) -> str:
    """A hint at ids like the given one, for an error message; empty when there is none."""
    ids = table.select("item_id")
    containing_ids = ids.filter(pl.col("item_id").str.contains(item_id, literal=True)).head(5).collect()
    similar_ids = containing_ids["item_id"].to_list()
    if not similar_ids:
        compared_ids = ids.head(_MAX_COMPARED).collect()["item_id"].to_list()
        similar_ids = difflib.get_close_matches(item_id, compared_ids, n=5)
    return f"; did you mean {', '.join(map(escape_control_chars, similar_ids))}?" if similar_ids else ""


def _describe_product(row: dict[str, Any], trace: dict[str, Any]) -> Iterator[str]:
    product = trace["product"]
    yield f"{escape_control_chars(row['item_id'])}: {escape_control_chars(product['title'])}"
    for field_name in ("brand", "category", "description"):
        if product[field_name]:
            yield from _wrap_printable_text(f"{field_name}: {product[field_name]}")
    confidence_text = "" if row["confidence"] is None else f", confidence {row['confidence']:.2f}"
    yield from _wrap_printable_text(
        f"{row['status']}{confidence_text}; teacher {row['teacher']}, prompts {row['prompt_version']}"
    )
    if trace["fault"]:
        yield from _wrap_printable_text(f"fault: {trace['fault']}")


def _describe_reasoning(trace: dict[str, Any]) -> Iterator[str]:
    for agent, text in trace["reasoning"].items():
        yield from ("", agent.replace("_", " "))
        yield from _wrap_printable_text(text)


def _describe_objections(trace: dict[str, Any]) -> Iterator[str]:
    if trace["objections"]:
        yield from ("", "objections of the critic")
    for objection in trace["objections"]:
        claim_text = objection["claim"] or f"no. {objection['number']}"
        yield from _wrap_printable_text(
            f"{objection['remedy']} {objection['facet']} '{claim_text}': {objection['problem']}"
        )


def _describe_record(row: dict[str, Any]) -> Iterator[str]:
    if row["summary"]:
        yield from ("", "record")
        yield from _wrap_printable_text(row["summary"])
    for facet in FACETS:
        claims = row[facet] or ()
        if claims:
            yield from _wrap_printable_text(facet)
        # Recorded knowledge gives many claims the same evidence: it is said once, below the last of them.
        for claim, next_claim in zip_longest(claims, claims[1:]):
            yield from _wrap_printable_text(f"{claim['confidence']:.2f} {claim['text']}", indent=4)
            if next_claim is None or any(claim[key] != next_claim[key] for key in ("source", "evidence")):
                evidence = f"'{claim['evidence']}'" if claim["source"] == "catalogue" else claim["evidence"]
                yield from _wrap_printable_text(f"{claim['source']}: {evidence}", indent=9)


def _describe_dropped_claims(trace: dict[str, Any]) -> Iterator[str]:
    if trace["dropped"]:
        yield from ("", "dropped claims")
    for claim in trace["dropped"]:
        evidence_text = f" (evidence: {claim['evidence']})" if claim["evidence"] else ""
        yield from _wrap_printable_text(
            f"{claim['reason']}: {claim['facet']} '{claim['text']}'{evidence_text}"
        )


def _wrap_printable_text(text: str, *, indent: int = 2) -> list[str]:
    margin = " " * indent
    return textwrap.wrap(
        escape_control_chars(text), _WIDTH, initial_indent=margin, subsequent_indent=margin + "  "
    )
