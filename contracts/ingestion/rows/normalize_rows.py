"""Turns the rows of a batch into the contract's columns, and says of each cell that cannot be read."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import polars as pl

from contracts.errors import UserError
from contracts.events.order_returns import RETURN_TYPES
from contracts.ingestion.config import IGNORED, EventSourceConfig, ItemSourceConfig, SourceConfig
from contracts.ingestion.rows.column_evidence import Readings, read_clean_texts
from contracts.ingestion.rows.column_mapping import MappedColumn, is_free_text, list_mapped_columns
from contracts.ingestion.rows.trade_amounts import fit_amount, settle_amounts
from contracts.ingestion.sources.source_batches import SourceBatch
from contracts.ingestion.values.cell_texts import join_list_texts, read_cells_as_text, take_amounts
from contracts.ingestion.values.ids import read_ids
from contracts.ingestion.values.missing_words import NO_REQUEST_WORDS
from contracts.ingestion.values.numbers import read_numbers
from contracts.ingestion.values.times import TimeRules, read_times
from contracts.table_schema import UTC_TIME, Column, Table, collect_reasons
from contracts.tables import EVENT_TYPES

CATEGORY_SEPARATOR: Final = " > "
FILE_COLUMN: Final = "__file"
ORDER_COLUMN: Final = "__order"


class UnreadableCells(NamedTuple):
    """Cells of an optional column that were left empty, since they could not be read."""

    num_cells: int
    num_filled: int
    """Cells of the column that held something."""
    example: str

    def add(self, other: "UnreadableCells") -> "UnreadableCells":
        """Cells of both."""
        return UnreadableCells(
            self.num_cells + other.num_cells,
            self.num_filled + other.num_filled,
            self.example or other.example,
        )


class NormalizedRows(NamedTuple):
    """A batch in the contract's columns."""

    rows: pl.DataFrame
    """[N] the table's columns, FILE_COLUMN, and of events those that are needed to the end of ingestion."""
    reasons: pl.Series
    """[N] list of reasons for which a row breaks the contract; empty where it keeps it."""
    unreadable: Mapping[str, UnreadableCells]
    """Optional column -> its unreadable cells."""
    ignored_types: Mapping[str, int]
    """Event types that the config leaves out -> rows; these are not among `rows`."""
    unknown_types: Mapping[str, int]
    """Event types that no mapping names -> rows; these are not among `rows`."""
    raw_rows: pl.DataFrame
    """[N] the rows as the user wrote them."""


def normalize_rows(
    batch: SourceBatch, source: SourceConfig, table: Table, readings: Readings
) -> NormalizedRows:
    """Normalizes a batch.

    Raises:
        UserError: a column is of a kind that has no meaning here.
    """
    frame = batch.frame
    ignored: dict[str, int] = {}
    unknown: dict[str, int] = {}
    if isinstance(source, EventSourceConfig):
        event_types = _read_event_types(frame, source, table)
        ignored = _count_types(event_types.filter(event_types == IGNORED), frame, source, table)
        is_known = event_types.is_in([*EVENT_TYPES, *RETURN_TYPES]) | event_types.is_null()
        unknown = _count_types(event_types.filter(~is_known & (event_types != IGNORED)), frame, source, table)
        frame = frame.filter(is_known)
        event_types = event_types.filter(is_known)
    columns = {c.ours: c for c in list_mapped_columns(frame, source, table)}
    cells = {
        name: _read_column(column, frame, source, readings, table)
        for name, column in columns.items()
        if name != "event_type"
    }
    values = {name: read.values for name, read in cells.items()}
    filled = {name: read.filled for name, read in cells.items()}
    if isinstance(source, EventSourceConfig):
        values["event_type"] = settle_amounts(event_types, values, filled, readings.unknown_prices, table)
        filled["event_type"] = values["event_type"].is_not_null()
        if source.order_column:
            values[ORDER_COLUMN] = _read_order(frame, source)
    typed = pl.DataFrame({name: series.alias(name) for name, series in values.items()}, height=len(frame))
    typed = typed.with_columns(
        pl.lit(None, column.dtype).alias(column.name)
        for column in table.columns
        if column.name not in typed.columns
    )
    reasons: list[tuple[str, pl.Series]] = []
    unreadable: dict[str, UnreadableCells] = {}
    for name in table.schema:
        if name not in values:
            continue
        problems = _list_problems(typed, name, filled[name], table, readings)
        if not _find_column(table, name).nullable:
            reasons += _describe_problems(name, {"missing": ~filled[name], **problems})
            continue
        is_broken = pl.Series([False]).new_from_index(0, len(typed))
        for problem in problems.values():
            is_broken = is_broken | problem
        typed = typed.with_columns(pl.when(~pl.lit(is_broken)).then(name))
        if filled[name].any():
            unreadable[name] = UnreadableCells(
                int(is_broken.sum()),
                int(filled[name].sum()),
                _show_example(columns.get(name), frame, is_broken),
            )
    if isinstance(source, EventSourceConfig) and "quantity" in values:
        is_order = typed["event_type"] == "order"
        # Left empty, it would count as one unit.
        reasons.append(
            ("quantity: an order of 0 units", is_order & (values["quantity"] == 0).fill_null(False))
        )
    every_row = pl.Series([True]).new_from_index(0, len(typed))
    reasons += [
        (f"{name}: missing, its file has no such column", every_row)
        for name in _list_absent(values, source, table)
    ]
    kept_columns = [*table.schema, *(name for name in values if name not in table.schema)]
    rows = typed.select(kept_columns).with_columns(pl.lit(batch.file).alias(FILE_COLUMN))
    return NormalizedRows(rows, collect_reasons(reasons, len(rows)), unreadable, ignored, unknown, frame)


