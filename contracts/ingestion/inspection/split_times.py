"""Days in one column and the clock in another."""

from datetime import time
from typing import Final

import polars as pl

from contracts.errors import UserError
from contracts.ingestion.inspection.column_names import list_short_names, quote_name
from contracts.ingestion.inspection.guess_tables import TableGuess
from contracts.ingestion.inspection.match_columns import MOST_CELLS, read_texts
from contracts.ingestion.values.times import make_time_rules, read_times
from contracts.tables import EARLIEST_TIME

_CLOCK: Final = r"^\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?[AaPp]\.?[Mm]\.?)?$"
_CLOCK_NAMES: Final = (
    "time hour hr hh hourofday orderhourofday timeofday clock transtime transactiontime eventtime ordertime "
    "uhrzeit zeit stunde erzet heure hora ora saat czas godzina uur время час 时间 小时 時間 時刻 시간"
)
_DIGITS: Final = {
    r"^(?:[01]?\d|2[0-3])$": "lpad({clock}::varchar, 2, '0')",
    r"^(?:(?:[01]?\d|2[0-3])[0-5]\d|[0-5]?\d)$": (
        "left(lpad({clock}::varchar, 4, '0'), 2) || ':' || right(lpad({clock}::varchar, 4, '0'), 2)"
    ),
    r"^(?:(?:[01]?\d|2[0-3])[0-5]\d[0-5]\d|[0-5]?\d{1,3})$": (
        "strftime(strptime(lpad({clock}::varchar, 6, '0'), '%H%M%S'), '%H:%M:%S')"
    ),
}
"""A clock without signs (`9`, `905`, `90507`) -> how a query writes it with them."""


def refuse_split_times(log: TableGuess, sample: pl.DataFrame) -> None:
    """Refuses days in one column and the clock in another: all events of a day would stand at midnight.

    Raises:
        UserError: the message has the query that joins them.
    """
    day_column = log.mapping.get("timestamp")
    if day_column is None:
        return
    for column in log.columns:
        written = _write_clock(column.theirs, read_texts(sample[column.theirs]).drop_nulls())
        if column.ours is None and written and _holds_days_alone(sample[day_column]):
            raise UserError(
                f"'{log.uri}': '{day_column}' holds days and '{column.theirs}' the clock. Give both as one "
                f"column by a query (`uri: duckdb:...`): {quote_name(day_column)} || ' ' || {written} as "
                "timestamp"
            )


def _holds_days_alone(cells: pl.Series) -> bool:
    is_plain = cells.dtype.is_numeric() or cells.dtype.is_temporal()
    rules = make_time_rules(unit="auto", zone="UTC", day_first=True, earliest=EARLIEST_TIME)
    moments = read_times(cells if is_plain else read_texts(cells), rules)
    return bool((moments.dt.time() == time()).all())


def _write_clock(name: str, clocks: pl.Series) -> str:
    """How a query writes the clock of a column; empty where it holds none."""
    if not len(clocks):
        return ""
    if int(clocks.str.contains(_CLOCK).sum()) >= MOST_CELLS * len(clocks):
        return quote_name(name)
    if clocks.n_unique() == 1 or not set(list_short_names(name)) & set(_CLOCK_NAMES.split()):
        return ""
    whole = clocks.str.replace(r"\.0+$", "")
    for digits, written in _DIGITS.items():
        if whole.str.contains(digits).all():
            return written.format(clock=quote_name(name))
    return ""
