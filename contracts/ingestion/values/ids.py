"""Ids are text by meaning: `17841`, `17841.0`, `"17841"` and the float 17841.0 are one id.

Whether `.0` belongs to an id or to the way in which a tool stored it, the whole column says. So evidence is
collected of all cells first, of both tables where a column of each names the same things.
"""

from typing import Final, NamedTuple, Self

import polars as pl

from contracts.errors import UserError

_INTEGRAL: Final = r"^[+-]?\d+(?:\.0*)?$"
_TRAILING_ZEROS: Final = r"\.0*$"
_FRACTIONAL: Final = r"^[+-]?\d*\.\d*[1-9]\d*$"
_SCIENTIFIC: Final = r"^[+-]?(\d(?:[.,]\d+)?)[eE]\+?(\d{1,3})$"
_LARGEST_EXACT: Final = {"Float16": 2.0**11, "Float32": 2.0**24, "Float64": 2.0**53}
"""Beyond, a float of the type names no integer any more: neighbors share one value."""


class IdEvidence(NamedTuple):
    """What the cells of an id column look like."""

    num_values: int = 0
    num_integral: int = 0
    """`17841` or `17841.0`."""
    num_fractional: int = 0
    """`1.5`: then `1.0` is no whole number either."""
    num_scientific: int = 0
    """`1.7841e+04`."""

    def add(self, other: Self) -> "IdEvidence":
        """Evidence of both."""
        return IdEvidence(*(ours + theirs for ours, theirs in zip(self, other, strict=True)))

    @property
    def is_numeric(self) -> bool:
        """Whether numbers are stored here, so that `17841.0` is 17841."""
        return self.num_fractional == 0

    @property
    def has_only_numbers(self) -> bool:
        """Whether `1e5` is a number here, and not the beginning of a hash."""
        return self.num_integral + self.num_scientific == self.num_values


def collect_id_evidence(texts: pl.Series) -> IdEvidence:
    """Collects evidence of id cells, given as text without missing words."""
    cleaned = unquote(texts)
    return IdEvidence(
        cleaned.len() - cleaned.null_count(),
        *(int(cleaned.str.contains(p).sum()) for p in (_INTEGRAL, _FRACTIONAL, _SCIENTIFIC)),
    )


def refuse_inexact_ids(values: pl.Series, column_name: str) -> None:
    """Refuses a column whose ids were stored as floats too large to tell neighbors apart.

    Raises:
        UserError: a value is beyond; the message shows it.
    """
    if not values.dtype.is_float():
        return
    largest_exact = _LARGEST_EXACT[str(values.dtype)]
    beyond = values.filter((values.abs() > largest_exact).fill_null(False) & values.is_finite())
    if len(beyond):
        raise UserError(
            f"column '{column_name}' holds ids as {values.dtype} beyond {largest_exact:,.0f}, for example "
            f"{beyond[0]:.0f}: such floats name no single integer, and different ids have become one. "
            "Export the column as text or as 64-bit integers"
        )


def read_ids(texts: pl.Series, evidence: IdEvidence) -> pl.Series:
    """Ids in their one form.

    Args:
        texts: cells as text without missing words.
        evidence: of all cells of the column.

    Returns:
        Ids; null where the cell was null, or names no single id (scientific notation that has lost digits).
    """
    column = pl.col("id")
    unquoted = unquote(texts).to_frame("id")
    ids = column
    if evidence.is_numeric:
        whole = column.str.replace(r"^\+", "").str.replace(_TRAILING_ZEROS, "")
        ids = pl.when(column.str.contains(_INTEGRAL)).then(whole).otherwise(ids)
    if evidence.has_only_numbers and evidence.num_scientific:
        ids = pl.when(column.str.contains(_SCIENTIFIC)).then(_expand_scientific(column)).otherwise(ids)
    return unquoted.select(ids.alias(texts.name)).to_series()


def unquote(texts: pl.Series) -> pl.Series:
    """Texts without a pair of quotation marks around them and the blanks inside."""
    if not (texts.str.starts_with('"') | texts.str.starts_with("'")).any():
        return texts
    inner = texts.str.replace(r'^"\s*([^"]*?)\s*"$', "$1").str.replace(r"^'\s*([^']*?)\s*'$", "$1")
    # A lone one before digits is how spreadsheets mark text.
    return inner.str.replace(r"^'(\d+)$", "$1")


def _expand_scientific(column: pl.Expr) -> pl.Expr:
    mantissa = column.str.extract(_SCIENTIFIC, 1)
    exponent = column.str.extract(_SCIENTIFIC, 2).cast(pl.Int64)
    digits = mantissa.str.replace(r"[.,]", "")
    num_decimals = digits.str.len_chars() - 1
    # All digits are there only where the mantissa has one for each power of ten, or float's own seventeen.
    is_exact = (exponent == num_decimals) | ((exponent > num_decimals) & (exponent < 15) & (num_decimals < 5))
    is_rounded = (exponent >= 9) & (num_decimals <= 6) & (exponent > num_decimals)
    zeros = pl.lit("0").repeat_by((exponent - num_decimals).clip(0)).list.join("")
    return pl.when(is_exact & ~is_rounded).then(digits + zeros)
