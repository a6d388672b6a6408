"""The figures of a knowledge artifact as one HTML file: no script, no network, everything escaped."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

import polars as pl

from models.knowledge.distillation.product_text import escape_control_chars
from models.knowledge.reporting.knowledge_figures import CertainItem, KnowledgeFigures
from models.knowledge.reporting.teacher_agreement import KnowledgeComparison
from models.knowledge.teachers.teacher import RECORDED_COUNT

_STYLE: Final = """
body { font-family: sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222; }
section { border-top: 1px solid #ccc; margin-top: 2em; }
table { border-collapse: collapse; margin: .6em 0; } td, th { text-align: left; padding: .2em .9em .2em 0; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
p, td { overflow-wrap: anywhere; } svg { vertical-align: middle; }
"""
_BAR_WIDTH: Final = 120
_MAX_CELL_CHARS: Final = 300
_MAX_FAULTS: Final = 10

Neighbors = dict[str, pl.DataFrame]
"""By item: item_id, cosine, title, category of the nearest ones (`find_neighbors`)."""


def render_knowledge_page(
    figures: KnowledgeFigures, neighbors: Neighbors, comparison: KnowledgeComparison | None = None
) -> str:
    """The page.

    Args:
        figures: Of the artifact.
        neighbors: Of its most and least certain items; may be empty.
        comparison: With another artifact.
    """
    labels = figures.lineage.labels
    title = f"Knowledge by {labels.get('teacher', 'an unknown teacher')}"
    sections = {
        "Coverage": _render_coverage(figures),
        "Claims and grounding": _render_facets(figures),
        "What fell, and why": _render_losses(figures),
        "Certain and uncertain": _render_certain_items(figures, neighbors),
        "Cost": _render_cost(figures),
    }
    if comparison is not None:
        sections["Agreement"] = _render_comparison(comparison)
    body = "".join(f"<section><h2>{name}</h2>{section}</section>" for name, section in sections.items())
    made = f"{figures.lineage.created_at:%Y-%m-%d %H:%M} UTC"
    about = f"Artifact {figures.lineage.digest}, made {made}, prompts {labels.get('prompt_version', '')}"
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{_show(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{_show(title)}</h1><p>{_show(about)}</p>{body}</body></html>\n"
    )


def _render_coverage(figures: KnowledgeFigures) -> str:
    rows = [
        [status, count, _draw_bar(count / max(figures.num_items, 1))]
        for status, count in sorted(figures.statuses.items(), key=lambda one: -one[1])
    ]
    recorded = [
        [name.removeprefix(RECORDED_COUNT).replace("_", " "), int(count)]
        for name, count in figures.lineage.metrics.items()
        if name.startswith(RECORDED_COUNT)
    ]
    recorded_table = f"<h3>Recorded answers</h3>{_render_table([], recorded)}" if recorded else ""
    text = f"<p>{figures.coverage:.1%} of {figures.num_items:,} items have knowledge.</p>"
    return text + _render_table(["status", "items", ""], rows) + recorded_table


def _render_facets(figures: KnowledgeFigures) -> str:
    num_known = max(figures.statuses.get("ok", 0), 1)
    rows = [
        [
            facet.facet,
            facet.num_claims,
            f"{facet.num_claims / num_known:.1f}",
            f"{facet.num_items / num_known:.0%}",
            f"{facet.num_quoted / max(facet.num_claims, 1):.0%}",
            _draw_bar(facet.num_quoted / max(facet.num_claims, 1)),
            f"{facet.mean_confidence:.2f}",
        ]
        for facet in figures.facets
    ]
    heads = ["facet", "claims", "an item", "items with one", "quote the catalogue", "", "confidence"]
    note = "<p>Claims that quote the catalogue were verified word by word. The others rest on reasoning.</p>"
    return _render_table(heads, rows) + note


def _render_losses(figures: KnowledgeFigures) -> str:
    tally = figures.tally
    dropped = [[reason, facet, count] for (reason, facet), count in tally.dropped.most_common()]
    objections = [[remedy, facet, count] for (remedy, facet), count in tally.objections.most_common()]
    faults = [[count, fault] for fault, count in tally.faults.most_common(_MAX_FAULTS)]
    examples = "".join(
        f"<h3>{_show(cause)}</h3>{_render_list(words)}" for cause, words in tally.examples.items()
    )
    return (
        f"<p>{tally.dropped.total():,} claims fell. "
        f"The critic objected {tally.objections.total():,} times.</p>"
        + _render_table(["why it fell", "facet", "claims"], dropped)
        + _render_table(["the critic's remedy", "facet", "claims"], objections)
        + examples
        + (f"<h3>Items without a valid answer</h3>{_render_table([], faults)}" if faults else "")
    )


def _render_certain_items(figures: KnowledgeFigures, neighbors: Neighbors) -> str:
    return "".join(
        f"<h3>{name}</h3>" + "".join(_render_item(item, neighbors.get(item.item_id)) for item in items)
        for name, items in (
            ("Most certain", figures.most_certain),
            ("Least certain", figures.least_certain),
        )
    )


def _render_item(item: CertainItem, neighbors: pl.DataFrame | None) -> str:
    told_id = f"({_show(item.item_id)}, {item.confidence:.2f})"
    head = f"<p><b>{_show(item.title)}</b> {told_id}: {_show(item.summary)}</p>"
    if neighbors is None:
        return head
    rows = [
        [_draw_bar(cosine), f"{cosine:.2f}", title or item_id]
        for item_id, cosine, title in neighbors.select("item_id", "cosine", "title").iter_rows()
    ]
    return head + _render_table(["", "cosine", "neighbor"], rows)


def _render_cost(figures: KnowledgeFigures) -> str:
    rows = [
        [
            agent.replace("_", " "),
            int(paid["requests"]),
            int(paid["cached"]),
            int(paid["invalid"]),
            int(paid["tokens_in"]),
            int(paid["tokens_out"]),
            f"{paid['teacher_s']:,.1f}",
            f"{paid['money']:,.4f}",
        ]
        for agent, paid in figures.paid.items()
    ]
    heads = ["agent", "requests", "cached", "invalid", "tokens in", "tokens out", "seconds", "money"]
    per_thousand = 1000 * figures.paid["total"]["money"] / max(figures.num_items, 1)
    return f"<p>{per_thousand:,.4f} for a thousand items in this run.</p>" + _render_table(heads, rows)


def _render_comparison(comparison: KnowledgeComparison) -> str:
    first, second = comparison.coverages
    text = (
        f"<p>{_show(comparison.names[0])} knows {first:.1%}, {_show(comparison.names[1])} {second:.1%} "
        f"of the {comparison.num_items:,} items that both read; {comparison.num_compared:,} are compared, "
        f"and {comparison.num_other_text:,} have another text by now.</p>"
    )
    rows = [
        [
            facet.facet,
            f"{facet.corrected:.2f}",
            _draw_bar(facet.corrected),
            f"{facet.agreement:.2f}",
            f"{facet.by_chance:.2f}",
            f"{facet.claims_per_item[0]:.1f}",
            f"{facet.claims_per_item[1]:.1f}",
        ]
        for facet in comparison.facets
    ]
    heads = ["facet", "agreement over chance", "", "agreement", "by chance", "claims", "of the other"]
    note = (
        "<p>Words are compared, so paraphrases count for little: two runs of one model do not reach 1.</p>"
        "<h3>Items that differ most</h3>"
    )
    different = [list(row) for row in comparison.most_different]
    return text + _render_table(heads, rows) + note + _render_table(["item", "one", "the other"], different)


def _render_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{_show(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(map(_render_cell, row))}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>" if body else ""


class _Picture(str):
    """Markup of our own, which is not escaped."""


def _render_cell(value: object) -> str:
    if isinstance(value, _Picture):
        return f"<td>{value}</td>"
    if isinstance(value, int):
        return f'<td class="number">{value:,}</td>'
    return f"<td>{_show(str(value))}</td>"


def _render_list(texts: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{_show(text)}</li>' for text in texts)}</ul>"


def _draw_bar(share: float) -> _Picture:
    width = round(_BAR_WIDTH * min(max(share, 0.0), 1.0))
    return _Picture(
        f'<svg width="{_BAR_WIDTH}" height="10" role="img">'
        f'<rect width="{_BAR_WIDTH}" height="10" fill="#eee"/>'
        f'<rect width="{width}" height="10" fill="#4a7"/></svg>'
    )


def _show(text: str) -> str:
    """Catalogues and models may write anything."""
    return escape(escape_control_chars(text[:_MAX_CELL_CHARS]))
