"""Inspects files: what they hold, what would be lost of them and why, and a configuration that reads them."""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import polars as pl

from contracts.errors import TooMuchLostError, UnknownTypesError, UserError
from contracts.ingestion.config import IGNORED, DataConfig, SourceConfig
from contracts.ingestion.ingest import ingest_dataset
from contracts.ingestion.ingest_summary import IngestSummary, read_summary
from contracts.ingestion.inspection.agree_item_ids import agree_on_item_ids
from contracts.ingestion.inspection.column_names import EVENT_NAMES, ITEM_NAMES, ORDER_ID_NAMES
from contracts.ingestion.inspection.event_words import guess_event_type
from contracts.ingestion.inspection.guess_tables import (
    TableGuess,
    find_unread_times,
    guess_table,
    tell_is_log,
)
from contracts.ingestion.inspection.match_columns import MAX_EVENT_TYPES
from contracts.ingestion.inspection.nested_columns import (
    expand_structures,
    explain_missing_log,
    names_any,
)
from contracts.ingestion.inspection.split_times import refuse_split_times
from contracts.ingestion.sources.source_batches import OpenedSource
from contracts.ingestion.values.cell_texts import read_cells_as_text

SAMPLE_ROWS: Final = 100_000
_NO_USER: Final = "user_id: missing"


class Inspection(NamedTuple):
    """What was found."""

    tables: Sequence[TableGuess]
    """The catalogue and the log; the log alone serves as both where it holds titles."""
    data: dict[str, Any]
    """The section `data` of a run configuration."""
    summary: IngestSummary | None
    """What ingestion makes of the rows that were read; None where it refuses them."""
    refusal: str
    """Why it refuses them."""
    num_read: int | None
    """Rows of the log that were read; None: all."""


def inspect_files(uris: Sequence[str], *, read_all: bool) -> Inspection:
    """Inspects a catalogue and a log, in any order, or a log that holds its items' titles.

    Args:
        uris: one or two sources.
        read_all: read every row, instead of the first `SAMPLE_ROWS` of the log.

    Raises:
        UserError: a file cannot be read, or none is a log.
    """
    samples = {uri: expand_structures(_read_sample(uri)) for uri in uris}
    log_uri, items_uri = _tell_roles(samples)
    items = guess_table(items_uri, samples[items_uri], is_log=False)
    log = guess_table(log_uri, samples[log_uri], is_log=True)
    _require_columns(items, ("item_id", "title"), "the catalogue", samples[items_uri])
    _require_columns(log, ("user_id", "item_id"), "the log", samples[log_uri])
    if "timestamp" not in log.mapping and log.order_column is None:
        unread = find_unread_times(log)
        raise UserError(
            f"'{log_uri}' holds no column of times that can be read, nor of an order (pos, step ...); its "
            f"columns: {', '.join(samples[log_uri].columns)}.{unread} Write times as 2025-03-01 14:30:00, "
            "or map another column by hand: `columns: {timestamp: <yours>}`"
        )
    refuse_split_times(log, samples[log_uri])
    items, log = agree_on_item_ids(items, log, samples[items_uri], samples[log_uri])
    data = describe_data(items, log)
    summary, refusal = _try_ingestion(data, max_rows=None if read_all else SAMPLE_ROWS)
    log = log._replace(event_types=data["events"].get("event_types", log.event_types))
    num_read = None if read_all or len(samples[log_uri]) < SAMPLE_ROWS else SAMPLE_ROWS
    return Inspection((items, log), data, summary, refusal, num_read)


def describe_data(items: TableGuess, log: TableGuess) -> dict[str, Any]:
    """The section `data` that reads these tables."""
    item_source: dict[str, Any] = {"uri": items.uri, "columns": _describe_columns(items)}
    if items.category_separator:
        item_source["category_separator"] = items.category_separator
    if items.product_column:
        item_source["product_column"] = items.product_column
    log_source: dict[str, Any] = {"uri": log.uri, "columns": _describe_columns(log)}
    if log.event_type:
        log_source["event_type"] = log.event_type
    elif any(theirs != ours for theirs, ours in log.event_types.items()):
        log_source["event_types"] = dict(log.event_types)
    data: dict[str, Any] = {"items": item_source, "events": log_source}
    if log.order_column:
        log_source["order_column"] = log.order_column
        log_source["columns"].pop("position", None)
        data["split"] = {"kind": "leave_last_out"}
    return {name: _drop_empty(section) for name, section in data.items()}


def _describe_columns(table: TableGuess) -> dict[str, str | None]:
    """Our column -> theirs, where the names differ; null where theirs of our name holds something else."""
    columns: dict[str, str | None] = {
        ours: theirs for ours, theirs in table.mapping.items() if ours != theirs
    }
    if table.mapping.get("line_total") and "price" not in table.mapping:
        columns["price"] = None
    is_unread = "line_total" not in table.mapping
    if table.is_log and is_unread and any(column.theirs == "line_total" for column in table.columns):
        columns["line_total"] = None
    return columns


def _drop_empty(section: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if value not in ({}, None)}


