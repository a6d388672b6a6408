"""Turns what was read into the contract's columns: names, ids, times, categories."""

import polars as pl

from contracts.errors import UserError
from contracts.ingestion.config import EventSourceConfig, ItemSourceConfig, SourceConfig
from contracts.schema import UTC_TIME, Table
from contracts.tables import EVENTS, ITEMS

CATEGORY_SEPARATOR = " > "
_LATEST_US = 7.3e15
"""The year 2201: times beyond are not times (another unit, or a wrong value)."""
_ORDER_ORIGIN = pl.datetime(2000, 1, 1, time_zone="UTC", time_unit="us")
"""Time given to the last event of each user in a log that holds an order but no time."""


def normalise_items(frame: pl.DataFrame, source: ItemSourceConfig) -> pl.DataFrame:
    """Catalogue rows in the contract's columns (not yet validated)."""
    frame = _rename(frame, source, ITEMS)
    if "category" in frame.columns:
        frame = frame.with_columns(category=_category_path(frame, source.category_separator))
    if "available_at" in frame.columns:
        frame = frame.with_columns(available_at=parse_time(frame["available_at"], "auto"))
    return _clean(frame, ITEMS)


def normalise_events(frame: pl.DataFrame, source: EventSourceConfig) -> pl.DataFrame:
    """Log rows in the contract's columns (not yet validated).

    An order without time becomes one day per step, counted back from a common end, so that the last events of all
    users fall into the same part of the split.
    """
    frame = _rename(frame, source, EVENTS)
    if source.order_column:
        frame = frame.with_columns(timestamp=_time_from_order(frame, source.order_column))
    elif "timestamp" in frame.columns:
        frame = frame.with_columns(timestamp=parse_time(frame["timestamp"], source.time_unit))
    if source.event_type:
        frame = frame.with_columns(event_type=pl.lit(source.event_type))
    elif source.event_types and "event_type" in frame.columns:
        frame = frame.with_columns(pl.col("event_type").cast(pl.String).replace(source.event_types))
    return _clean(frame, EVENTS)


def parse_time(values: pl.Series, unit: str) -> pl.Series:
    """Times of any common form as UTC microseconds; what cannot be read becomes null.

    Args:
        values: datetimes, integers (s, ms or us since 1970) or text (the same integers, or ISO 8601).
        unit: `s`, `ms`, `us`, `iso` or `auto`.
    """
    if values.dtype == pl.Date or isinstance(values.dtype, pl.Datetime):
        naive = not isinstance(values.dtype, pl.Datetime) or values.dtype.time_zone is None
        if naive:
            return values.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        return values.cast(UTC_TIME)
    if unit == "iso" or values.dtype == pl.String:
        text = values.cast(pl.String)
        if unit in ("auto", "iso"):
            iso = _parse_iso(text)
            return iso if unit == "iso" else iso.fill_null(_from_number(text.cast(pl.Float64, strict=False), unit))
        return _from_number(text.cast(pl.Float64, strict=False), unit)
    return _from_number(values.cast(pl.Float64, strict=False), unit)


def _parse_iso(text: pl.Series) -> pl.Series:
    whole = text.str.strip_chars().str.replace(" ", "T", literal=True)
    whole = whole.str.replace(r"^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2})(Z|[+-]\d{2}:?\d{2})?$", "${1}:00${2}")
    has_zone = whole.str.contains(r"(Z|[+-]\d{2}:?\d{2})$") & whole.str.contains("T", literal=True)
    dated = pl.select(
        pl.when(whole.str.contains("T", literal=True)).then(whole).otherwise(whole + "T00:00:00")
    ).to_series()
    zoned = pl.select(pl.when(has_zone).then(dated).otherwise(dated + "Z")).to_series()
    return zoned.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)


def _from_number(values: pl.Series, unit: str) -> pl.Series:
    if unit == "auto":
        # Seconds since 1970 stay below 1e11 until the year 5138, milliseconds below 1e14.
        # The median decides: one wrong value must not re-date all others.
        typical = values.abs().median()
        size = float(typical) if isinstance(typical, int | float) else 0.0
        unit = "s" if size < 1e11 else "ms" if size < 1e14 else "us"
    scale = {"s": 1_000_000, "ms": 1_000, "us": 1}[unit]
    exact = (values * scale).round()
    possible = exact.set(exact.abs() > _LATEST_US, None)
    return possible.cast(pl.Int64, strict=False).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _time_from_order(frame: pl.DataFrame, order_column: str) -> pl.Expr:
    if "user_id" not in frame.columns:
        raise UserError(f"data.events: no column user_id; found: {', '.join(frame.columns)}. Map it in events.columns")
    if order_column not in frame.columns:
        raise UserError(
            f"data.events.order_column '{order_column}' is not in the file; found: {', '.join(frame.columns)}"
        )
    steps_to_end = pl.col(order_column).cast(pl.Float64, strict=False).rank("ordinal", descending=True).over("user_id")
    return (_ORDER_ORIGIN - pl.duration(days=steps_to_end.cast(pl.Int64) - 1)).cast(UTC_TIME)


def _rename(frame: pl.DataFrame, source: SourceConfig, table: Table) -> pl.DataFrame:
    absent = sorted(theirs for theirs in source.columns.values() if theirs not in frame.columns)
    if absent:
        raise UserError(
            f"data.{table.name}.columns names column(s) {', '.join(absent)} that '{source.uri}' does not have; "
            f"found: {', '.join(frame.columns)}"
        )
    # One column of theirs may serve two of ours; a column of ours that is mapped hides theirs of the same name.
    mapped = [pl.col(theirs).alias(ours) for ours, theirs in source.columns.items()]
    return frame.select(*mapped, *(name for name in frame.columns if name not in source.columns))


def _category_path(frame: pl.DataFrame, separator: str | None) -> pl.Expr:
    column = pl.col("category")
    if isinstance(frame.schema["category"], pl.List):
        return column.cast(pl.List(pl.String)).list.join(CATEGORY_SEPARATOR)
    if separator is None:
        return column.cast(pl.String)
    parts = column.cast(pl.String).str.split(separator)
    return parts.list.eval(pl.element().str.strip_chars()).list.join(CATEGORY_SEPARATOR)


def _clean(frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Reads integral float ids as integers, NaN as missing, and blank optional text as missing."""
    expressions: list[pl.Expr] = []
    for name, dtype in frame.schema.items():
        column = pl.col(name)
        if name not in table.schema:
            continue
        if name.endswith("_id"):
            # 7.0 is the id 7; what is no whole number is no id.
            whole = pl.when(column == column.floor()).then(column).cast(pl.Int64, strict=False)
            expressions.append((whole if dtype.is_float() else column).cast(pl.String))
        elif dtype.is_float():
            expressions.append(column.fill_nan(None))
        elif dtype == pl.String and not table.schema[name].is_(pl.String()):
            blank = column.str.strip_chars().str.to_lowercase().is_in(["", "nan", "null", "none", "na"])
            expressions.append(pl.when(~blank).then(column))
        elif dtype == pl.String:
            expressions.append(pl.when(column.str.strip_chars() != "").then(column))
    return frame.with_columns(expressions)
