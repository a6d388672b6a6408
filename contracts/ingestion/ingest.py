"""The ingest step: the user's files become the dataset artifact."""

import tempfile
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import polars as pl

from contracts.artifacts import Artifact, create_artifact, write_json, write_table
from contracts.dataset import EVENT_SORT_COLUMNS, Split, select_events_before
from contracts.errors import UserError
from contracts.ingestion.config import DataConfig, EventSourceConfig, SplitConfig
from contracts.ingestion.ingest_summary import SUMMARY_FILE, IngestSummary, TableSummary, describe_summary
from contracts.ingestion.rows.column_evidence import (
    SourceEvidence,
    collect_evidence,
    decide_readings,
    share_item_ids,
)
from contracts.ingestion.rows.normalize_rows import FILE_COLUMN
from contracts.ingestion.rows.rejections import QUARANTINE_SCHEMA
from contracts.ingestion.rows.requests import explain_next_item, forget_requests
from contracts.ingestion.rows.settle_history import quarantine_events, settle_history
from contracts.ingestion.rows.table_rows import TableRows, read_table_rows
from contracts.ingestion.sources.list_files import digest_data
from contracts.ingestion.sources.source_batches import OpenedSource
from contracts.progress import report_summary
from contracts.served_log import read_served_events
from contracts.tables import EVENTS, ITEMS

_MIN_ITEMS: Final = 2
"""There is nothing to rank below."""
_TICK: Final = timedelta(microseconds=1)


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
    are left out and counted (`rows_after_cutoff`). `summary.json` says what became of all rows.

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
    with tempfile.TemporaryDirectory(prefix="reaseq-ingest-") as scratch:
        opened_items = OpenedSource(config.items, Path(scratch))
        opened_log = OpenedSource(config.events, Path(scratch), max_rows=max_log_rows)
        item_evidence = collect_evidence(opened_items, config.items, ITEMS)
        log_evidence = collect_evidence(opened_log, config.events, EVENTS)
        item_readings, log_readings = share_item_ids(
            decide_readings(item_evidence, config.items), decide_readings(log_evidence, config.events)
        )
        items = read_table_rows(opened_items, config.items, ITEMS, item_readings)
        log = read_table_rows(opened_log, config.events, EVENTS, log_readings)
    catalogue, item_merges = _merge_items(items)
    items.rejections.judge(config, items.first_broken_row)
    if len(catalogue) < _MIN_ITEMS:
        raise UserError(
            f"the catalogue holds {len(catalogue)} usable item(s); ranking needs at least {_MIN_ITEMS}"
        )
    notes = [*opened_items.notes, *opened_log.notes, *_note_times(log_evidence, config.events)]
    history = settle_history(log, catalogue, config, notes)
    served_events = EVENTS.create_empty()
    if served_log is not None and served_digest:
        served_events = read_served_events(served_log, digest=served_digest, before=config.cutoff)
        served_events = _leave_out_unlisted(served_events, catalogue, served_log, history.quarantine, notes)
    all_events = _add_served_events(history.events, served_events)
    cutoff = config.cutoff or _find_cutoff(all_events, served_events)
    events = select_events_before(all_events, cutoff).sort(EVENT_SORT_COLUMNS)
    if events.is_empty():
        raise UserError(
            f"no event before the cut-off {cutoff.isoformat()}; move data.cutoff or give an older log"
        )
    split = divide_log(events, config.split, cutoff)
    if reason := explain_next_item(events, split, config.requests):
        events = forget_requests(events)
        notes.append(f"rankers learn from next-item lists, since {reason}")
    summary = IngestSummary(
        items=_summarize(items, opened_items, len(catalogue), merged=item_merges),
        events=_summarize(
            log,
            opened_log,
            len(history.events),
            merged=history.merged,
            left_out=history.left_out,
            kept_by_type=dict(history.events["event_type"].value_counts(sort=True).iter_rows()),
        ),
        notes=tuple(notes),
        first_event=str(events["timestamp"].min())[:16],
        last_event=str(events["timestamp"].max())[:16],
    )
    with create_artifact(out, kind="dataset", inputs={}, config=config) as artifact:
        write_table(artifact.path / "items.parquet", ITEMS, catalogue)
        write_table(artifact.path / "events.parquet", EVENTS, events)
        quarantine = pl.concat(
            [pl.DataFrame(schema=QUARANTINE_SCHEMA), *items.quarantine, *log.quarantine, *history.quarantine]
        )
        quarantine.write_parquet(artifact.path / "quarantine.parquet")
        write_json(artifact.path / "split.json", split.model_dump(mode="json"))
        write_json(artifact.path / SUMMARY_FILE, summary.model_dump(mode="json"))
        artifact.labels["data_digest"] = digest_data(config)
        artifact.metrics |= _count_rows(catalogue, events, quarantine) | history.counts
        artifact.metrics["rows_after_cutoff"] = len(all_events) - len(events)
        artifact.metrics["cells_left_empty"] = sum(
            cells.num_cells for table in (items, log) for cells in table.rejections.unreadable.values()
        )
        _describe_served_days(artifact, served_events.join(events, on=EVENTS.key, how="semi"), served_digest)
    if is_told:
        report_summary(describe_summary(summary, str(out / "quarantine.parquet")))