def _find_column(table: Table, name: str) -> Column:
    return next(column for column in table.columns if column.name == name)


def _describe_problems(name: str, problems: Mapping[str, pl.Series]) -> list[tuple[str, pl.Series]]:
    return [(f"{name}: {reason}", problem) for reason, problem in problems.items()]


def _list_absent(values: Mapping[str, pl.Series], source: SourceConfig, table: Table) -> list[str]:
    """Needed columns that a file does not have, though another file of the source may."""
    is_ordered = isinstance(source, EventSourceConfig) and source.order_column is not None
    given_later = {"timestamp"} if is_ordered else set()
    return [
        column.name
        for column in table.columns
        if not column.nullable and column.name not in values and column.name not in given_later
    ]


def _read_event_types(frame: pl.DataFrame, source: EventSourceConfig, table: Table) -> pl.Series:
    if source.event_type:
        return pl.Series("event_type", [source.event_type]).new_from_index(0, len(frame))
    column = next((c for c in list_mapped_columns(frame, source, table) if c.ours == "event_type"), None)
    if column is None:
        return pl.Series("event_type", [None], pl.String).new_from_index(0, len(frame))
    read = _read_distinct(column.select_from(frame), lambda cells: _name_event_types(cells, source))
    return read.values.alias("event_type")


def _name_event_types(cells: pl.Series, source: EventSourceConfig) -> "ReadCells":
    written = read_clean_texts(cells, source)
    # A type that is written in another case is the same type, unless the user tells them apart.
    by_case = {name.lower(): ours for name, ours in source.event_types.items()}
    own = {name: name for name in (*EVENT_TYPES, *RETURN_TYPES)}
    lowered = written.str.to_lowercase().replace(own | by_case)
    exact = written.replace(source.event_types)
    event_types = exact.set(exact == written, None).fill_null(lowered)
    return ReadCells(event_types, event_types.is_not_null())


def _count_types(
    chosen: pl.Series, frame: pl.DataFrame, source: EventSourceConfig, table: Table
) -> dict[str, int]:
    """Counts rows by the type that the user wrote; `chosen` holds what they were read as."""
    if chosen.is_empty():
        return {}
    column = next((c for c in list_mapped_columns(frame, source, table) if c.ours == "event_type"), None)
    if column is None:
        return dict(chosen.value_counts().iter_rows())
    written = read_clean_texts(column.select_from(frame), source)
    read = _read_event_types(frame, source, table)
    return dict(Counter(written.filter(read.is_in(chosen.unique().implode())).to_list()))


def _read_order(frame: pl.DataFrame, source: EventSourceConfig) -> pl.Series:
    order_column = source.order_column or ""
    if order_column not in frame.columns:
        raise UserError(
            f"data.events.order_column '{order_column}' is not in the file; found: {', '.join(frame.columns)}"
        )
    return read_cells_as_text(frame[order_column]).cast(pl.Float64, strict=False)


class ReadCells(NamedTuple):
    """The cells of a column."""

    values: pl.Series
    """In the contract's type (what is no column of it: Float64 or text); null where one cannot be read."""
    filled: pl.Series
    """Whether a cell says something."""


def _read_column(
    column: MappedColumn, frame: pl.DataFrame, source: SourceConfig, readings: Readings, table: Table
) -> ReadCells:
    cells = column.select_from(frame)
    if cells.dtype.is_float():
        cells = cells.fill_nan(None)
    if column.kind == "id":
        return _read_distinct(cells, lambda distinct: _read_ids(column, distinct, source, readings))
    if column.kind == "text":
        return _read_distinct(cells, lambda distinct: _read_texts(column, distinct, source))
    if column.kind == "number":
        if cells.dtype.is_numeric():
            return ReadCells(fit_amount(cells.cast(pl.Float64), table, column.ours), cells.is_not_null())
        return _read_distinct(
            cells, lambda distinct: _read_numbers(column, distinct, source, readings, table)
        )
    rules = readings.time_rules[column.ours]
    if cells.dtype.is_numeric() or cells.dtype.is_temporal():
        return ReadCells(read_times(cells, rules), cells.is_not_null())
    texts = read_clean_texts(cells, source)
    return ReadCells(read_times(texts, rules), texts.is_not_null())


