"""Measured rows for people: the headline table of README.md, and the charts and tables of docs/results.md.

`benchmarks/published.yaml` says which rows are shown, in which words. `scripts/generate_docs.py` writes
the files.
"""

import io
from collections.abc import Iterator, Sequence

from pydantic import BaseModel, Field

from benchmarks.shared.results import PUBLISHED, Row
from contracts.config_text import parse_yaml

_DIRTY_MARK = "+changes"
"""Ends the commit of rows that were measured before rows from uncommitted code were refused."""
_MAX_DATA_IN_A_LINE = 3
_BAR_COLOR, _LAST_BAR_COLOR = "#9db4c9", "#1f5f99"


class HeadlineFigure(BaseModel):
    """One line of the README's table."""

    id: str
    text: str
    show: str
    """How the value reads, as a format of `value`."""


class Chart(BaseModel):
    """A bar chart; the last bar is the one that the chart is about."""

    name: str
    title: str
    unit: str
    bars: dict[str, str]
    """Label -> row id, from top to bottom."""


class Section(BaseModel):
    """One question, its answer in words, its charts and its table."""

    title: str
    text: str
    charts: list[Chart] = []
    table: dict[str, str]
    """Label -> row id."""

    def list_row_ids(self) -> set[str]:
        """The rows of its charts and of its table."""
        return {*self.table.values(), *(row_id for chart in self.charts for row_id in chart.bars.values())}


class Publication(BaseModel):
    """All that is published."""

    headline: list[HeadlineFigure] = Field(max_length=8)
    sections: list[Section]


def read_publication() -> Publication:
    """Reads `benchmarks/published.yaml`."""
    # A label that stands twice is refused: the second row would stand under the first one's name.
    text = PUBLISHED.read_text(encoding="utf-8")
    return Publication.model_validate(parse_yaml(text, origin=str(PUBLISHED)).value)


def render_headline(publication: Publication, rows: dict[str, Row]) -> str:
    """The README's table of headline figures."""
    table_lines = ["| what was measured | figure | commit |", "|---|---|---|"]
    table_lines += [
        f"| {figure.text} | {figure.show.format(value=rows[figure.id].value)} | {rows[figure.id].commit} |"
        for figure in publication.headline
        if figure.id in rows
    ]
    return "\n".join(table_lines) + "\n"


def render_results(publication: Publication, rows: dict[str, Row]) -> str:
    """The page of results: a section per question."""
    page_lines = ["# Results\n"]
    for section in publication.sections:
        # What was not measured yet has no place on the page.
        if not section.list_row_ids() & rows.keys():
            continue
        page_lines += [f"## {section.title}\n", section.text]
        for chart in section.charts:
            if any(row_id in rows for row_id in chart.bars.values()):
                page_lines.append(f"![{chart.title}](pictures/{chart.name}.svg)\n")
        page_lines += _render_table(section, rows)
    return "\n".join(page_lines)


def _render_table(section: Section, rows: dict[str, Row]) -> Iterator[str]:
    listed_rows = {label: rows[row_id] for label, row_id in section.table.items() if row_id in rows}
    if listed_rows:
        yield "| figure | value | seeds | command | commit | date |"
        yield "|---|---|---|---|---|---|"
    for label, row in listed_rows.items():
        row_cells = [label, _format_value(row), len(row.seeds) or "", f"`{row.command}`"]
        row_cells += [row.commit, row.date]
        yield f"| {' | '.join(map(str, row_cells))} |"
    labeled_rows = [
        *listed_rows.items(),
        *(
            (f"{chart.title}, {label}", rows[row_id])
            for chart in section.charts
            for label, row_id in chart.bars.items()
            if row_id in rows
        ),
    ]
    yield from _describe_data(labeled_rows)
    used_rows = [row for _, row in labeled_rows]
    yield f"Hardware: {'; '.join(sorted({row.hardware for row in used_rows}))}.\n"
    if any(row.commit.endswith(_DIRTY_MARK) for row in used_rows):
        yield f"Commits that end in `{_DIRTY_MARK}` precede the rule that only committed code is measured.\n"


def _describe_data(labeled_rows: Sequence[tuple[str, Row]]) -> Iterator[str]:
    """What was measured on; where that differs from row to row, a line for each."""
    labels: dict[str, list[str]] = {}
    for label, row in labeled_rows:
        labels.setdefault(row.data, []).append(label)
    if len(labels) <= _MAX_DATA_IN_A_LINE:
        yield f"\nData: {'; '.join(sorted(labels))}.\n"
        return
    yield "\nData:\n"
    for data, own_labels in labels.items():
        yield f"- {'; '.join(own_labels)}: {data}"
    yield ""


def draw_chart(chart: Chart, rows: dict[str, Row]) -> str:
    """A chart as SVG text: the same rows give the same bytes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows_by_label = {label: rows[row_id] for label, row_id in chart.bars.items() if row_id in rows}
    with mpl.rc_context({"svg.hashsalt": chart.name, "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(7, 0.6 + 0.34 * len(rows_by_label)), layout="constrained")
        axes = figure.add_subplot()
        bar_values = [row.value for row in rows_by_label.values()]
        bar_spreads = [row.sd or 0 for row in rows_by_label.values()]
        bar_colors = [_BAR_COLOR] * (len(rows_by_label) - 1) + [_LAST_BAR_COLOR]
        drawn_bars = axes.barh(
            list(rows_by_label), bar_values, xerr=bar_spreads, color=bar_colors, error_kw={"lw": 1}
        )
        axes.bar_label(drawn_bars, labels=[f"{value:.3g}" for value in bar_values], padding=4)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.set_xlabel(chart.unit)
        axes.set_title(chart.title, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        svg_stream = io.StringIO()
        figure.savefig(svg_stream, format="svg", metadata={"Date": None})
    return "\n".join(line.rstrip() for line in svg_stream.getvalue().splitlines()) + "\n"


def _format_value(row: Row) -> str:
    spread_text = f" ± {row.sd:.2g}" if row.sd is not None else ""
    return f"{row.value:,.4g}{spread_text}" if abs(row.value) < 10_000 else f"{row.value:,.0f}{spread_text}"
