"""Columns that say of some rows that they are no event of their own, and are not read."""

import re
from collections.abc import Mapping
from typing import Final

import polars as pl

from contracts.ingestion.inspection.column_names import list_short_names, quote_name, shorten_name
from contracts.ingestion.inspection.match_columns import read_best_numbers
from contracts.ingestion.inspection.order_states import find_order_states, tells_loss

_CHANGE_NAMES: Final = ("op", "operation", "changetype", "rowkind", "dmltype", "recordtype", "cdcoperation")
_FIRST_CHANGES: Final = ("c", "r", "i", "t", "insert", "create", "read", "+i", "+r")
_LATER_CHANGES: Final = (
    *("u", "d", "update", "delete", "upsert", "-u", "+u", "-d"),
    *("remove", "modify", "replace"),
)
"""Debezium, Flink, DynamoDB and MongoDB."""
_VOID_WORD: Final = (
    r"(?i)^(?:credit|refund|return|cancel|storn|gutschrift|avoir|chargeback|void|deleted?\b|test\b|rückgabe"
    r"|remboursement|devoluci|退货|退款|返品|возврат)"
)
_DISCOUNT: Final = r"discount|rabatt|remise|descuento|desconto|sconto|korting|скидк|折扣|優惠|割引|할인"
_MAX_WORDS: Final = 12
_ZONE_NAMES: Final = (
    "timezone",
    "tz",
    "tzname",
    "zone",
    "timezonename",
    "utcoffset",
    "tzoffset",
    "gmtoffset",
)
_SESSIONS: Final = ("sessionid", "session")
_MANY: Final = 0.5
_NAIVE_TIME: Final = r"\d:\d\d(?::\d\d(?:\.\d+)?)?(?: ?[AaPp][Mm])?$"


def list_row_doubts(mapping: Mapping[str, str], texts: Mapping[str, pl.Series]) -> list[str]:
    """Says what tells of rows that are changes, parts, voids or several items, a sentence each."""
    free = {name: cells for name, cells in texts.items() if name not in mapping.values()}
    doubts = [*_list_second_items(mapping, free), *_list_currencies(mapping, free)]
    if "price" in mapping and "line_total" not in mapping:
        doubts += _list_discounts(free)
    states = find_order_states(texts)
    for name, cells in free.items():
        short = shorten_name(name)
        num_filled = len(cells) - cells.null_count()
        if not num_filled:
            continue
        if short in _ZONE_NAMES:
            doubts += _doubt_zones(name, cells, texts.get(mapping.get("timestamp", "")))
        elif short in _CHANGE_NAMES:
            doubts += _doubt_changes(name, cells)
        elif re.search("parent.*(?:item|line)", short):
            doubts.append(
                f"'{name}' is filled in {num_filled:,} rows: they seem to be parts of other rows (bundles, "
                f"variants), and count beside these. Leave them out by a query: ... where {quote_name(name)} "
                "is null"
            )
        elif name not in states and not tells_loss(name):
            doubts += _doubt_words(name, cells)
    if set(list_short_names(mapping.get("user_id", ""))) & set(_SESSIONS):
        doubts.append(
            f"users are read from '{mapping['user_id']}': the visits of one person are users of their own, "
            "whose histories are short. Map a column of people, if there is one"
        )
    return doubts


def doubt_several_orders(
    event_types: Mapping[str, str], mapping: Mapping[str, str], texts: Mapping[str, pl.Series]
) -> list[str]:
    """Says that one purchase may write rows of several types, which all are read as orders."""
    orders = [word for word, ours in event_types.items() if ours == "order"]
    if len(orders) < 2 or not {"user_id", "item_id", "event_type"} <= set(mapping):
        return []
    rows = pl.DataFrame({ours: texts[mapping[ours]] for ours in ("user_id", "item_id", "event_type")})
    pairs = rows.filter(pl.col("event_type").is_in(orders)).drop_nulls().unique()
    words = pairs.group_by("user_id", "item_id").agg(pl.col("event_type").n_unique().alias("num_words"))
    if int((words["num_words"] > 1).sum()) <= _MANY * len(words):
        return []
    return [
        f"rows of the types {', '.join(orders)} are read as orders, and most users have several of them for "
        "one item: does a purchase write one of each? Then set all but one to `ignore` in `event_types`"
    ]


def _doubt_zones(name: str, cells: pl.Series, times: pl.Series | None) -> list[str]:
    if times is None or not times.str.contains(_NAIVE_TIME).any():
        return []
    return [
        f"'{name}' seems to name the zone of times ('{cells.drop_nulls()[0][:24]}'), and is not read: times "
        "that name none count as UTC. Set data.events.time_zone if all are of one zone, or convert them by a "
        "query"
    ]


def _doubt_changes(name: str, cells: pl.Series) -> list[str]:
    words = cells.drop_nulls().str.to_lowercase()
    if not set(words.unique()) <= {*_FIRST_CHANGES, *_LATER_CHANGES}:
        return []
    num_later = int(words.is_in(list(_LATER_CHANGES)).sum())
    if not num_later:
        return []
    return [
        f"'{name}' names changes of a database, {num_later:,} of them updates or deletions: all count as "
        "events of their own. Keep the last state of each by a query that ends with `qualify row_number() "
        "over (partition by <key> order by <time of change> desc) = 1`, and no deletion"
    ]


def _doubt_words(name: str, cells: pl.Series) -> list[str]:
    words = cells.drop_nulls().unique(maintain_order=True)
    is_void = words.str.contains(_VOID_WORD)
    if not (1 < len(words) <= _MAX_WORDS and is_void.any() and not is_void.all()):
        return []
    num_rows = int(cells.is_in(words.filter(is_void).implode()).sum())
    return [
        f"'{name}' says '{words.filter(is_void)[0]}' in {num_rows:,} rows, and is not read: these count like "
        "all others. Leave them out by a query, or map the column: `columns: {event_type: ...}`"
    ]


def _list_second_items(mapping: Mapping[str, str], free: Mapping[str, pl.Series]) -> list[str]:
    item = mapping.get("item_id", "")
    series = re.sub(r"\d+", "", item)
    seconds = [
        name
        for name, cells in free.items()
        if re.search(r"\d", name) and re.sub(r"\d+", "", name) == series and cells.null_count() < len(cells)
    ]
    if not seconds:
        return []
    return [
        f"'{seconds[0]}' holds further items of the rows of '{item}', and is not read: a log has a row for "
        "each item. A query makes them, with `union all by name`"
    ]


def _list_currencies(mapping: Mapping[str, str], free: Mapping[str, pl.Series]) -> list[str]:
    if not {"price", "line_total"} & set(mapping):
        return []
    doubts = []
    for name, cells in free.items():
        words = cells.drop_nulls().unique(maintain_order=True)
        if "currency" in shorten_name(name) and 1 < len(words) <= _MAX_WORDS:
            doubts.append(
                f"'{name}' holds {', '.join(words[:3])}: prices are added up as if they were in one currency"
            )
    return doubts


def _list_discounts(free: Mapping[str, pl.Series]) -> list[str]:
    doubts = []
    for name, cells in free.items():
        if re.search(_DISCOUNT, shorten_name(name)):
            amounts = read_best_numbers(cells, cells)
            if num_rows := int((amounts != 0).sum()):
                doubts.append(
                    f"'{name}' is not 0 in {num_rows:,} rows, and is not read: is the price what was paid, "
                    "or what it was before? Then subtract it by a query (`uri: duckdb:...`)"
                )
    return doubts
