"""Reads the rows of a source: sound ones in the contract's columns, the others into quarantine."""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import polars as pl

from contracts.errors import UnknownTypesError
from contracts.ingestion.config import EventSourceConfig, ItemSourceConfig, SourceConfig
from contracts.ingestion.rows.column_evidence import Readings
from contracts.ingestion.rows.normalize_rows import FILE_COLUMN, normalize_rows, write_rows_as_json
from contracts.ingestion.rows.product_variants import ProductVariants
from contracts.ingestion.rows.quarantine import Quarantine
from contracts.ingestion.rows.rejections import RejectionCount
from contracts.ingestion.sources.source_batches import OpenedSource
from contracts.table_schema import Table


class ReadRows(NamedTuple):
    """What became of the rows of a source while they were read."""

    rejections: RejectionCount
    ignored: dict[str, int]
    """Event types that the config leaves out -> rows."""
    num_without_id: int = 0
    """Rows of products that name no item, where the config names the column of products."""


def read_table_rows(
    opened: OpenedSource,
    source: SourceConfig,
    table: Table,
    readings: Readings,
    *,
    keep_rows: Callable[[pl.DataFrame], None],
    quarantine: Quarantine,
) -> ReadRows:
    """Reads and normalizes all rows of a source, batch by batch.

    Args:
        opened: the source.
        source: its config.
        table: the contract.
        readings: how its columns are to be read.
        keep_rows: takes the sound rows of a batch: the contract's columns, FILE_COLUMN, and what is needed to
            the end of ingestion.
        quarantine: takes the broken ones.

    Raises:
        UnknownTypesError: an event type is neither ours, nor mapped, nor ignored.
    """
    count = RejectionCount(table.name)
    ignored: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    variants = None
    if isinstance(source, ItemSourceConfig) and source.product_column:
        variants = ProductVariants(source)
    for raw_batch in opened.iterate_batches():
        if variants:
            raw_batch = variants.fill_rows(raw_batch)
        batch = normalize_rows(raw_batch, source, table, readings)
        count.add_batch(batch)
        ignored.update(batch.ignored_types)
        unknown.update(batch.unknown_types)
        is_lost = batch.reasons.list.len() > 0
        keep_rows(batch.rows.filter(~is_lost))
        if is_lost.any():
            lost_rows = write_rows_as_json(batch.raw_rows.filter(is_lost))
            files = batch.rows[FILE_COLUMN].filter(is_lost)
            quarantine.add_rows(lost_rows, batch.reasons.filter(is_lost), files)
    if unknown:
        _refuse_unknown_types(unknown, source)
    count.add_broken_lines(opened.broken_lines)
    quarantine.add_broken_lines(opened.broken_lines)
    return ReadRows(count, dict(ignored), variants.num_without_id if variants else 0)


def _refuse_unknown_types(unknown: dict[str, int], source: SourceConfig) -> None:
    assert isinstance(source, EventSourceConfig)
    listed = ", ".join(
        f"{name} ({count:,} rows)" for name, count in sorted(unknown.items(), key=lambda x: -x[1])[:12]
    )
    first = next(iter(unknown))
    raise UnknownTypesError(
        f"data.events.event_types maps {sorted(source.event_types) or 'nothing'}; the log also holds "
        f"{listed}. "
        "Map each to impression, click, cart, order or return, or to ignore, as in "
        f"`event_types: {{{first}: click}}`",
        names=sorted(unknown),
    )
