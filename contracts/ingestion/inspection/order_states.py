"""What became of orders: their ids, their states, and columns that say more of them than is read."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

import polars as pl

from contracts.ingestion.config import IGNORED
from contracts.ingestion.inspection.column_names import (
    ORDER_ID_NAMES,
    ORDER_STATE_NAMES,
    VAGUE_TOTALS,
    list_short_names,
    shorten_name,
)
from contracts.ingestion.inspection.event_words import guess_order_state

_MAX_STATES: Final = 30
_MIN_ORDERS: Final = 3
"""Of fewer orders of several items nothing is said."""
_MOST_ORDERS: Final = 0.9
_NEAR: Final = 0.01
"""Relative difference of two amounts that are one."""
_TELLS_LOSS: Final = re.compile(
    r"cancel|refund|return|storn|void|chargeback|delet|fraud|sandbox|^(?:is|was)?test(?:order|mode)?$"
)
_SAYS_NO: Final = ("0", "0.0", "0.00", "0.0000", "false", "no", "n", "nein", "f")


def add_order_ids(mapping: dict[str, str], texts: Mapping[str, pl.Series]) -> None:
    """Takes the id of an order for that of an event where its lines stand at several times.

    An export of states (created, paid, shipped) holds each order more than once.
    """
    if "event_id" in mapping or not {"user_id", "item_id", "timestamp"} <= set(mapping):
        return
    name = find_order_id(texts)
    if name is None or name in mapping.values():
        return
    lines = pl.DataFrame(
        {"order": texts[name], **{ours: texts[mapping[ours]] for ours in ("user_id", "item_id", "timestamp")}}
    ).drop_nulls()
    counted = lines.group_by("order", "user_id", "item_id").agg(pl.len(), pl.col("timestamp").n_unique())
    num_told_again = (counted["timestamp"] > 1).sum()
    # Lines of one moment are units of one order: an id of the event would drop them.
    if num_told_again > ((counted["timestamp"] == 1) & (counted["len"] > 1)).sum():
        mapping["event_id"] = name


def leave_out_void_orders(
    event_types: dict[str, str], words: pl.Series, texts: Mapping[str, pl.Series]
) -> dict[str, str]:
    """Ignores types such as `cancelled` where they are the state of an order that stands nowhere else.

    As a return, such a row would take back an earlier order, which has another id.
    """
    name = find_order_id(texts)
    if name is None:
        return event_types
    read = pl.DataFrame({"order": texts[name], "word": words}).drop_nulls()
    meanings = pl.col("word").replace_strict(event_types, default=IGNORED)
    orders, returns = (read.filter(meanings == meaning) for meaning in ("order", "return"))
    num_known = int(returns["order"].is_in(orders["order"].implode()).sum())
    if 2 * num_known >= len(returns):
        return event_types
    return {word: IGNORED if ours == "return" else ours for word, ours in event_types.items()}


def find_order_id(texts: Mapping[str, pl.Series]) -> str | None:
    """The column that names an order; None where there is none."""
    return next((name for name in texts if set(list_short_names(name)) & set(ORDER_ID_NAMES)), None)


def find_order_states(texts: Mapping[str, pl.Series]) -> dict[str, dict[str, str]]:
    """Column -> its words and whether an order of this state counts: of the first column by whose words some
    do not. Empty where there is none."""
    named = [
        (ORDER_STATE_NAMES.index(short), name)
        for name in texts
        for short in list_short_names(name)[-1:]
        if short in ORDER_STATE_NAMES
    ]
    for _, name in sorted(named):
        words = texts[name].drop_nulls().unique(maintain_order=True)
        states = {word: guess_order_state(word) for word in words[: _MAX_STATES + 1]}
        if len(states) <= _MAX_STATES and IGNORED in states.values() and "order" in states.values():
            return {name: {word: state or IGNORED for word, state in states.items()}}
    return {}


def describe_unread_states(texts: Mapping[str, pl.Series], mapping: Mapping[str, str]) -> list[str]:
    """Says that a column tells of orders that came to nothing, where another one says what users did."""
    doubts = []
    for name, states in find_order_states(texts).items():
        if name not in mapping.values():
            void = [word for word, state in states.items() if state == IGNORED]
            num_rows = int(texts[name].is_in(void).sum())
            doubts.append(
                f"'{name}' says '{void[0]}' or the like in {num_rows:,} rows, and is not read: orders of "
                "these rows count. Leave them out by a query (`uri: duckdb:...`)"
            )
    return doubts


def is_order_total(name: str, mapping: Mapping[str, str], texts: Mapping[str, pl.Series]) -> bool:
    """Whether a column holds the total of a whole order, which stands on each of its lines."""
    order = find_order_id(texts)
    of_order = (
        {"order": texts[order]}
        if order
        else {ours: texts[mapping[ours]] for ours in ("user_id", "timestamp") if ours in mapping}
    )
    if "item_id" not in mapping or not of_order:
        return False
    lines = pl.DataFrame({"item": texts[mapping["item_id"]], "total": texts[name], **of_order}).drop_nulls()
    orders = lines.group_by(list(of_order)).agg(pl.col("item", "total").n_unique())
    of_several = orders.filter(pl.col("item") > 1)
    num_alike = int((of_several["total"] == 1).sum())
    return len(of_several) >= _MIN_ORDERS and num_alike >= _MOST_ORDERS * len(of_several)


class TotalDoubt(NamedTuple):
    """A column that may hold the totals of lines, and differs from price times quantity."""

    is_read: bool
    said: str


def doubt_total(name: str, mapping: Mapping[str, str], numbers: Mapping[str, pl.Series]) -> TotalDoubt | None:
    """Compares a column that may hold totals of lines with price times quantity; None where both agree, or
    where its name leaves no doubt.

    Args:
        name: of the column.
        mapping: our column -> theirs.
        numbers: our column -> [N] its numbers.
    """
    if not set(list_short_names(name)) & set(VAGUE_TOTALS) or not {"price", "quantity"} <= set(mapping):
        return None
    lines = pl.DataFrame({ours: numbers[ours] for ours in ("price", "quantity", "line_total")}).drop_nulls()
    lines = lines.filter((pl.col("price") > 0) & (pl.col("quantity") > 0))
    ratio = pl.col("line_total") / (pl.col("price") * pl.col("quantity"))
    others = lines.filter((ratio - 1).abs() > _NEAR)
    if 2 * len(others) <= len(lines):
        return None
    price, quantity, total = others.row(0)
    is_discounted = 2 * len(others.filter(ratio < 1)) > len(others)
    reading, remedy = (
        ("it is read as what was paid for the line", "leave it out with `columns: {line_total: null}`")
        if is_discounted
        else ("it is not read", f"map it with `columns: {{line_total: {name}}}`")
    )
    return TotalDoubt(
        is_discounted,
        f"'{name}' differs from price times quantity in {len(others):,} of {len(lines):,} rows, for example "
        f"{total:g} and {quantity:g} x {price:g}: {reading}. If that is wrong, {remedy}",
    )


def tells_loss(name: str) -> bool:
    """Whether a column is named like one that is filled where an order came to nothing."""
    return bool(_TELLS_LOSS.search(shorten_name(name)))


def list_order_doubts(texts: Mapping[str, pl.Series], mapping: Mapping[str, str]) -> list[str]:
    """Says which columns tell of orders that came to nothing and are not read."""
    doubts = []
    for name, cells in texts.items():
        if name in mapping.values() or not tells_loss(name):
            continue
        says_so = ~cells.str.to_lowercase().is_in(_SAYS_NO).fill_null(True)
        if num_rows := int(says_so.sum()):
            example = cells.filter(says_so)[0]
            doubts.append(
                f"'{name}' is filled in {num_rows:,} rows, for example with '{example}': these orders may "
                "have been cancelled, returned, deleted or made as tests, and count all the same. Leave them "
                'out by a query: `uri: "duckdb:select * from ... where ..."`'
            )
    return doubts
