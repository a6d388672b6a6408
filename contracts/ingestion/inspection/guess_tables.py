"""Guesses which file is the catalogue and which the log, and which of their columns is which of ours."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import polars as pl

from contracts.errors import UserError
from contracts.ingestion.inspection.column_names import (
    EVENT_NAMES,
    ITEM_NAMES,
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
            event_types = {word: guess_event_type(word) or "ignore" for word in words[:_MAX_EVENT_TYPES]}
        else:
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
