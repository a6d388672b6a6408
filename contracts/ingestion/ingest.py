"""The ingest step: the user's files become the dataset artifact."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import polars as pl

from contracts.artifacts import Artifact, create_artifact, write_json, write_table
from contracts.errors import UserError
from contracts.ingestion.config import DataConfig
from contracts.ingestion.divide_log import divide_log
from contracts.ingestion.ingest_summary import SUMMARY_FILE, IngestSummary, TableSummary, describe_summary
from contracts.ingestion.rows.catalogue_doubts import describe_catalogue
from contracts.ingestion.rows.column_evidence import (
    Readings,
    SourceEvidence,
    collect_evidence,
    decide_readings,
    describe_differing_files,
    describe_numbers,
    share_item_ids,
)
from contracts.ingestion.rows.plausible_rows import describe_users, reject_implausible
from contracts.ingestion.rows.quarantine import Quarantine, write_quarantine
from contracts.ingestion.rows.requests import explain_next_item
from contracts.ingestion.rows.served_rows import leave_out_served
from contracts.ingestion.rows.settle_history import SettledHistory, settle_history
from contracts.ingestion.rows.sorted_events import (
    count_events,
    find_times,
    forget_requests,
    write_sorted_events,
)
from contracts.ingestion.rows.table_rows import ReadRows, read_table_rows
from contracts.ingestion.rows.time_doubts import describe_shifted_files, describe_times
from contracts.ingestion.rows.user_partitions import UserPartitions
from contracts.ingestion.sources.list_files import digest_data
from contracts.ingestion.sources.source_batches import OpenedSource
from contracts.progress import report_summary
from contracts.served_log import read_served_events
from contracts.table_schema import ONE_TICK
from contracts.tables import EVENTS, ITEMS

_MIN_ITEMS: Final = 2
"""There is nothing to rank below."""


class _OpenedTables(NamedTuple):
    """Catalogue and log of a user, and how their columns are to be read."""

    items: OpenedSource
    log: OpenedSource
    item_readings: Readings
    log_readings: Readings
    log_evidence: SourceEvidence


class _ReadLog(NamedTuple):
    """The user's log and the served one, settled."""

    partitions: UserPartitions
    served_events: pl.DataFrame
    history: SettledHistory
    summary: TableSummary
    notes: list[str]


def ingest_dataset(
    config: DataConfig,
    *,
    out: Path,
    served_log: Path | None = None,
    served_digest: str = "",
    max_log_rows: int | None = None,
    is_told: bool = True,
) -> None:
    """Reads, validates and divides the user's data; writes a dataset artifact.

    Rows that break a contract go to `quarantine.parquet` with their reasons; rows at or after the cut-off
    are left out and counted (`rows_after_cutoff`). `summary.json` says what became of all rows. Memory does
    not grow with the log: rows wait on disk, and are settled some users at a time. Guests and bots who hold
    much of it are set aside before. It does grow with the largest user who passes for a shopper.

    Args:
        config: the user's data.
        out: the artifact to write.
        served_log: what was served, to be read beside the history.
        served_digest: the state of it that is meant; empty where nothing was served.
        max_log_rows: read about so many rows of the log at most, to see what becomes of them.
        is_told: whether the summary is printed.

    Raises:
        UserError: a file or column is missing, cells allow two readings, nothing is left, or too much of a
            table or of one class of its rows is lost.
    """
    with tempfile.TemporaryDirectory(prefix="reaseq-ingest-") as folder:
        scratch = Path(folder)
        tables = _open_tables(config, scratch, max_log_rows)
        lost_items = Quarantine(scratch / "lost_items", ITEMS.name)
        lost_events = Quarantine(scratch / "lost_events", EVENTS.name)
        catalogue, item_summary, item_notes = _read_catalogue(tables, config, lost_items)
        served_events, served_notes = EVENTS.create_empty(), list[str]()
        if served_log is not None and served_digest:
            served_events = read_served_events(served_log, digest=served_digest, before=config.cutoff)
            served_events, served_notes = leave_out_served(
                served_events, catalogue, config, served_log, lost_events
            )
        log = _read_log(tables, served_events, catalogue, config, lost_events, scratch)
        with create_artifact(out, kind="dataset", inputs={}, config=config) as artifact:
            write_table(artifact.path / "items.parquet", ITEMS, catalogue)
            write_quarantine(artifact.path / "quarantine.parquet", lost_items, lost_events)
            summary = IngestSummary(
                items=item_summary,
                events=log.summary,
                notes=(*tables.items.notes, *item_notes, *log.notes, *served_notes),
            )
            summary = _write_events(artifact, log, config, summary, scratch)
            write_json(artifact.path / SUMMARY_FILE, summary.model_dump(mode="json"))
            artifact.labels["data_digest"] = digest_data(config)
            if "served_days" in artifact.labels:
                artifact.labels["served_digest"] = served_digest
            artifact.metrics |= {
                "items": len(catalogue),
                "rows_quarantined": lost_items.num_rows + lost_events.num_rows,
                "cells_left_empty": item_summary.cells_left_empty + log.summary.cells_left_empty,
            }
    if is_told:
        report_summary(describe_summary(summary, str(out / "quarantine.parquet")))


