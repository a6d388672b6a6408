"""Which column of the user's is which of ours."""

from typing import Final, Literal, NamedTuple

import polars as pl

from contracts.errors import UserError
from contracts.events.order_returns import EVENT_ID
from contracts.ingestion.config import LINE_TOTAL, EventSourceConfig, SourceConfig
from contracts.table_schema import UTC_TIME, Table

ColumnKind = Literal["id", "number", "time", "text"]
_FREE_TEXTS: Final = ("title", "brand", "category", "description")


class MappedColumn(NamedTuple):
    """A column that is read."""

    ours: str
    theirs: str
    kind: ColumnKind
    field: str | None = None
    """Field of a structure, where the user named one."""

    def select_from(self, frame: pl.DataFrame) -> pl.Series:
        """The cells of the column.

        Raises:
            UserError: a structure has no such field.
        """
        cells = frame[self.theirs]
        if self.field is None:
            return cells
        if cells.dtype == pl.String:
            return select_json_field(cells, *self.field.split("."))
        for part in self.field.split("."):
            if not isinstance(cells.dtype, pl.Struct) or part not in cells.struct.fields:
                raise UserError(f"column '{self.theirs}' has no field '{self.field}'; it is {cells.dtype}")
            cells = cells.struct.field(part)
        return cells.alias(self.theirs)


def select_json_field(cells: pl.Series, *path: str) -> pl.Series:
    """A field of JSON objects that stand as text; null where one has none."""
    return cells.str.json_path_match("$" + "".join(f"['{part}']" for part in path))


def list_mapped_columns(frame: pl.DataFrame, source: SourceConfig, table: Table) -> list[MappedColumn]:
    """Lists the columns of a frame that are read. Optional ones that a file lacks are not among them.

    Raises:
        UserError: the config names a column that the frame does not have.
    """
    mapped: list[MappedColumn] = []
    for ours in (*table.schema, LINE_TOTAL, EVENT_ID):
        theirs = source.columns.get(ours, ours)
        is_mapped = ours in source.columns
        if theirs is None or (not is_mapped and theirs not in frame.columns):
            continue
        if not is_mapped and ours in (LINE_TOTAL, EVENT_ID) and table.name != "events":
            continue
        name, dot, field = theirs.partition(".")
        if theirs in frame.columns:
            mapped.append(MappedColumn(ours, theirs, _tell_kind(ours, table)))
        elif dot and name in frame.columns:
            mapped.append(MappedColumn(ours, name, _tell_kind(ours, table), field))
        else:
            raise UserError(
                f"data.{table.name}.columns names column(s) {theirs} that '{source.uri}' does not have; "
                f"found: {', '.join(frame.columns)}"
            )
    return [column for column in mapped if not _is_replaced(column.ours, source)]


def _is_replaced(ours: str, source: SourceConfig) -> bool:
    """Whether the config gives the value otherwise."""
    if not isinstance(source, EventSourceConfig):
        return False
    return (ours == "timestamp" and source.order_column is not None) or (
        ours == "event_type" and source.event_type is not None
    )


def _tell_kind(ours: str, table: Table) -> ColumnKind:
    if ours == LINE_TOTAL:
        return "number"
    if ours.endswith("_id"):
        return "id"
    dtype = table.schema[ours]
    if dtype == UTC_TIME:
        return "time"
    return "number" if dtype.is_numeric() else "text"


def is_free_text(ours: str) -> bool:
    """Whether a column holds texts for people, which may be lists of parts."""
    return ours in _FREE_TEXTS
