"""Publishes one run of the monitor pipeline: a snapshot a day in Evidently's UI, and a static page."""

from datetime import date
from html import escape
from pathlib import Path
from typing import Any, Final

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.core.report import Snapshot
from evidently.sdk.models import DashboardPanelPlot, PanelMetric
from evidently.sdk.panels import bar_plot_panel, line_plot_panel, text_panel

from contracts.artifacts import create_artifact, write_text
from monitoring.dashboard.dashboard_content import (
    DashboardContent,
    format_interval,
    gather_content,
    shorten_line,
)
from monitoring.dashboard.overview_widget import Overview
from monitoring.dashboard.static_page import render_page
from monitoring.evidently_figures import NamedFigure
from monitoring.evidently_workspace import add_snapshot, open_project, replace_panels

PAGE_FILE: Final = "dashboard.html"


def publish_dashboard(
    traffic: Path, drift: Path, lift: Path, decision: Path, *, workspace: Path, out: Path
) -> None:
    """Writes `dashboard.html` to `out`, and days and tabs to the Evidently `workspace`.

    A day that was published before is replaced. Other runs' days stay, so charts grow with time.

    Raises:
        UserError: a report is missing or unreadable.
    """
    content = gather_content(traffic, drift, lift, decision)
    inputs = {"traffic": traffic, "drift": drift, "lift": lift}
    with create_artifact(out, kind="dashboard", inputs=inputs) as artifact:
        write_text(artifact.path / PAGE_FILE, render_page(content))
        artifact.metrics["days"] = len(content.days)
    project = open_project(workspace, panels={})
    for day in content.days:
        name = f"day {day.isoformat()} ({content.label})"
        add_snapshot(workspace, project, build_day_snapshot(content, day), name=name)
    if content.days:
        name = f"overview of {content.days[-1].isoformat()} ({content.label})"
        add_snapshot(workspace, project, _build_overview(content), name=name)
    replace_panels(project, list_panels(content))


def build_day_snapshot(content: DashboardContent, day: date) -> Snapshot:
    """All figures of one day."""
    rows = [
        {"subject": _name_subject(tab, line), "value": values[day]}
        for tab, lines in content.series.items()
        for line, values in lines.items()
        if day in values
    ]
    metrics: list[Any] = [NamedFigure(subject=row["subject"], label=content.label, tests=[]) for row in rows]
    return _run_report(metrics, pd.DataFrame(rows), content, day)


def list_panels(content: DashboardContent) -> dict[str, list[DashboardPanelPlot]]:
    """Tab -> panels. A single day is drawn as bars: a line needs two."""
    draw = line_plot_panel if len(content.days) > 1 else bar_plot_panel
    lineage = " | ".join(f"{what} {digest}" for what, digest, _ in content.lineage)
    panels = {
        "Decision": [
            text_panel(title=f"Decision: {content.action}", description=" ".join(content.reasons)),
            text_panel(title="Made from", description=lineage),
        ]
    }
    texts = {
        "Lift": _describe_lifts(content),
        "Drift": " ".join(content.findings) or f"Nothing has drifted. {content.drift_text}",
        "Quality": content.drift_text,
        "Service": " ".join(content.service_notes),
    }
    for tab, text in texts.items():
        panels[tab] = [text_panel(title=f"{tab}: {content.label}", description=text)]
        for title, chart_lines in content.list_charts(tab).items():
            values = [
                PanelMetric(
                    metric="NamedFigure",
                    metric_labels={"subject": _name_subject(tab, line)},
                    legend=shorten_line(title, line),
                )
                for line in chart_lines
            ]
            panels[tab].append(
                draw(title=title, values=values, size="half" if len(chart_lines) == 1 else "full")
            )
    return panels


def _describe_lifts(content: DashboardContent) -> str:
    """The lifts in words; the UI's panels draw lines over time only."""
    texts = [f"{line.title}, {line.arm}: {format_interval(line.relative)}" for line in content.lifts]
    notes = "".join(f" {note}" for note in content.notes)
    return "; ".join(texts) + f".{notes} Forest plots are in the newest overview under Reports."


def _build_overview(content: DashboardContent) -> Snapshot:
    table = pd.DataFrame({"subject": ["overview"], "value": [float(len(content.days))]})
    lifts = [
        [
            escape(line.title),
            escape(line.arm),
            line.relative.value,
            line.relative.low,
            line.relative.high,
        ]
        for line in content.lifts
    ]
    overview = Overview(
        label=content.label,
        action=escape(content.action),
        sentences=[escape(sentence) for sentence in (*content.reasons, *content.findings, *content.notes)],
        lifts=lifts,
        lineage=[[escape(cell) for cell in row] for row in content.lineage],
        tests=[],
    )
    return _run_report([overview], table, content, content.days[-1])


def _run_report(metrics: list[Any], table: pd.DataFrame, content: DashboardContent, day: date) -> Snapshot:
    definition = DataDefinition(numerical_columns=["value"], categorical_columns=["subject"])
    dataset = Dataset.from_pandas(table, data_definition=definition)
    report = Report(metrics, metadata={"traffic": content.label})
    return report.run(dataset, None, timestamp=content.moments[day])


def _name_subject(tab: str, line: str) -> str:
    """Evidently writes it into a script element as it is."""
    return escape(f"{tab}: {line}")
