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
    list_short_names,
    shorten_name,
)
from contracts.ingestion.inspection.event_words import guess_event_type
from contracts.ingestion.inspection.order_states import (
    add_order_ids,
    doubt_total,
    find_order_states,
    is_order_total,
    leave_out_void_orders,
    list_order_doubts,
)
from contracts.ingestion.values.cell_texts import read_cells_as_text, take_amounts
from contracts.ingestion.values.missing_words import MISSING_WORDS, drop_missing_words
from contracts.ingestion.values.numbers import read_numbers
from contracts.ingestion.values.times import make_time_rules, read_times
from contracts.tables import EARLIEST_TIME, SCENES

_MOST_CELLS: Final = 0.8
"""Share of the filled cells that must be readable for a column to be taken."""
_MAX_EVENT_TYPES: Final = 30
_CLOCK: Final = r"^\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?[AaPp]\.?[Mm]\.?)?$"
_MIDNIGHT: Final = r"\b0?0:00(?::00(?:\.0+)?)?\b"
_NUMBERS: Final = ("price", "quantity", "returned", "line_total", "position", "propensity")
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
    is_log: bool
    doubts: Sequence[str] = ()
    """What a person should look at, a sentence each."""

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
    states: dict[str, dict[str, str]] = {}
    doubts: list[str] = []
    if is_log:
        states = _add_types(mapping, texts, sample)
        add_order_ids(mapping, texts)
        _keep_to_one_structure(mapping, texts, sample)
        doubts = [*_leave_out_other_totals(mapping, texts, sample), *list_order_doubts(texts, mapping)]
    doubts = [*_list_misnamed(mapping, texts, EVENT_NAMES if is_log else ITEM_NAMES), *doubts]
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
            event_types = states.get(mapping["event_type"]) or {
                word: guess_event_type(word) or IGNORED for word in words[:_MAX_EVENT_TYPES]
            }
            event_types = leave_out_void_orders(event_types, texts[mapping["event_type"]], texts)
        else:
            _refuse_flags(uri, texts)
            event_type = "order" if _holds_purchases(mapping, texts) else "click"
        if "timestamp" not in mapping:
            order_column = _find_order_column(texts, mapping)
            columns = [c._replace(ours=None) if c.theirs == order_column else c for c in columns]
    elif "category" in mapping:
        separator = _find_separator(sample[mapping["category"]], texts[mapping["category"]])
    return TableGuess(uri, columns, event_types, event_type, order_column, separator, is_log, doubts)


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
        (known.index(short), theirs.count("."), ours, theirs)
        for ours, known in known_names.items()
        for theirs in texts
        for short in list_short_names(theirs)
        if short in known
    )
    for _, _, ours, theirs in candidates:
        if ours not in mapping and theirs not in taken and _fits(ours, texts[theirs], sample[theirs]):
            mapping[ours] = theirs
            taken.add(theirs)
    for ours, fits in _FALLBACKS.items():
        if ours in known_names and ours not in mapping:
            _add_fallback(mapping, ours, fits, texts, sample)
    if "title" not in mapping and "description" in mapping:
        # A title is needed, and many shops call it a description.
        mapping["title"] = mapping.pop("description")
    return mapping


def _add_fallback(
    mapping: dict[str, str],
    ours: str,
    fits: Callable[[pl.Series, pl.Series], bool],
    texts: Mapping[str, pl.Series],
    sample: pl.DataFrame,
) -> None:
    """Maps the first free column whose cells tell what it is."""
    # The number of an order may look like a day, and like anything else.
    free = (n for n in texts if n not in mapping.values() and shorten_name(n) not in ORDER_ID_NAMES)
    found = next((name for name in free if fits(texts[name], sample[name])), None)
    if found is not None:
        mapping[ours] = found


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
    _add_fallback(mapping, "event_type", _holds_event_words, texts, sample)
    for name, cells in texts.items():
        is_named = set(list_short_names(name)) & set(EVENT_NAMES["event_type"])
        is_free = "event_type" not in mapping and name not in mapping.values()
        if is_named and is_free and 1 < cells.drop_nulls().n_unique() <= _MAX_EVENT_TYPES:
            mapping["event_type"] = name
    return {}


def _holds_purchases(mapping: Mapping[str, str], texts: Mapping[str, pl.Series]) -> bool:
    """Whether a log without types of events is one of orders."""
    tells_purchase = {*PURCHASE_NAMES, *ORDER_ID_NAMES} & {
        short for name in texts for short in list_short_names(name)
    }
    return bool({"quantity", "line_total", "price"} & set(mapping) or tells_purchase)


def _leave_out_other_totals(
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
        ours: _read_best_numbers(texts[mapping[ours]], sample[mapping[ours]])
        for ours in compared
        if ours in mapping
    }
    doubt = doubt_total(name, mapping, numbers)
    if doubt and not doubt.is_read:
        del mapping["line_total"]
    return [doubt.said] if doubt else []


def _keep_to_one_structure(
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
    times = _match_names(inner, sample, {"timestamp": EVENT_NAMES["timestamp"]})
    mapping.update(times)


def _list_misnamed(
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
        and not _fits(ours, cells, cells)
    ]


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
        numbers = _read_best_numbers(texts, cells)
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
    """Whether cells are times by any name. Small numbers are not: they may count anything."""
    is_small = texts.str.contains(r"^\d{1,7}(?:\.\d+)?$").any()
    return not is_small and _fits("timestamp", texts, cells)


def _holds_paths(texts: pl.Series, cells: pl.Series) -> bool:
    """Whether cells are paths of a few words that many items share."""
    filled = texts.drop_nulls()
    is_shared = filled.n_unique() <= len(filled) / 2
    is_address = filled.str.contains("://", literal=True).any()
    return len(filled) > 0 and is_shared and not is_address and _find_separator(cells, texts) is not None


_FALLBACKS: Final[dict[str, Callable[[pl.Series, pl.Series], bool]]] = {
    "timestamp": _holds_times,
    "category": _holds_paths,
}
"""Columns that their cells tell, whatever their name."""


def _read_best_numbers(texts: pl.Series, cells: pl.Series) -> pl.Series:
    """Numbers under the decimal mark that reads most cells."""
    if cells.dtype.is_numeric():
        return cells
    amounts = take_amounts(texts)
    return min((read_numbers(amounts, mark) for mark in (".", ",")), key=lambda numbers: numbers.null_count())


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
    return "sure" if shorten_name(ours) in list_short_names(theirs) else "likely"


def _read_texts(cells: pl.Series) -> pl.Series:
    try:
        texts = read_cells_as_text(cells)
    except UserError:
        texts = pl.Series(cells.name, [None if cell is None else str(cell) for cell in cells], pl.String)
    return texts.to_frame("text").select(drop_missing_words(pl.col("text"), MISSING_WORDS)).to_series()
