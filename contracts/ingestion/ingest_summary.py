"""What became of a user's rows, as the dataset keeps it and as a person reads it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from contracts.config import Config

SUMMARY_FILE: Final = "summary.json"


class TableSummary(Config):
    """What became of the rows of one table."""

    files: int
    rows: int
    """Rows that were read, those of ignored types aside."""
    kept: int
    rejected: Mapping[str, int] = {}
    """Reason -> rows in quarantine; a row may have several."""
    rejected_rows: int = 0
    rejected_by_type: Mapping[str, int] = {}
    """Event type -> rows in quarantine."""
    left_empty: Mapping[str, str] = {}
    """Optional column -> cells that could not be read and were left empty, with an example."""
    cells_left_empty: int = 0
    """Of all columns."""
    merged: Mapping[str, int] = {}
    """What was the same row again -> rows."""
    left_out: Mapping[str, int] = {}
    """What the config or a rule leaves out -> rows."""
    kept_by_type: Mapping[str, int] = {}
    """Event type -> events."""


class IngestSummary(Config):
    """What became of a user's data."""

    items: TableSummary
    events: TableSummary
    notes: tuple[str, ...] = ()
    """What a user may want to know."""
    first_event: str = ""
    last_event: str = ""


def read_summary(dataset: Path) -> IngestSummary | None:
    """Reads the summary of a dataset; None where it has none."""
    path = dataset / SUMMARY_FILE
    return IngestSummary.model_validate_json(path.read_text(encoding="utf-8")) if path.is_file() else None


def describe_summary(summary: IngestSummary, quarantine: str) -> list[str]:
    """Lines for a person: what was kept, what was left out and why, and where it lies.

    Args:
        summary: of the dataset.
        quarantine: where the rejected rows lie.
    """
    lines = []
    for name, table in (("items", summary.items), ("events", summary.events)):
        by_type = ", ".join(f"{count:,} {event_type}" for event_type, count in table.kept_by_type.items())
        lines.append(
            f"{name}: {table.kept:,} kept of {table.rows:,} rows in {table.files:,} file(s)"
            + (f" ({by_type})" if by_type else "")
        )
        for reason, count in table.rejected.items():
            lines.append(f"  {count:,} rejected: {reason}")
        if table.rejected_by_type:
            listed = ", ".join(
                f"{count:,} {event_type}" for event_type, count in table.rejected_by_type.items()
            )
            lines.append(f"  rejected by type: {listed}")
        lines += [f"  {text} ({column})" for column, text in table.left_empty.items()]
        lines += [f"  {count:,} merged: {what}" for what, count in table.merged.items()]
        lines += [f"  {count:,} left out: {what}" for what, count in table.left_out.items()]
    if summary.first_event:
        lines.append(f"events from {summary.first_event} to {summary.last_event} (UTC)")
    lines += [f"note: {note}" for note in summary.notes]
    if summary.items.rejected_rows or summary.events.rejected_rows:
        lines.append(f"rejected rows with their reasons: {quarantine}")
    return lines