def _tell_roles(samples: dict[str, pl.DataFrame]) -> tuple[str, str]:
    """The log's and the catalogue's place."""
    logs = [uri for uri, sample in samples.items() if tell_is_log(sample)]
    others = [uri for uri in samples if uri not in logs]
    if not logs:
        listed = "; ".join(f"{uri}: {', '.join(sample.columns)}" for uri, sample in samples.items())
        raise UserError(
            f"no file names both users and items, as a log does ({listed}). {_explain_half_log(samples)}"
            + (
                explain_missing_log(samples)
                or "Rename the columns, or write the config by hand (docs/tutorials/your-own-csv.md)"
            )
        )
    if len(logs) > 1:
        # Both name users and items: the log is the one with more of its columns.
        logs.sort(key=lambda uri: len(guess_table(uri, samples[uri], is_log=True).mapping), reverse=True)
        others = logs[1:]
        _refuse_two_logs(logs[0], others[0], samples[others[0]])
    return logs[0], others[0] if others else logs[0]


def _explain_half_log(samples: dict[str, pl.DataFrame]) -> str:
    """Says of a file with times or orders what names it lacks: a sentence for each file."""
    said = ""
    for uri, sample in samples.items():
        has_user = names_any(sample, EVENT_NAMES["user_id"])
        has_item = names_any(sample, ITEM_NAMES["item_id"])
        has_order = names_any(sample, ORDER_ID_NAMES)
        tells_events = has_order or names_any(sample, (*EVENT_NAMES["timestamp"], *EVENT_NAMES["quantity"]))
        if tells_events and has_user != has_item:
            what, example = ("items", "item_id") if has_user else ("users", "user_id")
            said += (
                f"In '{uri}' no column is named like {what}: rename the one that holds them to {example}"
                + (", or join the table that names them of each order" if has_order else "")
                + ". "
            )
    return said


def _refuse_two_logs(log_uri: str, other_uri: str, other: pl.DataFrame) -> None:
    """Refuses two logs: the events of the one that is taken for the catalogue would not be read.

    Raises:
        UserError: the other one holds times, and its items repeat.
    """
    guess = guess_table(other_uri, other, is_log=True)
    item_column = guess.mapping.get("item_id")
    if item_column and "timestamp" in guess.mapping and other[item_column].is_duplicated().any():
        raise UserError(
            f"'{log_uri}' and '{other_uri}' both name users, items and times: these are two logs. Put their "
            "rows together, in one folder or by a query with `union all by name`, and give a catalogue, too"
        )


def _require_columns(table: TableGuess, needed: Sequence[str], what: str, sample: pl.DataFrame) -> None:
    missing = [name for name in needed if name not in table.mapping]
    if missing:
        listed = ", ".join(column.theirs for column in table.columns)
        hint = explain_missing_log({table.uri: sample}) if table.is_log else ""
        raise UserError(
            f"'{table.uri}', taken for {what}, holds no column that seems to be {' or '.join(missing)}; it "
            f"holds {listed}. {hint or 'Give both a catalogue and a log, or rename the column'}"
        )


def _read_sample(uri: str) -> pl.DataFrame:
    with tempfile.TemporaryDirectory(prefix="reaseq-inspect-") as scratch:
        opened = OpenedSource(SourceConfig(uri=uri), Path(scratch), max_rows=SAMPLE_ROWS)
        frames = [batch.frame for batch in opened.iterate_batches()]
    if not frames:
        raise UserError(f"'{uri}' holds no row")
    try:
        return pl.concat(frames, how="diagonal_relaxed")
    except pl.exceptions.PolarsError:
        # Files store a column in types without a common one: times with a zone and without it.
        return pl.concat([frame.select(_write_as_text(c) for c in frame) for frame in frames], how="diagonal")


def _write_as_text(cells: pl.Series) -> pl.Series:
    try:
        return read_cells_as_text(cells)
    except UserError:
        return pl.Series(cells.name, [None if cell is None else str(cell) for cell in cells], pl.String)


def _try_ingestion(data: dict[str, Any], *, max_rows: int | None) -> tuple[IngestSummary | None, str]:
    """What ingestion makes of the data, or why it refuses it.

    Rows of guests may be many: `data` is told to let them pass. Types of events that the sample did not hold
    are guessed, too.
    """
    with tempfile.TemporaryDirectory(prefix="reaseq-inspect-") as scratch:
        out = Path(scratch) / "dataset"
        try:
            ingest_dataset(DataConfig.model_validate(data), out=out, max_log_rows=max_rows, is_told=False)
        except TooMuchLostError as error:
            if error.reason != _NO_USER or "max_rejected_shares" in data:
                return None, str(error)
            data["max_rejected_shares"] = {"events.user_id": min(math.ceil(error.share * 110) / 100, 1.0)}
            return _try_ingestion(data, max_rows=max_rows)
        except UnknownTypesError as error:
            known_types = data["events"].get("event_types", {})
            new_types = {name: guess_event_type(name) or IGNORED for name in error.names}
            if len(known_types) + len(new_types) > MAX_EVENT_TYPES or set(new_types) <= set(known_types):
                return None, str(error)
            data["events"]["event_types"] = known_types | new_types
            return _try_ingestion(data, max_rows=max_rows)
        except UserError as error:
            return None, str(error)
        return read_summary(out), ""
