"""The dashboard as one HTML file: no script, no network, for a mail or a folder."""

from collections.abc import Sequence
from html import escape
from typing import Final

from monitoring.dashboard.dashboard_content import DashboardContent, LiftLine, shorten_line
from monitoring.dashboard.svg_charts import draw_forest, draw_lines

_STYLE: Final = """
body { font-family: sans-serif; max-width: 1400px; margin: 2em auto; padding: 0 1em; color: #222; }
section { border-top: 1px solid #ccc; margin-top: 2em; }
.charts { display: flex; flex-wrap: wrap; gap: 1.5em; }
figure { margin: 0; } figcaption { font-weight: bold; margin-bottom: .4em; }
svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .2em .8em .2em 0; }
.action { font-size: 1.6em; font-weight: bold; }
"""


def render_page(content: DashboardContent) -> str:
    """The page. What data or people wrote is escaped."""
    sections = [
        ("Decision", _render_decision(content)),
        ("Lift", _render_lift(content)),
        ("Drift", _render_drift(content)),
        ("Quality", _render_charts(content, "Quality")),
        ("Service", _render_list(content.service_notes) + _render_charts(content, "Service")),
        ("Lineage", _render_lineage(content)),
    ]
    links = " ".join(f'<a href="#{name.lower()}">{name}</a>' for name, _ in sections)
    body = "".join(
        f'<section id="{name.lower()}"><h2>{name}</h2>{section}</section>' for name, section in sections
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>ReaSeq: {escape(content.label)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>ReaSeq: {escape(content.label)}</h1><p>{links}</p>{body}</body></html>\n"
    )


def _render_decision(content: DashboardContent) -> str:
    return f'<p class="action">{escape(content.action)}</p>{_render_list(content.reasons)}'


def _render_lift(content: DashboardContent) -> str:
    charts = [
        _render_figure(f"{title}: lift over control", _draw_forest(content.lifts, title))
        for title in dict.fromkeys(line.title for line in content.lifts)
    ]
    charts += [
        _render_figure(f"{title} by slice (decides nothing)", _draw_forest(content.slices, title))
        for title in dict.fromkeys(line.title for line in content.slices)
    ]
    by_day = content.series["Lift"]
    if by_day:
        charts.append(_render_figure("Lift by day", draw_lines(by_day, title="Lift by day", mark=0.0)))
    if not charts:
        return "<p>No lift was measured.</p>"
    notes = _render_list(content.notes) if content.notes else ""
    return f'{notes}<div class="charts">{"".join(charts)}</div>'


def _draw_forest(lines: Sequence[LiftLine], title: str) -> str:
    rows = [(f"{line.arm} ({line.users:,} users)", line.relative) for line in lines if line.title == title]
    return draw_forest(rows, title=title)


def _render_drift(content: DashboardContent) -> str:
    findings = _render_list(content.findings) if content.findings else "<p>Nothing has drifted.</p>"
    lines = content.series["Drift"]
    title = "Distance from the reference by day (1: luck stays below)"
    chart = _render_figure(title, draw_lines(lines, title=title, mark=1.0)) if lines else ""
    return f"<p>{escape(content.drift_text)}</p>{findings}{chart}"


def _render_charts(content: DashboardContent, tab: str) -> str:
    figures = [
        _render_figure(
            title,
            draw_lines({shorten_line(title, line): content.series[tab][line] for line in lines}, title=title),
        )
        for title, lines in content.list_charts(tab).items()
    ]
    return f'<div class="charts">{"".join(figures)}</div>' if figures else "<p>Nothing is known yet.</p>"


def _render_lineage(content: DashboardContent) -> str:
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in content.lineage
    )
    return f"<table><tr><th>what</th><th>digest</th><th>names and versions</th></tr>{rows}</table>"


def _render_figure(title: str, chart: str) -> str:
    return f"<figure><figcaption>{escape(title)}</figcaption>{chart}</figure>"


def _render_list(sentences: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"
