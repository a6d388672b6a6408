"""Matches columns with ours: by their names, and by what their cells hold."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import polars as pl

from contracts.errors import UserError
from contracts.ingestion.inspection.column_names import (
    ORDER_ID_NAMES,
    PRODUCT_NAMES,
    list_short_names,
    shorten_name,
)
from contracts.ingestion.inspection.event_words import guess_event_type
from contracts.ingestion.values.cell_texts import read_cells_as_text, take_amounts
from contracts.ingestion.values.missing_words import MISSING_WORDS, clean_texts
from contracts.ingestion.values.numbers import read_numbers
from contracts.ingestion.values.times import make_time_rules, read_times
from contracts.tables import EARLIEST_TIME, SCENES

MOST_CELLS: Final = 0.8
"""Share of the filled cells that must be readable for a column to be taken."""
MAX_EVENT_TYPES: Final = 30
_NUMBERS: Final = ("price", "quantity", "returned", "line_total", "position", "propensity")
_TIMES: Final = ("timestamp", "available_at")


def match_names(
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
        if ours not in mapping and theirs not in taken and fits_name(ours, texts[theirs], sample[theirs]):
            mapping[ours] = theirs
            taken.add(theirs)
    for ours, fits in _FALLBACKS.items():
        if ours in known_names and ours not in mapping:
            add_fallback(mapping, ours, fits, texts, sample)
    if "title" not in mapping and "description" in mapping:
        # A title is needed, and many shops call it a description.
        mapping["title"] = mapping.pop("description")
    return mapping


def add_fallback(
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


def fits_name(ours: str, texts: pl.Series, cells: pl.Series) -> bool:
    """Whether the cells of a column can be those of ours."""
    num_filled = len(texts) - texts.null_count()
    if not num_filled:
        return False
    if ours in _NUMBERS:
        numbers = read_best_numbers(texts, cells)
        return (len(numbers) - numbers.null_count()) >= MOST_CELLS * num_filled
    if ours in _TIMES:
        is_plain = cells.dtype.is_numeric() or cells.dtype.is_temporal()
        rules = make_time_rules(unit="auto", zone="UTC", day_first=True, earliest=EARLIEST_TIME)
        moments = read_times(cells if is_plain else texts, rules)
        moments_month_first = read_times(cells if is_plain else texts, rules._replace(day_first=False))
        num_read = len(texts) - min(moments.null_count(), moments_month_first.null_count())
        return num_read >= MOST_CELLS * num_filled
    if ours == "event_type":
        words = texts.drop_nulls().unique()
        return len(words) <= MAX_EVENT_TYPES and any(guess_event_type(word) for word in words)
    if ours == "scene":
        return set(texts.drop_nulls().unique()) <= set(SCENES)
    return True


def holds_event_words(texts: pl.Series, _: pl.Series) -> bool:
    """Whether most words of a column are known to tell what users do."""
    words = texts.drop_nulls().unique()
    known = [word for word in words[: MAX_EVENT_TYPES + 1] if guess_event_type(word)]
    return 0 < len(words) <= MAX_EVENT_TYPES and 2 * len(known) >= len(words)


def _holds_times(texts: pl.Series, cells: pl.Series) -> bool:
    """Whether cells are times by any name. Small numbers are not: they may count anything."""
    is_small = texts.str.contains(r"^\d{1,7}(?:\.\d+)?$").any()
    return not is_small and fits_name("timestamp", texts, cells)


def _holds_paths(texts: pl.Series, cells: pl.Series) -> bool:
    """Whether cells are paths of a few words that many items share."""
    filled = texts.drop_nulls()
    is_shared = filled.n_unique() <= len(filled) / 2
    is_address = filled.str.contains(r"://|</").any()
    return len(filled) > 0 and is_shared and not is_address and find_separator(cells, texts) is not None


_FALLBACKS: Final[dict[str, Callable[[pl.Series, pl.Series], bool]]] = {
    "timestamp": _holds_times,
    "category": _holds_paths,
}
"""Columns that their cells tell, whatever their name."""


def read_best_numbers(texts: pl.Series, cells: pl.Series) -> pl.Series:
    """Numbers under the decimal mark that reads most cells."""
    if cells.dtype.is_numeric():
        return cells
    amounts = take_amounts(texts)
    return min((read_numbers(amounts, mark) for mark in (".", ",")), key=lambda numbers: numbers.null_count())


def find_separator(cells: pl.Series, texts: pl.Series) -> str | None:
    """What divides the levels of a category, where most cells hold it."""
    if isinstance(cells.dtype, pl.List | pl.Array):
        return None
    filled = texts.drop_nulls()
    for separator in (" > ", ">", "|", " / ", "/", ";", ","):
        has_separator = filled.str.contains(separator, literal=True).sum()
        if has_separator >= MOST_CELLS * max(len(filled), 1) and not filled.str.starts_with("[").any():
            return None if separator == " > " else separator
    return None


def find_product_column(mapping: Mapping[str, str], texts: Mapping[str, pl.Series]) -> str | None:
    """The column that names the product of a variant, where titles stand in a product's first row alone."""
    if not {"item_id", "title"} <= set(mapping):
        return None
    for name, cells in texts.items():
        if name in mapping.values() or not set(list_short_names(name)) & set(PRODUCT_NAMES):
            continue
        rows = pl.DataFrame({"product": cells, "title": texts[mapping["title"]]}).drop_nulls("product")
        titled = pl.col("title").is_not_null().any().over("product")
        num_empty, num_filled = rows.filter(pl.col("title").is_null()).height, 0
        if num_empty:
            num_filled = rows.filter(titled & pl.col("title").is_null()).height
        if num_filled > MOST_CELLS * num_empty:
            return name
    return None


def read_texts(cells: pl.Series) -> pl.Series:
    """Cells as texts, whatever they are stored as; null where they say nothing."""
    try:
        texts = read_cells_as_text(cells)
    except UserError:
        texts = pl.Series(cells.name, [None if cell is None else str(cell) for cell in cells], pl.String)
    return clean_texts(texts, MISSING_WORDS)
