"""Columns that are named like one of ours and hold something else, or less than another one."""

from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl

from contracts.ingestion.inspection.column_names import (
    EVENT_NAMES,
    list_short_names,
    quote_name,
    shorten_name,
)
from contracts.ingestion.inspection.match_columns import MOST_CELLS, fits_name, match_names, read_best_numbers
from contracts.ingestion.inspection.order_states import doubt_total, is_order_total

_BUYER_WORDS: Final = ("customer", "client", "buyer", "kunde", "cliente", "member")
_MANY_TIMES: Final = 5
_MANY_EMPTY: Final = 0.05
_MOMENT: Final = r"\d[ T]\d{1,2}:\d\d|^\d{10}(?:\d{3}){0,3}(?:\.\d+)?$"


def leave_out_other_totals(
    mapping: dict[str, str], texts: Mapping[str, pl.Series], sample: pl.DataFrame
) -> list[str]:
    """Takes out a column of totals that seem to be those of whole orders; says so."""
    name = mapping.get("line_total")
    if name is None:
        return []
    if is_order_total(name, mapping, texts):
        del mapping["line_total"]
        return [
            f"'{name}' is the same on all lines of an order: it seems to be the total of the whole order, "
            "and is not read as that of a line"
        ]
    compared = ("price", "quantity", "line_total")
    numbers: dict[str, pl.Series] = {
        ours: read_best_numbers(texts[mapping[ours]], sample[mapping[ours]])
        for ours in compared
        if ours in mapping
    }
    if _counts_units(name, numbers):
        mapping["quantity"] = mapping.pop("line_total")
        return [
            f"'{name}' holds whole numbers, mostly below '{mapping['price']}': it is read as units. If it is "
            f"money, map it with `columns: {{line_total: {name}, quantity: null}}`"
        ]
    doubt = doubt_total(name, mapping, numbers)
    if doubt and not doubt.is_read:
        del mapping["line_total"]
    return [doubt.said] if doubt else []


def _counts_units(name: str, numbers: Mapping[str, pl.Series]) -> bool:
    """Whether a column that is named like money counts units: nobody pays less than the price."""
    if shorten_name(name) != "amount" or "quantity" in numbers or "price" not in numbers:
        return False
    lines = pl.DataFrame({"amount": numbers["line_total"], "price": numbers["price"]}).drop_nulls()
    is_whole = (lines["amount"] == lines["amount"].round()).all()
    return bool(is_whole and 2 * int((lines["amount"] < lines["price"]).sum()) > len(lines))


def keep_to_one_structure(
    mapping: dict[str, str], texts: Mapping[str, pl.Series], sample: pl.DataFrame
) -> None:
    """Takes the time of the structure that names user and item, where it has one.

    Another one is that of the tool that wrapped the event.
    """
    prefixes = {mapping.get(ours, "").rpartition(".")[0] for ours in ("user_id", "item_id")}
    if len(prefixes) != 1 or not all(prefixes):
        return
    prefix = prefixes.pop() + "."
    inner = {name: texts[name] for name in texts if name.startswith(prefix)}
    times = match_names(inner, sample, {"timestamp": EVENT_NAMES["timestamp"]})
    mapping.update(times)


def prefer_times_with_clock(
    mapping: dict[str, str], texts: Mapping[str, pl.Series], sample: pl.DataFrame
) -> list[str]:
    """Takes a column of times in the place of one of days alone; says so where its name does not tell."""
    days = mapping.get("timestamp")
    if days is None or texts[days].str.contains(r"\d:\d|^\d{9,}").any():
        return []
    for name, cells in texts.items():
        has_clock = cells.str.contains(_MOMENT).any()
        if name not in mapping.values() and has_clock and fits_name("timestamp", cells, sample[name]):
            if set(list_short_names(name)) & set(EVENT_NAMES["timestamp"]):
                mapping["timestamp"] = name
                return []
            return [
                f"'{days}' holds days alone, '{name}' times: if that is when it happened, map it with "
                f"`columns: {{timestamp: {name}}}`"
            ]
    return []


def list_other_users(mapping: Mapping[str, str], texts: Mapping[str, pl.Series]) -> list[str]:
    """Says which column names users where the one that is read is empty, or names who sold."""
    theirs = mapping.get("user_id")
    if theirs is not None and (buyers := _find_buyers(theirs, texts)):
        num_users, num_buyers = texts[theirs].n_unique(), texts[buyers].n_unique()
        return [
            f"'{theirs}' holds {num_users:,} users, '{buyers}' {num_buyers:,}: does the first name who sold? "
            f"Then map the other with `columns: {{user_id: {buyers}}}`"
        ]
    if theirs is None or texts[theirs].null_count() < _MANY_EMPTY * len(texts[theirs]):
        return []
    is_empty = texts[theirs].is_null()
    for name in texts:
        is_named = set(list_short_names(name)) & set(EVENT_NAMES["user_id"])
        others = texts[name].filter(is_empty)
        if is_named and name != theirs and others.null_count() < (1 - MOST_CELLS) * len(others):
            return [
                f"'{theirs}' is empty in {int(is_empty.sum()):,} rows in which '{name}' is not: a query "
                f"keeps them, as in `select * replace (coalesce({quote_name(theirs)}, {quote_name(name)}) as "
                f"{quote_name(theirs)})`"
            ]
    return []


def _find_buyers(theirs: str, texts: Mapping[str, pl.Series]) -> str | None:
    """A column of customers with many times as many ids as the one of users; None where there is none."""
    for name, cells in texts.items():
        is_named = any(short.startswith(_BUYER_WORDS) for short in list_short_names(name))
        is_filled = cells.null_count() < (1 - MOST_CELLS) * len(cells)
        if name == theirs or not (is_named and is_filled):
            continue
        is_id = bool(set(list_short_names(name)) & set(EVENT_NAMES["user_id"]))
        if is_id and cells.n_unique() > _MANY_TIMES * texts[theirs].n_unique():
            return name
    return None


def list_misnamed(
    mapping: Mapping[str, str], texts: Mapping[str, pl.Series], known_names: Mapping[str, Sequence[str]]
) -> list[str]:
    """Says which columns are named like one of ours, hold something else, and are not read."""
    return [
        f"'{name}' is named like {ours}, but holds '{cells.drop_nulls()[0][:24]}', and is not read"
        for name, cells in texts.items()
        for ours in ("quantity", "price", "line_total")
        if ours in known_names
        and ours not in mapping
        and name not in mapping.values()
        and cells.null_count() < len(cells)
        and shorten_name(name) in known_names[ours]
        and not fits_name(ours, cells, cells)
    ]
