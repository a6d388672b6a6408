"""Guesses which file is the catalogue and which the log, and which of their columns is which of ours."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import polars as pl

from contracts.errors import UserError
from contracts.ingestion.config import IGNORED
from contracts.ingestion.inspection.column_doubts import (
    keep_to_one_structure,
    leave_out_other_totals,
    list_misnamed,
    list_other_users,
    prefer_times_with_clock,
)
from contracts.ingestion.inspection.column_names import (
    EVENT_NAMES,
    FLAG_NAMES,
    ITEM_NAMES,
    ORDER_ID_NAMES,
    ORDER_NAMES,
    ORDER_STATE_NAMES,
    PURCHASE_NAMES,
    list_short_names,
    shorten_name,
)
from contracts.ingestion.inspection.event_words import guess_event_type, guess_order_state
from contracts.ingestion.inspection.match_columns import (
    MAX_EVENT_TYPES,
    add_fallback,
    find_product_column,
    find_separator,
    holds_event_words,
    match_names,
    read_texts,
)
from contracts.ingestion.inspection.order_states import (
    add_order_ids,
    describe_unread_states,
    find_order_states,
    leave_out_void_orders,
    list_order_doubts,
)
from contracts.ingestion.inspection.row_doubts import doubt_several_orders, list_row_doubts


class ColumnGuess(NamedTuple):
    """A column of the user's, and what it seems to be."""

    theirs: str
    ours: str | None
    """None: nothing that is used."""
    how_sure: str
    """`sure`, `likely` or empty."""
    filled_share: float
    examples: tuple[str, ...]


class TableGuess(NamedTuple):
    """A file, and what it seems to hold."""

    uri: str
    columns: Sequence[ColumnGuess]
    event_types: Mapping[str, str]
    """Their event type -> ours, `ignore` where it is not known."""
    event_type: str | None
    """The type of every event, where no column says it."""
    order_column: str | None
    """Holds an order, where no column holds a time."""
    category_separator: str | None
    is_log: bool
    doubts: Sequence[str] = ()
    """What a person should look at, a sentence each."""
    product_column: str | None = None
    """Names the product of a variant, whose row has no title of its own."""

    @property
    def mapping(self) -> dict[str, str]:
        """Our column -> theirs."""
        return {column.ours: column.theirs for column in self.columns if column.ours is not None}


def guess_table(uri: str, sample: pl.DataFrame, *, is_log: bool) -> TableGuess:
    """Guesses the columns of a sample.

    Args:
        uri: where it is from.
        sample: some rows.
        is_log: whether it is to be the log, or else the catalogue.
    """
    texts = {name: read_texts(sample[name]) for name in sample.columns}
    mapping = match_names(texts, sample, EVENT_NAMES if is_log else ITEM_NAMES)
    states: dict[str, dict[str, str]] = {}
    doubts: list[str] = []
    if is_log:
        states = _add_types(mapping, texts, sample)
        add_order_ids(mapping, texts)
        keep_to_one_structure(mapping, texts, sample)
        doubts = [*prefer_times_with_clock(mapping, texts, sample), *list_other_users(mapping, texts)]
        if not states:
            doubts += describe_unread_states(texts, mapping)
        doubts += [*leave_out_other_totals(mapping, texts, sample), *list_order_doubts(texts, mapping)]
        doubts += list_row_doubts(mapping, texts)
    doubts = [*list_misnamed(mapping, texts, EVENT_NAMES if is_log else ITEM_NAMES), *doubts]
    ours_of = {theirs: ours for ours, theirs in mapping.items()}
    columns = [
        ColumnGuess(
            name,
            ours_of.get(name),
            _tell_sureness(name, ours_of.get(name)),
            1 - cells.null_count() / max(len(cells), 1),
            tuple(cell[:24] for cell in cells.drop_nulls().unique(maintain_order=True)[:3]),
        )
        for name, cells in texts.items()
    ]
    event_types: dict[str, str] = {}
    event_type = order_column = separator = product_column = None
    if is_log:
        if "event_type" in mapping:
            words = texts[mapping["event_type"]].drop_nulls().unique(maintain_order=True)
            event_types = states.get(mapping["event_type"]) or _guess_types(mapping["event_type"], words)
            doubts += doubt_several_orders(event_types, mapping, texts)
            event_types = leave_out_void_orders(event_types, texts[mapping["event_type"]], texts)
        else:
            _refuse_flags(uri, texts)
            event_type = "order" if _holds_purchases(mapping, texts) else "click"
        if "timestamp" not in mapping:
            order_column = _find_order_column(texts, mapping)
            columns = [c._replace(ours=None) if c.theirs == order_column else c for c in columns]
    else:
        product_column = find_product_column(mapping, texts)
    if not is_log and "category" in mapping:
        separator = find_separator(sample[mapping["category"]], texts[mapping["category"]])
    return TableGuess(
        uri, columns, event_types, event_type, order_column, separator, is_log, doubts, product_column
    )


