"""Lines of the event log as typed records; a broken line costs only itself."""

import io
from typing import Final, NamedTuple

import polars as pl
from pydantic_core import from_json

from contracts.events.order_returns import EVENT_ID
from contracts.table_schema import UTC_TIME
from contracts.tables import CONTEXT_COLUMNS, EVENTS
from serving.event_log.event_log import RecordKind

EXPOSURE_LINE: Final = pl.Schema(
    {
        "request_id": pl.String(),
        "user_id": pl.String(),
        "timestamp": pl.String(),
        "arm": pl.String(),
        "layers": pl.List(pl.String()),
        "assignment": pl.String(),
        "experiment_id": pl.String(),
        "teams": pl.List(pl.String()),
        "model_version": pl.String(),
        "routed_version": pl.String(),
        "item_ids": pl.List(pl.String()),
        "scores": pl.List(pl.Float64()),
        "propensities": pl.List(pl.Float64()),
        "degraded": pl.List(pl.List(pl.String())),
        "latency_ms": pl.Float64(),
        "failure": pl.String(),
        **dict.fromkeys(CONTEXT_COLUMNS, pl.String()),
    }
)
"""One line per request; `layers` holds `experiment=arm`; `teams`, `degraded` and the lists between them are
per item. A line with a `failure` has no items: nothing was shown."""
EVENT_LINE: Final = pl.Schema(
    {n: pl.String() if t == UTC_TIME else t for n, t in EVENTS.schema.items()} | {EVENT_ID: pl.String()}
)
"""One line per event, as often as it was sent."""
_SCHEMAS: Final = {"exposures": EXPOSURE_LINE, "events": EVENT_LINE}
_NEEDED_COLUMNS: Final = {
    "exposures": ("user_id", "timestamp", "request_id", "item_ids"),
    "events": ("user_id", "timestamp", "item_id", "event_type"),
}


class LogRecords(NamedTuple):
    """Records of some lines."""

    records: pl.DataFrame
    """Columns of `EXPOSURE_LINE` or `EVENT_LINE`, in the order of the lines, with `timestamp` as a time."""
    num_broken: int
    """Lines that are no record."""


def parse_lines(kind: RecordKind, lines: bytes) -> LogRecords:
    """Reads whole lines of one kind."""
    schema = _SCHEMAS[kind]
    whole_lines = lines.splitlines(keepends=True)
    try:
        records = pl.read_ndjson(io.BytesIO(lines), schema=schema, ignore_errors=True)
    except pl.exceptions.ComputeError:
        # Polars passes over values of a wrong type, but not over what is no JSON.
        json_lines = b"".join(line for line in whole_lines if _is_json(line))
        records = pl.read_ndjson(io.BytesIO(json_lines), schema=schema, ignore_errors=True)
    records = records.with_columns(
        pl.col("timestamp").str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    )
    sound_records = records.drop_nulls(_NEEDED_COLUMNS[kind])
    return LogRecords(sound_records, len(whole_lines) - len(sound_records))


def _is_json(line: bytes) -> bool:
    try:
        # Polars reads no NaN, which is no JSON either.
        from_json(line, allow_inf_nan=False)
    except ValueError:
        return False
    return True
