"""Cells of any stored type as text, so that one rule for a meaning holds for every file format."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

import polars as pl

from contracts.errors import UserError

_QUOTED_PART: Final = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")
_LOOKS_LIKE_LIST: Final = r"""^\[\s*(?:\[\s*)?(?:["'].*["']\s*\]?\s*)?\]$"""
_ZEROS: Final = "\u0660\u06f0\u0966\u09e6\u0e50"
"""Of Arabic, Persian, Devanagari, Bengali and Thai digits."""
_PLAIN_CHARACTERS: Final = {
    **{chr(ord(zero) + digit): str(digit) for zero in _ZEROS for digit in range(10)},
    **{"\u066b": ".", "\u066c": ",", "\u2212": "-"},
}
"""Character -> the one of ASCII that means the same in numbers and times."""
_AMOUNT_FIELDS: Final = ("amount", "value", "price")
_TYPED_VALUE: Final = (
    r'^\{\s*"(?:S|N|string|int|long|float|double|\$oid|\$uuid|\$number(?:Int|Long|Decimal|Double))"\s*:'
    r'\s*"?([^"{}]*)"?\s*\}$'
)
"""A value beside its type, as DynamoDB, Avro's JSON and MongoDB write it: `{"S": "B07"}`."""
CURRENCY_FIELDS: Final = ("currency", "currency_code", "currencyCode")


def read_cells_as_text(values: pl.Series, *, separator: str = " ", column_name: str = "") -> pl.Series:
    """Cells as text.

    Whole numbers that are stored as floats keep their `.0`: whether it belongs to an id only the whole column
    can tell. Lists are joined; of lists of lists the first is taken. Binary is UTF-8, a UUID or hexadecimal.

    Args:
        values: of any type.
        separator: between the parts of a list.
        column_name: for the message.

    Raises:
        UserError: the cells are structures of several fields, of which none is plainly the value.
    """
    dtype = values.dtype
    if dtype == pl.String:
        return unwrap_values(values)
    if isinstance(dtype, pl.Struct):
        return read_cells_as_text(_take_field(values, column_name), separator=separator)
    if isinstance(dtype, pl.List | pl.Array):
        return _join_lists(values, separator, column_name)
    if dtype == pl.Binary:
        return _decode_cells(values)
    if dtype.is_float():
        # NaN is how floats say that there is no value.
        return values.fill_nan(None).cast(pl.Float64).cast(pl.String)
    if dtype == pl.Duration:
        raise UserError(f"column '{column_name or values.name}' holds durations; give moments or numbers")
    return values.cast(pl.String)


def unwrap_values(texts: pl.Series) -> pl.Series:
    """Texts without the type that some tools write beside a value."""
    if not texts.str.starts_with("{").any():
        return texts
    return texts.str.replace(_TYPED_VALUE, "$1")


def is_money(fields: Sequence[str]) -> bool:
    """Whether a structure of these fields is an amount, perhaps with its currency."""
    return bool(set(fields) & set(_AMOUNT_FIELDS)) and set(fields) <= {*_AMOUNT_FIELDS, *CURRENCY_FIELDS}


def take_amounts(texts: pl.Series) -> pl.Series:
    """Texts that are JSON objects of an amount (`{"amount": 9.5, "currency": "EUR"}`) as that amount."""
    is_object = texts.str.starts_with("{").fill_null(False)
    if not is_object.any():
        return texts
    amounts = texts.set(~is_object, None)
    found = [amounts.str.json_path_match(f"$.{name}") for name in _AMOUNT_FIELDS]
    amount = pl.select(pl.coalesce(found)).to_series()
    return amount.fill_null(texts).zip_with(is_object, texts).alias(texts.name)


def write_in_plain_characters(texts: pl.Series) -> pl.Series:
    """Texts with the digits and marks of ASCII in the place of full-width ones and those of other scripts."""
    return texts.str.normalize("NFKC").str.replace_many(_PLAIN_CHARACTERS)


def join_list_texts(texts: pl.Series, separator: str) -> pl.Series:
    """Texts that are lists written out (`["A", "B"]`, as JSON or Python write them) as their joined parts."""
    is_list = texts.str.contains(_LOOKS_LIKE_LIST).fill_null(False)
    if not is_list.any():
        return texts
    joined = [
        separator.join(_read_list(text)) if listed and text is not None else text
        for text, listed in zip(texts, is_list, strict=True)
    ]
    return pl.Series(texts.name, joined, pl.String)


def _read_list(text: str) -> Iterable[str]:
    try:
        parts = json.loads(text)
    except ValueError:
        # Python's way of writing a list. It is taken apart, never evaluated.
        first_list = text.split("]", 1)[0]
        return [single or double for single, double in _QUOTED_PART.findall(first_list)]
    if parts and isinstance(parts[0], list):
        parts = parts[0]
    return [str(part) for part in parts if part is not None]


def _take_field(values: pl.Series, column_name: str) -> pl.Series:
    field_names = [field.name for field in values.dtype.fields]  # type: ignore[attr-defined]
    for name in _AMOUNT_FIELDS if len(field_names) > 1 else field_names:
        if name in field_names:
            return values.struct.field(name)
    shown_name = column_name or values.name
    raise UserError(
        f"column '{shown_name}' holds structures with the fields {', '.join(field_names)}; "
        f"name the field that is meant, as in `{shown_name}: {shown_name}.{field_names[0]}`"
    )


def _join_lists(values: pl.Series, separator: str, column_name: str) -> pl.Series:
    inner_dtype = values.dtype.inner  # type: ignore[attr-defined]
    lists = values.cast(pl.List(inner_dtype))
    if isinstance(inner_dtype, pl.List | pl.Array):
        return _join_lists(lists.list.first(), separator, column_name)
    if isinstance(inner_dtype, pl.Struct):
        raise UserError(
            f"column '{column_name or values.name}' holds lists of structures; give a column of texts, or "
            f"leave it out with `{column_name or values.name}: null`"
        )
    parts = lists.cast(pl.List(pl.String)).list.drop_nulls()
    # An empty list says nothing.
    return parts.list.join(separator).set(parts.list.len() == 0, None)


def _decode_cells(values: pl.Series) -> pl.Series:
    decoded = pl.Series(values.name, [_decode(cell) for cell in values], pl.String)
    lengths = values.drop_nulls().bin.size()
    # Databases keep a UUID in sixteen bytes. Texts of that length are UTF-8, all of them.
    is_utf8 = decoded.drop_nulls().str.len_bytes() == lengths
    if len(lengths) and (lengths == 16).all() and not is_utf8.all():
        return pl.Series(values.name, [cell and str(UUID(bytes=cell)) for cell in values], pl.String)
    return decoded


def _decode(cell: bytes | None) -> str | None:
    if cell is None:
        return None
    try:
        return cell.decode("utf-8")
    except UnicodeDecodeError:
        return cell.hex()
