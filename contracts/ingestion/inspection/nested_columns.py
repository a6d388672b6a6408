"""Columns that hold structures: their fields as columns, and what to do where cells are lists of rows."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final

import polars as pl

from contracts.ingestion.inspection.column_names import (
    EVENT_NAMES,
    FLAG_NAMES,
    ITEM_NAMES,
    ORDER_ID_NAMES,
    ORDER_NAMES,
    ORDER_STATE_NAMES,
    PURCHASE_NAMES,
    list_short_names,
    quote_name,
)
from contracts.ingestion.rows.column_mapping import select_json_field
from contracts.ingestion.values.cell_texts import is_money

_KNOWN_NAMES: Final = {
    *(name for names in (*EVENT_NAMES.values(), *ITEM_NAMES.values()) for name in names),
    *(*ORDER_ID_NAMES, *ORDER_STATE_NAMES, *ORDER_NAMES, *PURCHASE_NAMES, *FLAG_NAMES),
}
_MAX_DEPTH: Final = 3
_LOOKED_AT: Final = 200
_MOST_CELLS: Final = 0.8
_LOOKS_LIKE_VALUE: Final = re.compile(r"^[\d\s.,:/TZ+-]*\d[\d\s.,:/TZ+-]*(?:_\d+)?$")
_LISTS_ITEMS: Final = re.compile("item|product")
_LAID_OUT: Final = re.compile(r"\S {2,}\S|^\+-")
_NAMED_BY_PLACE: Final = re.compile(r"^column\d+$")


def expand_structures(sample: pl.DataFrame) -> pl.DataFrame:
    """A sample with the fields of its structures in their place, named `column.field` as a config names them.

    Structures are those of Parquet, and JSON objects that stand as text. Amounts with a currency stay.
    """
    return pl.DataFrame([c for name in sample.columns for c in _list_fields(sample[name], _MAX_DEPTH)])


def find_lists(sample: pl.DataFrame) -> str:
    """The first column whose cells are lists that may hold items; empty where there is none."""
    # Trackers list parameters, too: what is named like items comes first.
    for name in sorted(sample.columns, key=lambda name: not _LISTS_ITEMS.search(name.lower())):
        filled = sample[name].drop_nulls().head(_LOOKED_AT)
        if isinstance(filled.dtype, pl.List | pl.Array):
            if isinstance(filled.dtype.inner, pl.Struct) or "item" in name.lower():
                return name
        elif filled.dtype == pl.String and len(filled):
            num_lists = int(filled.str.contains(r'^\s*\[\s*[{\["\d]').sum())
            may_hold_items = "item" in name.lower() or filled.str.contains("{", literal=True).any()
            if num_lists > _MOST_CELLS * len(filled) and may_hold_items:
                return name
    return ""


def explain_missing_log(samples: Mapping[str, pl.DataFrame]) -> str:
    """Says why no file seems to be a log, where the files tell: a sentence for each reason."""
    hints = []
    for uri, sample in samples.items():
        num_values = sum(bool(_LOOKS_LIKE_VALUE.match(name)) for name in sample.columns)
        num_unnamed = sum(bool(_NAMED_BY_PLACE.match(name)) for name in sample.columns)
        if num_values >= 2 or num_values > len(sample.columns) / 2:
            hints.append(
                f"The first line of '{uri}' seems to be a row, not a header. Name its columns, for example "
                f"by a query: duckdb:select * from read_csv('{uri}', header = false, "
                "all_varchar = true, names = ['user_id', 'item_id', ...])"
            )
        elif len(sample.columns) == 1 and _LAID_OUT.search(sample.columns[0]):
            hints.append(
                f"The columns of '{uri}' are laid out for the eye, by blanks or drawn lines: export it with "
                "a separator, as CSV or with tabs"
            )
        elif len(sample.columns) == 1 or num_unnamed > len(sample.columns) / 2:
            hints.append(
                f"The first line of '{uri}' does not seem to be its header: remove the lines before the "
                "header, and lines that only draw a table"
            )
        if column := find_lists(sample):
            said = f"'{column}' of '{uri}' holds lists, and a log has a row for each entry: give the query "
            read = f"read_json_auto('{uri}')" if "json" in uri else f"'{uri}'"
            if sample[column].dtype == pl.String and "json" not in uri:
                hints.append(
                    f"{said}duckdb:select *, unnest(from_json({quote_name(column)}, '[\"varchar\"]')) as "
                    f"entry from {read} and map its fields, as in `item_id: entry.product_id`"
                )
                continue
            if "." in column:
                hints.append(f"{said}duckdb:select *, unnest({column}, recursive := true) from {read}")
                continue
            hints.append(
                f"{said}duckdb:select * exclude ({quote_name(column)}), unnest({quote_name(column)}, "
                f"recursive := true) from {read}"
            )
    hints += _explain_join(samples)
    return " ".join(f"{hint}." for hint in hints)


def _explain_join(samples: Mapping[str, pl.DataFrame]) -> Iterator[str]:
    names_users = {uri: names_any(sample, EVENT_NAMES["user_id"]) for uri, sample in samples.items()}
    names_items = {uri: names_any(sample, ITEM_NAMES["item_id"][:-1]) for uri, sample in samples.items()}
    for users_uri, has_user in names_users.items():
        for items_uri, has_item in names_items.items():
            shared = [name for name in samples[users_uri].columns if name in samples[items_uri].columns]
            if has_user and has_item and shared and users_uri != items_uri:
                yield (
                    f"'{users_uri}' names users, '{items_uri}' items, and both '{shared[0]}': join them, as "
                    f"in duckdb:select * from '{users_uri}' join '{items_uri}' using "
                    f"({quote_name(shared[0])})"
                )


def names_any(sample: pl.DataFrame, known: tuple[str, ...]) -> bool:
    """Whether a column is named like one of ours."""
    return any(set(list_short_names(name)) & set(known) for name in sample.columns)


def _list_fields(cells: pl.Series, depth: int) -> list[pl.Series]:
    """The fields of a structure that are named like ones of ours, or the column itself where none is.

    Each costs a look at the whole sample, and structures may have hundreds.
    """
    fields = _find_fields(cells) if depth else {}
    if not fields or is_money(list(fields)):
        return [cells]
    found = []
    for field, is_structure in fields.items():
        may_list_items = bool(_LISTS_ITEMS.search(field.lower()))
        is_known = bool(set(list_short_names(f"{cells.name}.{field}")) & _KNOWN_NAMES)
        if not (is_structure or is_known or may_list_items):
            continue
        values = (
            cells.struct.field(field)
            if isinstance(cells.dtype, pl.Struct)
            else select_json_field(cells, field)
        ).alias(f"{cells.name}.{field}")
        inner = _list_fields(values, depth - 1)
        lists_items = may_list_items and bool(find_lists(values.to_frame()))
        found += inner if is_known or lists_items or inner[0].name != values.name else []
    return found or [cells]


def _find_fields(cells: pl.Series) -> dict[str, bool]:
    """Field of a structure -> whether it holds one itself; empty where a column holds none."""
    if isinstance(cells.dtype, pl.Struct):
        kinds = {field.name: isinstance(field.dtype, pl.Struct) for field in cells.dtype.fields}
    elif cells.dtype == pl.String:
        kinds = _find_json_fields(cells.drop_nulls().head(_LOOKED_AT))
    else:
        return {}
    return {name: is_structure for name, is_structure in kinds.items() if "." not in name and "'" not in name}


def _find_json_fields(cells: pl.Series) -> dict[str, bool]:
    if int(cells.str.contains(r'^\s*\{\s*"').sum()) < max(_MOST_CELLS * len(cells), 1):
        return {}
    kinds: dict[str, bool] = {}
    for cell in cells:
        try:
            content = json.loads(cell)
        except ValueError:
            continue
        for name, value in content.items() if isinstance(content, dict) else ():
            kinds[name] = kinds.get(name, False) or isinstance(value, dict)
    return kinds
