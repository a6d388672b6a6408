"""What is known of an item and why, as plain text for a terminal."""

import difflib
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import polars as pl

from contracts.artifacts import read_lineage
from contracts.errors import UserError
from contracts.tables import FACETS
from models.knowledge.products import printable
from models.knowledge.records import KNOWLEDGE_FILE, find_line

_WIDTH: Final = 110
_MAX_COMPARED: Final = 50_000


def describe_item(knowledge: Path, item_id: str) -> str:
    """The item as it was read, each agent's reasoning, objections, the final record, and the claims that fell.

    Raises:
        UserError: the folder is no knowledge artifact, or does not know the item.
    """
    lineage = read_lineage(knowledge)
    if not (knowledge / KNOWLEDGE_FILE).is_file():
        raise UserError(f"{knowledge} holds no knowledge but an artifact of kind '{lineage.kind}'")
    table = pl.scan_parquet(knowledge / KNOWLEDGE_FILE)
    found = table.filter(pl.col("item_id") == item_id).collect()
    if found.is_empty():
        raise UserError(f"no item '{printable(item_id)}' in {knowledge}{suggest(item_id, table)}")
    row, trace = found.row(0, named=True), json.loads(find_line(knowledge, item_id))
    lines = [*_head(row, trace), *_reasoning(trace), *_objections(trace), *_record(row), *_dropped(trace)]
    return "\n".join([*lines, "", f"artifact {lineage.digest}, made {lineage.created_at:%Y-%m-%d %H:%M} UTC"])


def suggest(item_id: str, table: pl.LazyFrame) -> str:
    """A hint at ids like the given one, for an error message; empty when there is none."""
    containing = table.filter(pl.col("item_id").str.contains(item_id, literal=True)).head(5).select("item_id").collect()
    near = containing["item_id"].to_list()
    if not near:
        ids = table.select("item_id").head(_MAX_COMPARED).collect()["item_id"].to_list()
        near = difflib.get_close_matches(item_id, ids, n=5)
    return f"; did you mean {', '.join(map(printable, near))}?" if near else ""


def _head(row: dict[str, Any], trace: dict[str, Any]) -> Iterator[str]:
    product = trace["product"]
    yield f"{printable(row['item_id'])}: {printable(product['title'])}"
    for name in ("brand", "category", "description"):
        if product[name]:
            yield from _wrap(f"{name}: {product[name]}")
    sure = "" if row["confidence"] is None else f", confidence {row['confidence']:.2f}"
    yield from _wrap(f"{row['status']}{sure}; teacher {row['teacher']}, prompts {row['prompt_version']}")
    if trace["fault"]:
        yield from _wrap(f"fault: {trace['fault']}")


def _reasoning(trace: dict[str, Any]) -> Iterator[str]:
    for agent, text in trace["reasoning"].items():
        yield from ("", agent.replace("_", " "))
        yield from _wrap(text)


def _objections(trace: dict[str, Any]) -> Iterator[str]:
    if trace["objections"]:
        yield from ("", "objections of the critic")
    for objection in trace["objections"]:
        claim = objection["claim"] or f"no. {objection['number']}"
        yield from _wrap(f"{objection['remedy']} {objection['facet']} '{claim}': {objection['problem']}")


def _record(row: dict[str, Any]) -> Iterator[str]:
    if row["summary"]:
        yield from ("", "record")
        yield from _wrap(row["summary"])
    for facet in FACETS:
        for number, claim in enumerate(row[facet] or ()):
            if number == 0:
                yield from _wrap(facet)
            yield from _wrap(f"{claim['confidence']:.2f} {claim['text']}", indent=4)
            quoted = f"'{claim['evidence']}'" if claim["source"] == "catalogue" else claim["evidence"]
            yield from _wrap(f"{claim['source']}: {quoted}", indent=9)


def _dropped(trace: dict[str, Any]) -> Iterator[str]:
    if trace["dropped"]:
        yield from ("", "dropped claims")
    for claim in trace["dropped"]:
        evidence = f" (evidence: {claim['evidence']})" if claim["evidence"] else ""
        yield from _wrap(f"{claim['reason']}: {claim['facet']} '{claim['text']}'{evidence}")


def _wrap(text: str, *, indent: int = 2) -> list[str]:
    margin = " " * indent
    return textwrap.wrap(printable(text), _WIDTH, initial_indent=margin, subsequent_indent=margin + "  ")
