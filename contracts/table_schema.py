"""Table schemas: one object validates, types and documents a table.

A `Table` never drops a row in silence. `Table.validate_rows` splits a frame into rows that keep the
contract and rows that break it, each of the latter with every reason spelled out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, NamedTuple

import polars as pl

from contracts.errors import UserError

UTC_TIME = pl.Datetime("us", "UTC")
"""The type of every time in every table: microseconds, UTC."""
ONE_TICK: Final = timedelta(microseconds=1)
"""The least that two such times differ by."""

ColumnRule = Callable[[pl.Expr], pl.Expr]
"""Maps a column to a boolean expression that is true where the value keeps the rule."""


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    dtype: pl.DataType
    doc: str
    nullable: bool = False
    rules: Mapping[str, ColumnRule] = field(default_factory=dict)
    """Reason shown to the user -> rule."""


class ValidationResult(NamedTuple):
    """What `Table.validate_rows` returns."""

    valid: pl.DataFrame
    """Rows that keep the contract, typed, in the schema's column order."""
    rejected: pl.DataFrame
    """Rows that break it, as they came, plus a `reasons` column (list of strings)."""


def collect_reasons(violations: Sequence[tuple[str, pl.Series]], num_rows: int) -> pl.Series:
    """[N] the reasons for which each row is refused; an empty list for nearly all of them.

    Args:
        violations: reason, and [N] whether a row gives it.
        num_rows: N.
    """
    none = pl.Series("reasons", [[]], dtype=pl.List(pl.String))
    met = [(reason, is_broken) for reason, is_broken in violations if is_broken.any()]
    if not met:
        return none.new_from_index(0, num_rows)
    is_lost = pl.select(pl.any_horizontal(is_broken for _, is_broken in met)).to_series()
    # Lists are dear, so they are only made for the rows that are lost.
    lists = pl.select(
        pl.concat_list(
            pl.when(pl.lit(is_broken.filter(is_lost))).then(pl.lit(reason)) for reason, is_broken in met
        )
        .list.drop_nulls()
        .list.unique(maintain_order=True)
    ).to_series()
    places = is_lost.cast(pl.UInt32).cum_sum() * is_lost.cast(pl.UInt32)
    return pl.concat([none, lists.alias("reasons")]).gather(places)


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

    def create_empty(self) -> pl.DataFrame:
        """Creates a frame of no rows with the table's types."""
        return pl.DataFrame(schema=self.schema)

    def validate_rows(self, frame: pl.DataFrame) -> ValidationResult:
        """Splits `frame` into rows that keep the contract and rows that break it.

        Columns the schema does not know are ignored; missing nullable columns are filled with null. Of
        rows that share a key the first is kept.

        Raises:
            UserError: a required column is missing, or a column's type cannot be converted at all.
        """
        typed_frame = self._cast_columns(frame)
        reasons = collect_reasons(self._list_violations(frame, typed_frame), len(frame))
        keeps_rules = reasons.list.len() == 0
        # A broken row does not count as the first one of its key: the next sound row is kept.
        sound_rows = typed_frame.with_row_index("__row").filter(keeps_rules)
        repeated_rows = sound_rows.filter(~pl.struct(self.key).is_first_distinct())["__row"]
        repeats_key = pl.int_range(len(frame), eager=True).is_in(repeated_rows.implode())
        is_valid = keeps_rules & ~repeats_key
        if is_valid.all():
            return ValidationResult(typed_frame, frame.clear().with_columns(reasons.clear().alias("reasons")))
        repeat_reason = pl.concat_list(pl.lit(f"duplicate key ({', '.join(self.key)})"))
        all_reasons = pl.when(repeats_key).then(repeat_reason).otherwise(reasons)
        rejected = frame.with_columns(reasons=all_reasons).filter(~is_valid)
        return ValidationResult(typed_frame.filter(is_valid), rejected)

    def check_rows(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Returns `frame` typed, for tables that the project itself writes.

        Raises:
            AssertionError: a row breaks the contract: an internal fault, not the user's.
        """
        result = self.validate_rows(frame)
        assert result.rejected.is_empty(), f"{self.name}: {result.rejected.head(3).to_dicts()}"
        return result.valid

    def _cast_columns(self, frame: pl.DataFrame) -> pl.DataFrame:
        missing_columns = [c.name for c in self.columns if not c.nullable and c.name not in frame.columns]
        if missing_columns:
            raise UserError(
                f"table '{self.name}': missing column(s) {', '.join(missing_columns)}; "
                f"found: {', '.join(frame.columns)}. "
                f"Map your column names in the config under data.{self.name}.columns."
            )
        return frame.select(
            pl.col(c.name).cast(c.dtype, strict=False)
            if c.name in frame.columns
            else pl.lit(None, dtype=c.dtype).alias(c.name)
            for c in self.columns
        )

    def _list_violations(self, raw: pl.DataFrame, typed: pl.DataFrame) -> list[tuple[str, pl.Series]]:
        violations: list[tuple[str, pl.Series]] = []
        for column in self.columns:
            typed_values = typed[column.name]
            # What the user wrote counts: a value that the cast turned into null is not missing but wrong.
            source = raw if column.name in raw.columns else typed
            has_value = source[column.name].is_not_null()
            not_convertible = has_value & typed_values.is_null()
            violations.append((f"{column.name}: not convertible to {column.dtype}", not_convertible))
            if not column.nullable:
                violations.append((f"{column.name}: missing", ~has_value))
            for reason, rule in column.rules.items():
                keeps_rule = typed.select(rule(pl.col(column.name))).to_series().fill_null(True)
                violations.append((f"{column.name}: {reason}", ~keeps_rule))
        return violations