def tell_is_log(sample: pl.DataFrame) -> bool:
    """Whether a file is a log: it names users and items."""
    short = {short for name in sample.columns for short in list_short_names(name)}
    has_user = bool(short & set(EVENT_NAMES["user_id"]))
    has_item = bool(short & set(ITEM_NAMES["item_id"]))
    return has_user and has_item


def find_unread_times(log: TableGuess) -> str:
    """Says which column is named like times but holds none that can be read."""
    for column in log.columns:
        if shorten_name(column.theirs) in EVENT_NAMES["timestamp"] and column.examples:
            said = f" '{column.theirs}' is named like one, but holds '{column.examples[0]}'."
            if {"year", "month", "day"} <= {other.theirs for other in log.columns}:
                said += (
                    " A query makes one of three: make_date(year::int, month::int, day::int) as timestamp."
                )
            return said
    return ""


def _add_types(
    mapping: dict[str, str], texts: Mapping[str, pl.Series], sample: pl.DataFrame
) -> dict[str, dict[str, str]]:
    """Maps the column that says what users did, if none has such a name: the states of orders, or words for
    events, or a column of that name of which someone must say what its words mean.

    Returns:
        The column of states, if it is that, and what its words mean.
    """
    if "event_type" in mapping:
        return {}
    states = find_order_states(texts) if _holds_purchases(mapping, texts) else {}
    for name in states:
        mapping["event_type"] = name
        return states
    add_fallback(mapping, "event_type", holds_event_words, texts, sample)
    for name, cells in texts.items():
        is_named = set(list_short_names(name)) & set(EVENT_NAMES["event_type"])
        is_free = "event_type" not in mapping and name not in mapping.values()
        if is_named and is_free and 1 < cells.drop_nulls().n_unique() <= MAX_EVENT_TYPES:
            mapping["event_type"] = name
    return {}


def _guess_types(name: str, words: pl.Series) -> dict[str, str]:
    """What the words of a column mean. Those of a column of states are states of orders, too."""
    is_state = bool(set(list_short_names(name)) & set(ORDER_STATE_NAMES))
    return {
        word: guess_event_type(word) or (guess_order_state(word) if is_state else None) or IGNORED
        for word in words[:MAX_EVENT_TYPES]
    }


def _holds_purchases(mapping: Mapping[str, str], texts: Mapping[str, pl.Series]) -> bool:
    """Whether a log without types of events is one of orders."""
    tells_purchase = {*PURCHASE_NAMES, *ORDER_ID_NAMES} & {
        short for name in texts for short in list_short_names(name)
    }
    return bool({"quantity", "line_total", "price"} & set(mapping) or tells_purchase)


def _refuse_flags(uri: str, texts: Mapping[str, pl.Series]) -> None:
    """Refuses a log that says what users did by columns of 0 and 1: each row would count as a click.

    Raises:
        UserError: it names the columns, and how to make rows of them.
    """
    flags = [
        name
        for name, cells in texts.items()
        if shorten_name(name) in FLAG_NAMES
        and set(cells.str.to_lowercase().drop_nulls().unique())
        in ({"0", "1"}, {"true", "false"}, {"0.0", "1.0"})
    ]
    if flags:
        raise UserError(
            f"'{uri}' says by 0 and 1 what users did ({', '.join(flags)}), and a log has a row for each "
            "event. Give its events as a query: all rows with the type impression, `union all` those where "
            f"{flags[0]} is 1 with the type that it stands for"
        )


def _find_order_column(texts: Mapping[str, pl.Series], mapping: Mapping[str, str]) -> str | None:
    for name, cells in texts.items():
        is_free = name not in mapping.values() or mapping.get("position") == name
        if is_free and shorten_name(name) in ORDER_NAMES:
            numbers = cells.cast(pl.Float64, strict=False)
            if numbers.null_count() == cells.null_count():
                return name
    return None


def _tell_sureness(theirs: str, ours: str | None) -> str:
    if ours is None:
        return ""
    return "sure" if shorten_name(ours) in list_short_names(theirs) else "likely"