def _open_tables(config: DataConfig, scratch: Path, max_log_rows: int | None) -> _OpenedTables:
    items = OpenedSource(config.items, scratch)
    log = OpenedSource(config.events, scratch, max_rows=max_log_rows)
    item_evidence = collect_evidence(items, config.items, ITEMS)
    log_evidence = collect_evidence(log, config.events, EVENTS)
    item_readings, log_readings = share_item_ids(
        decide_readings(item_evidence, config.items), decide_readings(log_evidence, config.events)
    )
    return _OpenedTables(items, log, item_readings, log_readings, log_evidence)


def _read_catalogue(
    tables: _OpenedTables, config: DataConfig, quarantine: Quarantine
) -> tuple[pl.DataFrame, TableSummary, list[str]]:
    """The catalogue with each item once, its first row; what became of its rows; what is odd about them."""
    frames = [ITEMS.create_empty()]
    read = read_table_rows(
        tables.items,
        config.items,
        ITEMS,
        tables.item_readings,
        keep_rows=lambda rows: frames.append(rows.select(ITEMS.schema.names())),
        quarantine=quarantine,
    )
    rows = pl.concat(frames, how="vertical_relaxed")
    catalogue = rows.unique("item_id", keep="first", maintain_order=True)
    read.rejections.judge(config, quarantine.first_row)
    if len(catalogue) < _MIN_ITEMS:
        raise UserError(
            f"the catalogue holds {len(catalogue)} usable item(s); ranking needs at least {_MIN_ITEMS}"
        )
    num_merged = len(rows) - len(catalogue)
    merged = {"item again, its first row counts": num_merged} if num_merged else {}
    left_out = {"rows of a product without an item": read.num_without_id} if read.num_without_id else {}
    summary = _summarize(read, tables.items, len(catalogue), merged=merged, left_out=left_out)
    return catalogue, summary, describe_catalogue(rows)


def _read_log(
    tables: _OpenedTables,
    served_events: pl.DataFrame,
    catalogue: pl.DataFrame,
    config: DataConfig,
    quarantine: Quarantine,
    scratch: Path,
) -> _ReadLog:
    partitions = UserPartitions(scratch / "log", num_rows=tables.log_evidence.num_rows)
    read = read_table_rows(
        tables.log,
        config.events,
        EVENTS,
        tables.log_readings,
        keep_rows=partitions.add_rows,
        quarantine=quarantine,
    )
    partitions.write_buffer()
    statistics = reject_implausible(partitions, catalogue, config, read.rejections, quarantine, scratch)
    shifted_notes = describe_shifted_files(
        partitions, len(tables.log.files.paths), statistics.num_rows, scratch
    )
    history = settle_history(
        partitions, served_events, catalogue, config, quarantine, scratch, statistics=statistics
    )
    ignored = {f"type '{name}', ignored by the config": count for name, count in read.ignored.items()}
    summary = _summarize(
        read,
        tables.log,
        sum(history.kept_by_type.values()),
        merged=history.merged,
        left_out={**ignored, **history.left_out},
    )
    summary = summary.model_copy(
        update={
            "rejected_by_type": read.rejections.list_lost_by_type(),
            "kept_by_type": history.kept_by_type,
        }
    )
    notes = [
        *tables.log.notes,
        *describe_differing_files(tables.log_evidence, config.events, EVENTS),
        *describe_numbers(tables.log_evidence, tables.log_readings, config.events),
        *describe_times(tables.log_evidence, config.events, history.last_time),
        *shifted_notes,
        *describe_users(statistics, config),
        *([read.rejections.explanation] if read.rejections.explanation else []),
        *history.notes,
    ]
    return _ReadLog(partitions, served_events, history, summary, notes)


