"""Guesses which file is the catalogue and which the log, and which of their columns is which of ours."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import polars as pl

from contracts.errors import UserError
from contracts.ingestion.config import IGNORED
from contracts.ingestion.inspection.column_names import (
    EVENT_NAMES,
    FLAG_NAMES,
    ITEM_NAMES,
    ORDER_ID_NAMES,
    ORDER_NAMES,
    PURCHASE_NAMES,
    guess_event_type,
    shorten_name,
)
from contracts.ingestion.values.cell_texts import read_cells_as_text
from contracts.ingestion.values.missing_words import MISSING_WORDS, drop_missing_words
from contracts.ingestion.values.numbers import read_numbers
from contracts.ingestion.values.times import make_time_rules, read_times
from contracts.tables import EARLIEST_TIME, SCENES

_MOST_CELLS: Final = 0.8
"""Share of the filled cells that must be readable for a column to be taken."""
_MAX_EVENT_TYPES: Final = 30
_CLOCK: Final = r"^\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?[AaPp]\.?[Mm]\.?)?$"
_MIDNIGHT: Final = r"\b0?0:00(?::00(?:\.0+)?)?\b"
_NUMBERS: Final = ("price", "quantity", "line_total", "position", "propensity")
_TIMES: Final = ("timestamp", "available_at")


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
    texts = {name: _read_texts(sample[name]) for name in sample.columns}
    mapping = _match_names(texts, sample, EVENT_NAMES if is_log else ITEM_NAMES)
    if is_log:
        _add_unknown_types(mapping, texts)
        _add_order_ids(mapping, texts)
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
    event_type = order_column = separator = None
    if is_log:
        if "event_type" in mapping:
            words = texts[mapping["event_type"]].drop_nulls().unique(maintain_order=True)
            event_types = {word: guess_event_type(word) or IGNORED for word in words[:_MAX_EVENT_TYPES]}
            event_types = _leave_out_void_orders(event_types, texts[mapping["event_type"]], texts)
        else:
            _refuse_flags(uri, texts)
            tells_purchase = {shorten_name(name) for name in texts} & set(PURCHASE_NAMES)
            is_purchase = {"quantity", "line_total", "price"} & set(mapping) or tells_purchase
            event_type = "order" if is_purchase else "click"
        if "timestamp" not in mapping:
            order_column = _find_order_column(texts, mapping)
            columns = [c._replace(ours=None) if c.theirs == order_column else c for c in columns]
    elif "category" in mapping:
        separator = _find_separator(sample[mapping["category"]], texts[mapping["category"]])
    return TableGuess(uri, columns, event_types, event_type, order_column, separator)


def tell_is_log(sample: pl.DataFrame) -> bool:
    """Whether a file is a log: it names users and items."""
    short = {shorten_name(name) for name in sample.columns}
    has_user = bool(short & set(EVENT_NAMES["user_id"]))
    has_item = bool(short & set(ITEM_NAMES["item_id"]))
    return has_user and has_item


def find_unread_times(log: TableGuess) -> str:
    """Says which column is named like times but holds none that can be read."""
    for column in log.columns:
        if shorten_name(column.theirs) in EVENT_NAMES["timestamp"] and column.examples:
            return f" '{column.theirs}' is named like one, but holds '{column.examples[0]}'."
    return ""


def refuse_split_times(log: TableGuess, sample: pl.DataFrame) -> None:
    """Refuses days in one column and the clock in another: all events of a day would stand at midnight.

    Raises:
        UserError: the message has the query that joins them.
    """
    day_column = log.mapping.get("timestamp")
    if day_column is None:
        return
    days = _read_texts(sample[day_column]).drop_nulls()
    if days.str.contains(r"\d:\d\d").any() and not days.str.contains(_MIDNIGHT).all():
        return
    for column in log.columns:
        clocks = _read_texts(sample[column.theirs]).drop_nulls()
        num_clocks = int(clocks.str.contains(_CLOCK).sum())
        if column.ours is None and len(clocks) and num_clocks >= _MOST_CELLS * len(clocks):
            raise UserError(
                f"'{log.uri}': '{day_column}' holds days and '{column.theirs}' the clock. Give both as one "
                f"column by a query (`uri: duckdb:...`): {day_column} || ' ' || {column.theirs} as timestamp"
            )


def _match_names(
    texts: Mapping[str, pl.Series], sample: pl.DataFrame, known_names: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """Our column -> theirs: the best name whose cells fit."""
    mapping: dict[str, str] = {}
    taken: set[str] = set()
    candidates = sorted(
        (known.index(shorten_name(theirs)), ours, theirs)
        for ours, known in known_names.items()
        for theirs in texts
        if shorten_name(theirs) in known
    )
    for _, ours, theirs in candidates:
        if ours not in mapping and theirs not in taken and _fits(ours, texts[theirs], sample[theirs]):
            mapping[ours] = theirs
            taken.add(theirs)
    for ours, fits in _FALLBACKS.items():
        if ours in known_names and ours not in mapping:
            free = (name for name in texts if name not in mapping.values())
            found = next((name for name in free if fits(texts[name], sample[name])), None)
            if found is not None:
                mapping[ours] = found
    if "title" not in mapping and "description" in mapping:
        # A title is needed, and many shops call it a description.
        mapping["title"] = mapping.pop("description")
    return mapping


def _add_unknown_types(mapping: dict[str, str], texts: Mapping[str, pl.Series]) -> None:
    """Maps a column that is named like event types, though none of its words is known: someone must say."""
    if "event_type" in mapping:
        return
    for name, cells in texts.items():
        is_named = shorten_name(name) in EVENT_NAMES["event_type"] and name not in mapping.values()
        if is_named and 1 < cells.drop_nulls().n_unique() <= _MAX_EVENT_TYPES:
            mapping["event_type"] = name
            return


def _add_order_ids(mapping: dict[str, str], texts: Mapping[str, pl.Series]) -> None:
    """Takes the id of an order for that of an event where its lines stand at several times.

    An export of states (created, paid, shipped) holds each order more than once.
    """
    if "event_id" in mapping or not {"user_id", "item_id", "timestamp"} <= set(mapping):
        return
    name = _find_order_id(texts)
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


def _leave_out_void_orders(
    event_types: dict[str, str], words: pl.Series, texts: Mapping[str, pl.Series]
) -> dict[str, str]:
    """Ignores types such as `cancelled` where they are the state of an order that stands nowhere else.

    As a return, such a row would take back an earlier order, which has another id.
    """
    name = _find_order_id(texts)
    if name is None:
        return event_types
    read = pl.DataFrame({"order": texts[name], "word": words}).drop_nulls()
    meanings = pl.col("word").replace_strict(event_types, default=IGNORED)
    orders, returns = (read.filter(meanings == meaning) for meaning in ("order", "return"))
    num_known = int(returns["order"].is_in(orders["order"].implode()).sum())
    if 2 * num_known >= len(returns):
        return event_types
    return {word: IGNORED if ours == "return" else ours for word, ours in event_types.items()}


def _find_order_id(texts: Mapping[str, pl.Series]) -> str | None:
    return next((name for name in texts if shorten_name(name) in ORDER_ID_NAMES), None)


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


def _fits(ours: str, texts: pl.Series, cells: pl.Series) -> bool:
    num_filled = len(texts) - texts.null_count()
    if not num_filled:
        return False
    if ours in _NUMBERS:
        numbers = cells if cells.dtype.is_numeric() else _count_best_numbers(texts)
        return (len(numbers) - numbers.null_count()) >= _MOST_CELLS * num_filled
    if ours in _TIMES:
        is_plain = cells.dtype.is_numeric() or cells.dtype.is_temporal()
        rules = make_time_rules(unit="auto", zone="UTC", day_first=True, earliest=EARLIEST_TIME)
        moments = read_times(cells if is_plain else texts, rules)
        moments_month_first = read_times(cells if is_plain else texts, rules._replace(day_first=False))
        num_read = len(texts) - min(moments.null_count(), moments_month_first.null_count())
        return num_read >= _MOST_CELLS * num_filled
    if ours == "event_type":
        words = texts.drop_nulls().unique()
        return len(words) <= _MAX_EVENT_TYPES and any(guess_event_type(word) for word in words)
    if ours == "scene":
        return set(texts.drop_nulls().unique()) <= set(SCENES)
    return True


def _holds_event_words(texts: pl.Series, _: pl.Series) -> bool:
    words = texts.drop_nulls().unique()
    known = [word for word in words[: _MAX_EVENT_TYPES + 1] if guess_event_type(word)]
    return 0 < len(words) <= _MAX_EVENT_TYPES and 2 * len(known) >= len(words)


def _holds_times(texts: pl.Series, cells: pl.Series) -> bool:
    return _fits("timestamp", texts, cells)


def _holds_paths(texts: pl.Series, cells: pl.Series) -> bool:
    """Whether cells are paths of a few words that many items share."""
    filled = texts.drop_nulls()
    is_shared = filled.n_unique() <= len(filled) / 2
    is_address = filled.str.contains("://", literal=True).any()
    return len(filled) > 0 and is_shared and not is_address and _find_separator(cells, texts) is not None


_FALLBACKS: Final[dict[str, Callable[[pl.Series, pl.Series], bool]]] = {
    "event_type": _holds_event_words,
    "timestamp": _holds_times,
    "category": _holds_paths,
}
"""Columns that their cells tell, whatever their name."""


def _count_best_numbers(texts: pl.Series) -> pl.Series:
    """Numbers under the decimal mark that reads most cells."""
    return min((read_numbers(texts, mark) for mark in (".", ",")), key=lambda numbers: numbers.null_count())


def _find_order_column(texts: Mapping[str, pl.Series], mapping: Mapping[str, str]) -> str | None:
    for name, cells in texts.items():
        is_free = name not in mapping.values() or mapping.get("position") == name
        if is_free and shorten_name(name) in ORDER_NAMES:
            numbers = cells.cast(pl.Float64, strict=False)
            if numbers.null_count() == cells.null_count():
                return name
    return None


def _find_separator(cells: pl.Series, texts: pl.Series) -> str | None:
    """What divides the levels of a category, where most cells hold it."""
    if isinstance(cells.dtype, pl.List | pl.Array):
        return None
    filled = texts.drop_nulls()
    for separator in (" > ", ">", "|", " / ", "/", ";", ","):
        has_separator = filled.str.contains(separator, literal=True).sum()
        if has_separator >= _MOST_CELLS * max(len(filled), 1) and not filled.str.starts_with("[").any():
            return None if separator == " > " else separator
    return None


def _tell_sureness(theirs: str, ours: str | None) -> str:
    if ours is None:
        return ""
    return "sure" if shorten_name(theirs) == shorten_name(ours) else "likely"


def _read_texts(cells: pl.Series) -> pl.Series:
    try:
        texts = read_cells_as_text(cells)
    except UserError:
        texts = pl.Series(cells.name, [None if cell is None else str(cell) for cell in cells], pl.String)
    return texts.to_frame("text").select(drop_missing_words(pl.col("text"), MISSING_WORDS)).to_series()
