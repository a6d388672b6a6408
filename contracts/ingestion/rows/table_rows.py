"""All rows of a source: the kept ones in the contract's columns, the others in quarantine."""

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from contracts.errors import UserError
from contracts.ingestion.config import EventSourceConfig, SourceConfig
from contracts.ingestion.rows.column_evidence import Readings
from contracts.ingestion.rows.normalize_rows import FILE_COLUMN, normalize_rows, write_rows_as_json
from contracts.ingestion.rows.rejections import RejectionCount, build_quarantine, describe_broken_lines
from contracts.ingestion.sources.source_batches import OpenedSource
from contracts.table_schema import Table


class TableRows(NamedTuple):
    """A table while it is ingested."""

    rows: pl.DataFrame
    """Kept rows in the contract's columns, FILE_COLUMN, and what is needed to the end of ingestion."""
    quarantine: list[pl.DataFrame]
    rejections: RejectionCount
    ignored: dict[str, int]
    """Event types that the config leaves out -> rows."""

    @property
    def first_broken_row(self) -> str:
        """An example for a message; empty where no row is broken."""
        return str(self.quarantine[0]["row"][0]) if self.quarantine and len(self.quarantine[0]) else ""


def read_table_rows(
    opened: OpenedSource, source: SourceConfig, table: Table, readings: Readings
) -> TableRows:
    """Reads and normalizes all rows of a source; broken ones go to quarantine.

    Raises:
        UserError: an event type is neither ours, nor mapped, nor ignored.
    """
    count = RejectionCount(table.name)
    kept: list[pl.DataFrame] = []
    quarantine: list[pl.DataFrame] = []
    ignored: dict[str, int] = {}
    unknown: dict[str, int] = {}
    for raw_batch in opened.iterate_batches():
        batch = normalize_rows(raw_batch, source, table, readings)
        count.add_batch(batch)
        _add_counts(ignored, batch.ignored_types)
        _add_counts(unknown, batch.unknown_types)
        is_lost = batch.reasons.list.len() > 0
        kept.append(batch.rows.filter(~is_lost))
        if is_lost.any():
            lost_rows = write_rows_as_json(batch.raw_rows.filter(is_lost))
            files = batch.rows[FILE_COLUMN].filter(is_lost)
            quarantine.append(build_quarantine(lost_rows, batch.reasons.filter(is_lost), table.name, files))
    if unknown:
        _refuse_unknown_types(unknown, source)
    if opened.broken_lines:
        count.add_broken_lines(opened.broken_lines)
        quarantine.append(describe_broken_lines(opened.broken_lines, table.name))
    rows = pl.concat(kept, how="diagonal_relaxed") if kept else table.create_empty()
    return TableRows(rows, quarantine, count, ignored)


def _refuse_unknown_types(unknown: dict[str, int], source: SourceConfig) -> None:
    assert isinstance(source, EventSourceConfig)
    listed = ", ".join(
        f"{name} ({count:,} rows)" for name, count in sorted(unknown.items(), key=lambda x: -x[1])[:12]
    )
    first = next(iter(unknown))
    raise UserError(
        f"data.events.event_types maps {sorted(source.event_types) or 'nothing'}; the log also holds "
        f"{listed}. "
        "Map each to impression, click, cart, order or return, or to ignore, as in "
        f"`event_types: {{{first}: click}}`"
    )


def _add_counts(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        counts[name] = counts.get(name, 0) + count