def divide_log(events: pl.DataFrame, config: SplitConfig, cutoff: datetime) -> Split:
    """Finds the moments that divide the log (behaviors decide, not impressions).

    Raises:
        UserError: the behaviors are too few or too close in time to be divided.
    """
    behavior_times = events.filter(pl.col("event_type") != "impression")["timestamp"].sort()
    if config.kind == "leave_last_out":
        last_time = _find_last_time(events)
        return Split(train_end=last_time - timedelta(days=1), validation_end=last_time, cutoff=cutoff)
    num_behaviors = len(behavior_times)
    if num_behaviors < 3:
        raise UserError(
            f"{num_behaviors} behavior(s) (click, cart or order) in the log; at least 3 are needed "
            "to divide it"
        )
    train_end = behavior_times[int(num_behaviors * config.train)]
    validation_row = int(num_behaviors * (config.train + config.validation))
    validation_end = behavior_times[min(validation_row, num_behaviors - 1)]
    if not behavior_times[0] < train_end < validation_end < cutoff:
        raise UserError(
            f"the log cannot be divided in time at {train_end} and {validation_end}: too many events share "
            "one moment; for logs with an order but no time use data.events.order_column and "
            "data.split.kind: leave_last_out"
        )
    return Split(train_end=train_end, validation_end=validation_end, cutoff=cutoff)


def _add_served_events(history: pl.DataFrame, served_events: pl.DataFrame) -> pl.DataFrame:
    """The history and what was served. An event that both hold is taken from the served log, which knows its
    request."""
    if served_events.is_empty():
        return history
    all_events = pl.concat([served_events, history])
    return all_events.unique(EVENTS.key, keep="first", maintain_order=True)


def _leave_out_unlisted(
    served_events: pl.DataFrame,
    catalogue: pl.DataFrame,
    served_log: Path,
    quarantine: list[pl.DataFrame],
    notes: list[str],
) -> pl.DataFrame:
    """Served events without those of items that are gone, which go to quarantine and are told."""
    is_listed = served_events["item_id"].is_in(catalogue["item_id"].implode())
    if not is_listed.all():
        gone = served_events.filter(~is_listed).with_columns(pl.lit(str(served_log)).alias(FILE_COLUMN))
        quarantine.append(quarantine_events(gone, "item_id: not in the catalogue"))
        notes.append(f"{len(gone):,} served events are of items that the catalogue no longer holds")
    return served_events.filter(is_listed)


def _find_cutoff(events: pl.DataFrame, served_events: pl.DataFrame) -> datetime:
    """Just after the last event, served pages aside: what was shown last nobody could react to yet.

    So a single page that was asked for by hand, long after a log's own time, does not move the cut-off there.
    """
    served_pages = served_events.filter(pl.col("event_type") == "impression")
    return _find_last_time(events.join(served_pages, on=EVENTS.key, how="anti")) + _TICK


def _describe_served_days(artifact: Artifact, served_events: pl.DataFrame, served_digest: str) -> None:
    """Says which served days whoever learns from this dataset learns from."""
    if served_events.is_empty():
        return
    days = served_events["timestamp"].dt.date().unique().sort()
    artifact.labels |= {
        "served_first_day": str(days[0]),
        "served_last_day": str(days[-1]),
        "served_days": str(len(days)),
        "served_digest": served_digest,
    }
    artifact.metrics["served_events"] = len(served_events)


def _find_last_time(events: pl.DataFrame) -> datetime:
    last_time = events["timestamp"].max()
    if not isinstance(last_time, datetime):
        raise UserError("the log holds no usable event; see the messages on data.events")
    return last_time


def _merge_items(items: TableRows) -> tuple[pl.DataFrame, dict[str, int]]:
    """The catalogue with each item once, its first row."""
    rows = items.rows.select(ITEMS.schema.names())
    catalogue = rows.unique("item_id", keep="first", maintain_order=True)
    num_merged = len(rows) - len(catalogue)
    return catalogue, {"item again, its first row counts": num_merged} if num_merged else {}


def _note_times(evidence: SourceEvidence, source: EventSourceConfig) -> list[str]:
    naive = evidence.times["timestamp"].num_naive if "timestamp" in evidence.times else 0
    if not naive or source.time_zone != "UTC":
        return []
    return [
        f"{naive:,} times name no zone and are read as UTC; set data.events.time_zone if they are local times"
    ]


def _summarize(
    table: TableRows,
    opened: OpenedSource,
    num_kept: int,
    *,
    merged: Mapping[str, int],
    left_out: Mapping[str, int] = {},
    kept_by_type: Mapping[str, int] = {},
) -> TableSummary:
    files = opened.files
    file_notes = {
        "files that copy another one": len(files.repeated),
        "files without a byte": len(files.empty),
    }
    return TableSummary(
        files=len(files.paths),
        rows=table.rejections.num_rows,
        kept=num_kept,
        rejected=table.rejections.reason_counts,
        rejected_rows=table.rejections.num_rejected,
        rejected_by_type=table.rejections.list_lost_by_type()
        if table.rejections.table_name == EVENTS.name
        else {},
        left_empty={
            name: f"{cells.num_cells:,} of {cells.num_filled:,} cells left empty, such as '{cells.example}'"
            for name, cells in table.rejections.unreadable.items()
            if cells.num_cells
        },
        merged=merged,
        kept_by_type=kept_by_type,
        left_out={**left_out, **{name: count for name, count in file_notes.items() if count}},
    )


def _count_rows(items: pl.DataFrame, events: pl.DataFrame, quarantine: pl.DataFrame) -> dict[str, float]:
    behaviors = events.filter(pl.col("event_type") != "impression")
    return {
        "items": len(items),
        "events": len(events),
        "behaviors": len(behaviors),
        "users": behaviors["user_id"].n_unique(),
        "rows_quarantined": len(quarantine),
    }
