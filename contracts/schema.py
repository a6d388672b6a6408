"""Table schemas: one object validates, types and documents a table.

A `Table` never drops a row in silence: `Table.validate` splits a frame into the rows that keep the contract and the
rows that break it, each of the latter with every reason spelled out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import polars as pl

from contracts.errors import UserError

UTC_TIME = pl.Datetime("us", "UTC")
"""The type of every time in every table: microseconds, UTC."""

Rule = Callable[[pl.Expr], pl.Expr]
"""Maps a column to a boolean expression that is true where the value keeps the rule."""


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    dtype: pl.DataType
    doc: str
    nullable: bool = False
    rules: Mapping[str, Rule] = field(default_factory=dict)
    """Reason shown to the user -> rule."""


class Validated(NamedTuple):
    """What `Table.validate` returns."""

    valid: pl.DataFrame
    """Rows that keep the contract, typed, in the schema's column order."""
    rejected: pl.DataFrame
    """Rows that break it, as they came, plus a `reasons` column (list of strings)."""


@dataclass(frozen=True)
class Table:
    """The contract of one table.

    Args of the constructor: `name`, the `key` columns (unique together), `columns`, and a `doc` line.
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    doc: str

    @property
    def schema(self) -> pl.Schema:
        """Column name -> Polars type."""
        return pl.Schema({column.name: column.dtype for column in self.columns})

    def empty(self) -> pl.DataFrame:
        """A frame of no rows with the table's types."""
        return pl.DataFrame(schema=self.schema)

    def validate(self, frame: pl.DataFrame) -> Validated:
        """Splits `frame` into rows that keep the contract and rows that break it.

        Columns the schema does not know are ignored; missing nullable columns are filled with null. Of rows that share
        a key the first is kept.

        Raises:
            UserError: a required column is missing, or a column's type cannot be converted at all.
        """
        typed = self._typed(frame)
        row = pl.int_range(pl.len(), dtype=pl.UInt32)
        reasons = typed.select(
            pl.concat_list(
                pl.when(pl.lit(broken)).then(pl.lit(reason)) for reason, broken in self._violations(frame, typed)
            ).list.drop_nulls()
        ).to_series()
        sound = reasons.list.len() == 0
        first = typed.select(*self.key, row.alias("row")).filter(sound).unique(self.key, keep="first")["row"]
        repeated = sound & ~typed.select(row.is_in(first.implode())).to_series()
        reason = pl.concat_list(pl.lit(f"duplicate key ({', '.join(self.key)})"))
        all_reasons = pl.select(reasons=pl.when(repeated).then(reason).otherwise(reasons)).to_series()
        kept = sound & ~repeated
        return Validated(typed.filter(kept), frame.with_columns(reasons=all_reasons).filter(~kept))

    def check(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Returns `frame` typed, for tables that the project itself writes.

        Raises:
            AssertionError: a row breaks the contract: an internal fault, not the user's.
        """
        result = self.validate(frame)
        assert result.rejected.is_empty(), f"{self.name}: {result.rejected.head(3).to_dicts()}"
        return result.valid

    def _typed(self, frame: pl.DataFrame) -> pl.DataFrame:
        missing = [c.name for c in self.columns if not c.nullable and c.name not in frame.columns]
        if missing:
            raise UserError(
                f"table '{self.name}': missing column(s) {', '.join(missing)}; found: {', '.join(frame.columns)}. "
                f"Map your column names in the config under data.{self.name}.columns."
            )
        return frame.select(
            pl.col(c.name).cast(c.dtype, strict=False)
            if c.name in frame.columns
            else pl.lit(None, dtype=c.dtype).alias(c.name)
            for c in self.columns
        )

    def _violations(self, raw: pl.DataFrame, typed: pl.DataFrame) -> list[tuple[str, pl.Series]]:
        found: list[tuple[str, pl.Series]] = []
        for column in self.columns:
            value = typed[column.name]
            given = raw[column.name].is_not_null() if column.name in raw.columns else value.is_not_null()
            found.append((f"{column.name}: not convertible to {column.dtype}", given & value.is_null()))
            if not column.nullable:
                found.append((f"{column.name}: missing", ~given))
            for reason, rule in column.rules.items():
                kept = typed.select(rule(pl.col(column.name))).to_series().fill_null(True)
                found.append((f"{column.name}: {reason}", ~kept))
        return found
