"""The ingest step: the user's files become the dataset artifact."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import polars as pl

from contracts.artifacts import Artifact, new_artifact, write_json, write_table
from contracts.dataset import EVENT_ORDER, Split, before
from contracts.errors import UserError
from contracts.ingestion.config import DataConfig, SplitConfig
from contracts.ingestion.normalise import normalise_events, normalise_items
from contracts.ingestion.readers import read_source
from contracts.ingestion.sources import data_digest
from contracts.schema import Table
from contracts.tables import EVENTS, ITEMS

MIN_ITEMS = 2
"""There is nothing to rank below."""
_ROW = "__row"
_TICK = timedelta(microseconds=1)


class Accepted(NamedTuple):
    """A table after validation, with the rows that did not pass."""

    rows: pl.DataFrame
    quarantine: pl.DataFrame
    """Columns: table, reasons, row (the row as JSON text)."""


def ingest(config: DataConfig, *, out: Path) -> None:
    """Reads, validates and divides the user's data; writes a dataset artifact.

    Rows that break a contract go to `quarantine.parquet` with their reasons; rows at or after the cut-off are left out
    and counted (`rows_after_cutoff`).

    Raises:
        UserError: a file or column is missing, nothing is left, or more rows break the contract than
            `max_rejected_share` allows.
    """
    raw_items, raw_events = read_source(config.items), read_source(config.events)
    items = accept(normalise_items(raw_items, config.items), ITEMS, config.max_rejected_share, raw=raw_items)
    if len(items.rows) < MIN_ITEMS:
        raise UserError(f"the catalogue holds {len(items.rows)} usable item(s); ranking needs at least {MIN_ITEMS}")
    log = accept(normalise_events(raw_events, config.events), EVENTS, config.max_rejected_share, raw=raw_events)
    log = _without_unknown_items(log, items.rows, config.max_rejected_share)
    cutoff = config.cutoff or _last_time(log.rows) + _TICK
    events = before(log.rows, cutoff).sort(EVENT_ORDER)
    if events.is_empty():
        raise UserError(f"no event before the cut-off {cutoff.isoformat()}; move data.cutoff or give an older log")
    with new_artifact(out, kind="dataset", inputs={}, config=config) as artifact:
        write_table(artifact.path / "items.parquet", ITEMS, items.rows)
        write_table(artifact.path / "events.parquet", EVENTS, events)
        pl.concat([items.quarantine, log.quarantine]).write_parquet(artifact.path / "quarantine.parquet")
        split = divide(events, config.split, cutoff)
        write_json(artifact.path / "split.json", split.model_dump(mode="json"))
        artifact.labels["data_digest"] = data_digest(config)
        _count(artifact, items, log, events)
        artifact.metrics["nan_read_as_missing"] = _count_nan(raw_items) + _count_nan(raw_events)


def accept(frame: pl.DataFrame, table: Table, max_rejected_share: float, *, raw: pl.DataFrame) -> Accepted:
    """Validates a frame; refuses it as a whole when too much of it is broken.

    Args:
        frame: the rows in the contract's columns.
        table: the contract.
        max_rejected_share: the limit.
        raw: the same rows as the user wrote them: what goes to quarantine.

    Raises:
        UserError: the frame is empty or its rejected share is over the limit; the message lists the reasons.
    """
    if frame.is_empty():
        raise UserError(f"table '{table.name}' holds no row")
    result = table.validate(frame.with_row_index(_ROW))
    broken = raw[result.rejected[_ROW]].with_columns(reasons=result.rejected["reasons"])
    quarantine = _quarantine(broken, table.name)
    _refuse_if_broken(quarantine, len(frame), table.name, max_rejected_share)
    return Accepted(result.valid, quarantine)


def divide(events: pl.DataFrame, config: SplitConfig, cutoff: datetime) -> Split:
    """The moments that divide the log (behaviours decide, not impressions).

    Raises:
        UserError: the behaviours are too few or too close in time to be divided.
    """
    times = events.filter(pl.col("event_type") != "impression")["timestamp"].sort()
    if config.kind == "leave_last_out":
        last = _last_time(events)
        return Split(train_end=last - timedelta(days=1), validation_end=last, cutoff=cutoff)
    if len(times) < 3:
        raise UserError(
            f"{len(times)} behaviour(s) (click, cart or order) in the log; at least 3 are needed to divide it"
        )
    train_end = times[int(len(times) * config.train)]
    validation_end = times[min(int(len(times) * (config.train + config.validation)), len(times) - 1)]
    if not times[0] < train_end < validation_end < cutoff:
        raise UserError(
            f"the log cannot be divided in time at {train_end} and {validation_end}: too many events share one moment; "
            "for logs with an order but no time use data.events.order_column and data.split.kind: leave_last_out"
        )
    return Split(train_end=train_end, validation_end=validation_end, cutoff=cutoff)


def _without_unknown_items(log: Accepted, items: pl.DataFrame, max_rejected_share: float) -> Accepted:
    known = log.rows.select(pl.col("item_id").is_in(items["item_id"].implode())).to_series()
    reason = pl.lit(["item_id: not in the catalogue"])
    unknown = _quarantine(log.rows.filter(~known).with_columns(reasons=reason), EVENTS.name)
    quarantine = pl.concat([log.quarantine, unknown])
    _refuse_if_broken(quarantine, len(log.rows) + len(log.quarantine), EVENTS.name, max_rejected_share)
    return Accepted(log.rows.filter(known), quarantine)


def _quarantine(rejected: pl.DataFrame, table: str) -> pl.DataFrame:
    row = pl.struct(pl.exclude("reasons")).struct.json_encode()
    return rejected.select(pl.lit(table).alias("table"), pl.col("reasons").cast(pl.List(pl.String)), row.alias("row"))


def _refuse_if_broken(quarantine: pl.DataFrame, total: int, table: str, max_rejected_share: float) -> None:
    if len(quarantine) <= max_rejected_share * total:
        return
    counts = quarantine["reasons"].explode().value_counts(sort=True).head(5)
    listed = "; ".join(f"{count:,} x {reason}" for reason, count in counts.iter_rows())
    example = quarantine["row"][0][:200]
    raise UserError(
        f"table '{table}': {len(quarantine):,} of {total:,} rows break the contract, more than "
        f"data.max_rejected_share = {max_rejected_share:g} allows. Reasons: {listed}. First such row: {example}"
    )


def _last_time(events: pl.DataFrame) -> datetime:
    last = events["timestamp"].max()
    if not isinstance(last, datetime):
        raise UserError("the log holds no usable event; see the messages on data.events")
    return last


def _count_nan(frame: pl.DataFrame) -> int:
    floats = [column for column in frame.get_columns() if column.dtype.is_float()]
    return sum(int(column.is_nan().sum()) for column in floats)


def _count(artifact: Artifact, items: Accepted, log: Accepted, events: pl.DataFrame) -> None:
    behaviors = events.filter(pl.col("event_type") != "impression")
    artifact.metrics |= {
        "items": len(items.rows),
        "events": len(events),
        "behaviors": len(behaviors),
        "users": behaviors["user_id"].n_unique(),
        "rows_quarantined": len(items.quarantine) + len(log.quarantine),
        "rows_after_cutoff": len(log.rows) - len(events),
    }