def _write_events(
    artifact: Artifact, log: _ReadLog, config: DataConfig, summary: IngestSummary, scratch: Path
) -> IngestSummary:
    """Writes the events before the cut-off and how they are divided; returns the summary with what is known
    now.

    Raises:
        UserError: no event is left, or they cannot be divided.
    """
    last_time = log.history.last_time
    if last_time is None:
        raise UserError(_explain_empty_log(summary.events))
    cutoff = config.cutoff or last_time + ONE_TICK
    path = artifact.path / "events.parquet"
    num_events = log.partitions.count_rows()
    write_sorted_events(log.partitions.files, path, before=cutoff, scratch=scratch)
    counts = count_events(path)
    if not counts["events"]:
        raise UserError(
            f"no event before the cut-off {cutoff.isoformat()}; move data.cutoff or give an older log"
        )
    is_chosen = (pl.col("event_type") != "impression") & (pl.col("timestamp") < cutoff)
    split = divide_log(path, counts, config.split, cutoff)
    notes = list(summary.notes)
    if reason := explain_next_item(path, split, config.requests, scratch):
        forget_requests(path, scratch)
        notes.append(f"rankers learn from next-item lists, since {reason}")
    write_json(artifact.path / "split.json", split.model_dump(mode="json"))
    _describe_served_days(artifact, log.served_events.filter(pl.col("timestamp") < cutoff))
    artifact.metrics |= {
        **log.history.counts,
        **counts,
        "users": log.partitions.count_users(is_chosen),
        "rows_after_cutoff": num_events - counts["events"],
    }
    first_time, last_time = find_times(path, [0, counts["events"] - 1])
    return summary.model_copy(
        update={
            "notes": tuple(notes),
            "first_event": str(first_time)[:16],
            "last_event": str(last_time)[:16],
        }
    )


def _explain_empty_log(events: TableSummary) -> str:
    """Says what became of the rows of a log of which none is left."""
    lost = [*events.left_out.items(), *events.rejected.items()]
    listed = "; ".join(f"{count:,} x {what}" for what, count in sorted(lost, key=lambda row: -row[1])[:5])
    return (
        f"the log holds no usable event: {listed or 'it has no row'}. Say of each ignored type what it "
        "stands for, as in `event_types: {view: click}`; or, if it holds other things, leave it out with "
        "`columns: {event_type: null}` and give all rows one `event_type`"
    )


def _describe_served_days(artifact: Artifact, served_events: pl.DataFrame) -> None:
    """Says which served days whoever learns from this dataset learns from."""
    if served_events.is_empty():
        return
    days = served_events["timestamp"].dt.date().unique().sort()
    artifact.labels |= {
        "served_first_day": str(days[0]),
        "served_last_day": str(days[-1]),
        "served_days": str(len(days)),
    }
    artifact.metrics["served_events"] = len(served_events)


def _summarize(
    read: ReadRows,
    opened: OpenedSource,
    num_kept: int,
    *,
    merged: Mapping[str, int],
    left_out: Mapping[str, int] = {},
) -> TableSummary:
    files = opened.files
    file_notes = {
        "files that copy another one": len(files.repeated),
        "files without a byte": len(files.empty),
    }
    return TableSummary(
        files=len(files.paths),
        rows=read.rejections.num_rows,
        kept=num_kept,
        rejected=read.rejections.reason_counts,
        rejected_rows=read.rejections.num_rejected,
        left_empty={
            name: f"{cells.num_cells:,} of {cells.num_filled:,} cells left empty, such as '{cells.example}'"
            for name, cells in read.rejections.unreadable.items()
            if cells.num_cells
        },
        cells_left_empty=sum(cells.num_cells for cells in read.rejections.unreadable.values()),
        merged=merged,
        left_out={**left_out, **{name: count for name, count in file_notes.items() if count}},
    )
