"""What the cells of a source look like as a whole: how ids, numbers and times are to be read.

A first pass over all rows collects it, so that no reading depends on where a file is cut into batches.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import polars as pl

from contracts.errors import UserError
from contracts.ingestion.config import LINE_TOTAL, EventSourceConfig, SourceConfig
from contracts.ingestion.rows.column_mapping import MappedColumn, list_mapped_columns, select_json_field
from contracts.ingestion.sources.source_batches import OpenedSource, SourceBatch
from contracts.ingestion.values.cell_texts import (
    CURRENCY_FIELDS,
    read_cells_as_text,
    take_amounts,
    unwrap_values,
)
from contracts.ingestion.values.ids import IdEvidence, collect_id_evidence, refuse_inexact_ids
from contracts.ingestion.values.missing_words import clean_texts
from contracts.ingestion.values.numbers import (
    SAME_CURRENCY,
    NumberEvidence,
    collect_number_evidence,
    decide_decimal_mark,
    doubt_three_decimals,
    refuse_other_marks,
)
from contracts.ingestion.values.time_evidence import (
    TimeEvidence,
    collect_time_evidence,
    decide_day_first,
    refuse_inexact_times,
    refuse_unclear_times,
)
from contracts.ingestion.values.times import TimeRules, make_time_rules
from contracts.table_schema import Table
from contracts.tables import EARLIEST_TIME

_CURRENCY_NAME: Final = r"^(?i:currency|currency[_ ]?code|curr|waehrung|währung)$"
_NO_PRICES: Final = frozenset(("1", "9", "99", "999", "9999"))
"""What tools write, with a minus, where no price is known."""
_MOST_FILES_TOLD: Final = 5
_SIBLINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "price": (LINE_TOTAL,),
    LINE_TOTAL: ("price",),
    **dict.fromkeys(("quantity", "returned"), ("price", LINE_TOTAL)),
}
"""Column -> amounts that a tool writes in the same way. Of a price its quantity tells nothing: databases
write that one as 2.0000 beside any price."""
_QUANTITY_NAME: Final = r"^(?i:qty|quantity|units|menge|num_units|item_count)$"


class SourceEvidence(NamedTuple):
    """Evidence of all rows of a source."""

    num_rows: int
    columns: tuple[str, ...]
    """As the files name them, in the order in which they first came."""
    ids: Mapping[str, IdEvidence]
    """Our column -> evidence."""
    numbers: Mapping[str, NumberEvidence]
    times: Mapping[str, TimeEvidence]
    files_of_open_dates: tuple[str, ...] = ()
    """Files none of whose times tells whether 03/04/2025 is the third of April."""
    numbers_of_files: Mapping[tuple[str, str], NumberEvidence] = {}
    """Our column and file -> evidence."""
    columns_of_files: Mapping[str, frozenset[str]] = {}
    """File -> its columns."""


class Readings(NamedTuple):
    """How the columns of a source are to be read."""

    ids: Mapping[str, IdEvidence]
    decimal_marks: Mapping[str, str]
    time_rules: Mapping[str, TimeRules]
    unknown_prices: Mapping[str, float] = {}
    """Column -> the number below zero that a tool wrote where it knew no price."""


def collect_evidence(opened: OpenedSource, source: SourceConfig, table: Table) -> SourceEvidence:
    """Reads a source once and collects evidence.

    Raises:
        UserError: a column is missing, holds ids that are none, or a file cannot be read.
    """
    ids: dict[str, IdEvidence] = {}
    numbers: dict[str, NumberEvidence] = {}
    times: dict[str, TimeEvidence] = {}
    names: dict[str, None] = {}
    currencies: Counter[str] = Counter()
    times_of_files: dict[str, TimeEvidence] = {}
    numbers_of_files: dict[tuple[str, str], NumberEvidence] = {}
    columns_of_files: dict[str, frozenset[str]] = {}
    num_rows = 0
    for batch in opened.iterate_batches():
        num_rows += len(batch.frame)
        names |= dict.fromkeys(batch.frame.columns)
        columns_of_files[batch.file] = frozenset(batch.frame.columns)
        _refuse_unmapped_returns(batch.frame, source)
        mapped_columns = _list_columns_of_file(batch, source, table)
        currencies.update(_count_currencies(batch.frame, source, mapped_columns))
        for column in mapped_columns:
            cells = column.select_from(batch.frame)
            if column.kind in ("id", "number") and not cells.dtype.is_nested():
                # What stands often says no more than what stands once.
                cells = cells.unique()
            if column.kind == "id":
                _refuse_objects(cells, column.theirs)
                refuse_inexact_ids(cells, column.theirs)
                if cells.dtype.is_float():
                    # What is no whole number is no id, and says nothing of the others.
                    cells = cells.filter((cells == cells.floor()).fill_null(False))
                evidence = collect_id_evidence(read_clean_texts(cells, source))
                ids[column.ours] = ids.get(column.ours, IdEvidence()).add(evidence)
            elif column.kind == "number":
                is_text = not cells.dtype.is_numeric()
                number_evidence = collect_number_evidence(
                    take_amounts(read_clean_texts(cells, source)) if is_text else cells
                )
                numbers[column.ours] = numbers.get(column.ours, NumberEvidence()).add(number_evidence)
                key = (column.ours, batch.file)
                numbers_of_files[key] = numbers_of_files.get(key, NumberEvidence()).add(number_evidence)
            elif column.kind == "time":
                refuse_inexact_times(cells, column.theirs)
                is_text = not (cells.dtype.is_numeric() or cells.dtype.is_temporal())
                time_evidence = collect_time_evidence(read_clean_texts(cells, source) if is_text else cells)
                times[column.ours] = times.get(column.ours, TimeEvidence()).add(time_evidence)
                if column.ours == "timestamp":
                    of_file = times_of_files.get(batch.file, TimeEvidence())
                    times_of_files[batch.file] = of_file.add(time_evidence)
    _refuse_missing_columns(tuple(names), source, table)
    if len(currencies) > 1:
        listed = ", ".join(f"{name} {count:,} x" for name, count in currencies.most_common(5))
        raise UserError(
            f"'{source.uri}' holds prices in several currencies ({listed}), which cannot be added up. "
            "Convert them to one. If that is done, leave the column of currencies out by a query "
            "(`uri: duckdb:...`)"
        )
    open_files = tuple(file for file, of_file in times_of_files.items() if of_file.is_open)
    return SourceEvidence(
        num_rows, tuple(names), ids, numbers, times, open_files, numbers_of_files, columns_of_files
    )


def _list_columns_of_file(batch: SourceBatch, source: SourceConfig, table: Table) -> list[MappedColumn]:
    try:
        return list_mapped_columns(batch.frame, source, table)
    except UserError as error:
        if batch.file == source.uri:
            raise
        raise UserError(f"file '{batch.file}': {error}") from error


def decide_readings(evidence: SourceEvidence, source: SourceConfig) -> Readings:
    """Decides how columns are read.

    Raises:
        UserError: the cells of a column allow two readings, or contradict each other.
    """
    unit = source.time_unit if isinstance(source, EventSourceConfig) else "auto"
    earliest = source.earliest if isinstance(source, EventSourceConfig) else EARLIEST_TIME
    for name, column_evidence in evidence.times.items():
        if unit == "auto" or name != "timestamp":
            refuse_unclear_times(column_evidence, source.columns.get(name) or name)
    decimal_marks = {
        name: decide_decimal_mark(
            column_evidence,
            source.columns.get(name) or name,
            source.decimal,
            siblings=[evidence.numbers[s] for s in _SIBLINGS.get(name, ()) if s in evidence.numbers],
        )
        for name, column_evidence in evidence.numbers.items()
    }
    if source.decimal == "auto":
        for (name, file), of_file in evidence.numbers_of_files.items():
            of_files = evidence.numbers_of_files
            refuse_other_marks(
                of_file,
                decimal_marks[name],
                source.columns.get(name) or name,
                file,
                siblings=[of_files[s, file] for s in _SIBLINGS.get(name, ()) if (s, file) in of_files],
            )
    return Readings(
        evidence.ids,
        decimal_marks,
        {
            name: make_time_rules(
                unit=unit if name == "timestamp" else "auto",
                zone=source.time_zone,
                day_first=decide_day_first(
                    column_evidence, source.columns.get(name) or name, source.day_first
                ),
                earliest=earliest,
            )
            for name, column_evidence in evidence.times.items()
        },
        {
            name: -float(next(iter(column_evidence.negatives)))
            for name, column_evidence in evidence.numbers.items()
            # Several amounts below zero are returns.
            if len(column_evidence.negatives) == 1 and column_evidence.negatives <= _NO_PRICES
        },
    )


def describe_numbers(evidence: SourceEvidence, readings: Readings, source: SourceConfig) -> list[str]:
    """Says which amounts may be a thousand times what they are read as."""
    if source.decimal != "auto":
        return []
    doubts = [
        doubt_three_decimals(column_evidence, readings.decimal_marks[name], source.columns.get(name) or name)
        for name, column_evidence in evidence.numbers.items()
    ]
    return [doubt for doubt in doubts if doubt]


def describe_differing_files(evidence: SourceEvidence, source: SourceConfig, table: Table) -> list[str]:
    """Says which file lacks a column that other files have: its rows leave that column empty."""
    notes = []
    used = {source.columns.get(name, name) for name in (*table.schema, LINE_TOTAL)} - {None}
    for file, columns in evidence.columns_of_files.items():
        lacking = [name for name in evidence.columns if name in used and name not in columns]
        if lacking:
            others = frozenset().union(*(c for f, c in evidence.columns_of_files.items() if f != file))
            own = [name for name in evidence.columns if name in columns and name not in others]
            said = f"; columns of this file alone: {', '.join(own)}" if own else ""
            notes.append(
                f"'{file}' has no column {', '.join(lacking)}, which other files have: its rows leave it "
                f"empty{said}"
            )
    return notes[:_MOST_FILES_TOLD]


def share_item_ids(ours: Readings, theirs: Readings) -> tuple[Readings, Readings]:
    """Lets the item ids of catalogue and log be read alike: `.0` belongs to both or to neither."""
    both = ours.ids["item_id"].add(theirs.ids["item_id"])
    return ours._replace(ids={**ours.ids, "item_id": both}), theirs._replace(
        ids={**theirs.ids, "item_id": both}
        | ({"seed_item_id": both.add(theirs.ids["seed_item_id"])} if "seed_item_id" in theirs.ids else {})
    )


def read_clean_texts(cells: pl.Series, source: SourceConfig, *, separator: str = " ") -> pl.Series:
    """Cells as text, without the words that stand for nothing."""
    texts = read_cells_as_text(cells, separator=separator, column_name=cells.name)
    return clean_texts(texts, source.missing_words)


def _refuse_missing_columns(names: tuple[str, ...], source: SourceConfig, table: Table) -> None:
    if not names:
        raise UserError(f"data.{table.name}: '{source.uri}' holds no row")
    given = {ours for ours in names if source.columns.get(ours, "") is not None} | {
        ours for ours, theirs in source.columns.items() if theirs is not None
    }
    if isinstance(source, EventSourceConfig):
        given |= {"timestamp"} if source.order_column else set()
        given |= {"event_type"} if source.event_type else set()
    missing = [column.name for column in table.columns if not column.nullable and column.name not in given]
    if missing:
        raise UserError(
            f"table '{table.name}': missing column(s) {', '.join(missing)}; '{source.uri}' holds "
            f"{', '.join(names)} (its first line, if it is a text file). Name yours in the config under "
            f"data.{table.name}.columns; `reaseq data inspect` writes a config"
        )


def _refuse_objects(cells: pl.Series, name: str) -> None:
    """Refuses ids that are JSON objects written out: what changes beside the id would make another id."""
    if cells.dtype != pl.String:
        return
    cells = unwrap_values(cells)
    objects = cells.filter(cells.str.contains(r'^\{\s*"[^"]+"\s*:').fill_null(False))
    if len(objects):
        field = objects.str.extract(r'^\{\s*"([^"]+)"')[0]
        raise UserError(
            f"column '{name}' holds objects where ids are wanted, for example {objects[0][:80]}; name "
            f"the field that is meant, as in `{name}.{field}`"
        )


def _count_currencies(
    frame: pl.DataFrame, source: SourceConfig, mapped_columns: Sequence[MappedColumn]
) -> dict[str, int]:
    """Currency -> rows with a price in it, as a column beside the price or a field of it says."""
    priced = [c for c in mapped_columns if c.ours in ("price", LINE_TOTAL)]
    if not priced:
        return {}
    cells = [frame[name] for name in frame.select(pl.selectors.matches(_CURRENCY_NAME)).columns]
    for column in priced:
        amounts = frame[column.theirs]
        if isinstance(amounts.dtype, pl.Struct):
            cells += [amounts.struct.field(n) for n in CURRENCY_FIELDS if n in amounts.struct.fields]
        elif amounts.dtype == pl.String and amounts.str.starts_with("{").any():
            cells += [select_json_field(amounts, name) for name in CURRENCY_FIELDS]
    has_price = pl.any_horizontal(pl.col(column.theirs).is_not_null() for column in priced)
    is_priced = frame.select(has_price).to_series()
    counts: Counter[str] = Counter()
    for named in cells:
        names = read_clean_texts(named.filter(is_priced), source).str.to_lowercase().drop_nulls()
        names = names.replace(SAME_CURRENCY).str.to_uppercase()
        counts.update(dict(names.value_counts().iter_rows()))
    return counts


def _refuse_unmapped_returns(frame: pl.DataFrame, source: SourceConfig) -> None:
    """Refuses negative quantities that nobody reads: returns would be taken for orders."""
    if (
        not isinstance(source, EventSourceConfig)
        or "quantity" in source.columns
        or "quantity" in frame.columns
    ):
        return
    used_columns: Iterable[str | None] = source.columns.values()
    for name in frame.select(pl.selectors.matches(_QUANTITY_NAME)).columns:
        values = read_cells_as_text(frame[name]).cast(pl.Float64, strict=False)
        num_negative = int((values < 0).sum())
        if num_negative and name not in used_columns:
            raise UserError(
                f"column '{name}' holds {num_negative:,} negative number(s): returns or cancellations, which "
                f"would count as orders. Map it with `columns: {{quantity: {name}}}`, or leave it out with "
                "`columns: {quantity: null}`"
            )