def _read_distinct(cells: pl.Series, read: Callable[[pl.Series], ReadCells]) -> ReadCells:
    """Reads each distinct cell once: ids, prices and names repeat a lot in a log."""
    if cells.dtype.is_nested():
        return read(cells)
    distinct = cells.unique()
    if 2 * len(distinct) > len(cells):
        return read(cells)
    of_distinct = read(distinct)
    known = pl.DataFrame({"cell": distinct, "value": of_distinct.values, "is_filled": of_distinct.filled})
    joined = cells.to_frame("cell").join(
        known, on="cell", how="left", maintain_order="left", nulls_equal=True
    )
    return ReadCells(joined["value"], joined["is_filled"])


def _read_ids(column: MappedColumn, cells: pl.Series, source: SourceConfig, readings: Readings) -> ReadCells:
    texts = read_clean_texts(cells, source)
    ids = read_ids(texts, readings.ids[column.ours])
    if cells.dtype.is_float():
        # What is stored as a number names an item only where it is whole.
        ids = ids.set((cells != cells.floor()).fill_null(False), None)
    words: tuple[str, ...] = ()
    if column.ours == "request_id":
        words = NO_REQUEST_WORDS
    elif column.ours == "user_id" and isinstance(source, EventSourceConfig):
        words = source.guests
    is_nobody = ids.str.to_lowercase().is_in([word.lower() for word in words]).fill_null(False)
    return ReadCells(ids.set(is_nobody, None), texts.is_not_null() & ~is_nobody)


def _read_numbers(
    column: MappedColumn, cells: pl.Series, source: SourceConfig, readings: Readings, table: Table
) -> ReadCells:
    texts = take_amounts(read_clean_texts(cells, source))
    numbers = read_numbers(texts, readings.decimal_marks[column.ours])
    return ReadCells(fit_amount(numbers, table, column.ours), texts.is_not_null())


def _read_texts(column: MappedColumn, cells: pl.Series, source: SourceConfig) -> ReadCells:
    separator = CATEGORY_SEPARATOR if column.ours == "category" else " "
    texts = read_clean_texts(cells, source, separator=separator)
    if is_free_text(column.ours):
        texts = join_list_texts(texts, separator)
    if column.ours == "category" and isinstance(source, ItemSourceConfig) and source.category_separator:
        parts = texts.str.split(source.category_separator).list.eval(pl.element().str.strip_chars())
        texts = parts.list.eval(pl.element().filter(pl.element() != "")).list.join(CATEGORY_SEPARATOR)
    return ReadCells(texts, texts.is_not_null())


def _list_problems(
    typed: pl.DataFrame, name: str, filled: pl.Series, table: Table, readings: Readings
) -> dict[str, pl.Series]:
    """Reason -> [N] whether a cell has the problem."""
    column = _find_column(table, name)
    values = typed[name]
    problems = {_name_unreadable(column.dtype, name): filled & values.is_null()}
    for reason, rule in column.rules.items():
        if name == "event_type":
            continue
        keeps_rule = typed.select(rule(pl.col(name))).to_series().fill_null(True)
        problems[reason] = ~keeps_rule
    if name in readings.time_rules:
        problems |= _list_time_problems(values, readings.time_rules[name], name)
    return {reason: problem.fill_null(False) for reason, problem in problems.items() if problem.any()}


def _list_time_problems(values: pl.Series, rules: TimeRules, name: str) -> dict[str, pl.Series]:
    if name != "timestamp":
        # An item may be announced for a later day; a sentinel like 9999-12-31 says nothing.
        years = values.dt.year()
        return {"no plausible time": (years < 1900) | (years > rules.latest.year + 10)}
    return {
        f"before {rules.earliest.date()}": values < rules.earliest,
        "in the future": values > rules.latest,
    }


def _name_unreadable(dtype: pl.DataType, name: str) -> str:
    if name.endswith("_id"):
        return "no id (digits were lost, or it is no whole number)"
    if dtype == UTC_TIME:
        return "cannot be read as a time"
    return "cannot be read as a whole number" if dtype.is_integer() else "cannot be read as a number"


def _show_example(column: MappedColumn | None, frame: pl.DataFrame, is_broken: pl.Series) -> str:
    if column is None or not is_broken.any():
        return ""
    cells = column.select_from(frame).filter(is_broken)
    return str(cells[0])[:60]


def write_rows_as_json(rows: pl.DataFrame) -> pl.Series:
    """Rows as JSON texts, whatever their columns hold."""
    texts = []
    for series in rows.get_columns():
        try:
            texts.append(read_cells_as_text(series, separator=", ").alias(series.name))
        except UserError:
            # Structures of several fields are told in Polars' own way.
            texts.append(pl.Series(series.name, [str(cell) for cell in series], pl.String))
    if not texts:
        return pl.Series("row", [], pl.String)
    return pl.DataFrame(texts).select(row=pl.struct(pl.all()).struct.json_encode()).to_series()
