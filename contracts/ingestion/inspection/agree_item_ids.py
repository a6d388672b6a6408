"""Which column of the catalogue and which of the log name items alike, where tools write several ids."""

from collections.abc import Iterator
from typing import Final

import polars as pl

from contracts.ingestion.inspection.column_names import ITEM_NAMES, list_short_names
from contracts.ingestion.inspection.guess_tables import TableGuess
from contracts.ingestion.inspection.match_columns import MOST_CELLS, read_texts

_FEW: Final = 0.5
"""Where the ids that were guessed name more of the catalogue, no other column is looked for."""


def agree_on_item_ids(
    items: TableGuess, log: TableGuess, item_sample: pl.DataFrame, log_sample: pl.DataFrame
) -> tuple[TableGuess, TableGuess]:
    """Maps the columns whose ids are the same ones, where those of the best names hardly share any.

    A log of order lines has a number of the line (`item_id`) beside the number of the item, and Amazon's
    reports have an ASIN beside the seller's own number.

    Args:
        items: the catalogue.
        log: the log.
        item_sample: rows of the catalogue.
        log_sample: rows of the log.
    """
    ours, theirs = items.mapping.get("item_id"), log.mapping.get("item_id")
    if items.uri == log.uri or ours is None or theirs is None:
        return items, log
    ids = {name: _read_ids(item_sample[name]) for name in _list_candidates(items)}
    named = {name: _read_ids(log_sample[name]) for name in _list_candidates(log)}
    if _measure_share(named[theirs], ids[ours]) >= _FEW:
        return items, log
    shares = {(a, b): _measure_share(named[b], ids[a]) for a in ids for b in named}
    best_of_items, best_of_log = max(shares, key=lambda pair: shares[pair])
    share = shares[best_of_items, best_of_log]
    if share < MOST_CELLS:
        return items, log
    said = (
        f"'{theirs}' of the log names hardly any item of the catalogue's '{ours}': '{best_of_log}' and "
        f"'{best_of_items}' are read, which agree in {share:.0%} of the rows"
    )
    log = _map_item_id(log, best_of_log)
    return _map_item_id(items, best_of_items), log._replace(doubts=[*log.doubts, said])


def _list_candidates(table: TableGuess) -> Iterator[str]:
    for column in table.columns:
        is_named = set(list_short_names(column.theirs)) & set(ITEM_NAMES["item_id"])
        if column.ours == "item_id" or (column.ours is None and is_named):
            yield column.theirs


def _read_ids(cells: pl.Series) -> pl.Series:
    return read_texts(cells).str.replace(r"\.0+$", "").drop_nulls()


def _measure_share(named: pl.Series, ids: pl.Series) -> float:
    return int(named.is_in(ids.unique().implode()).sum()) / max(len(named), 1)


def _map_item_id(table: TableGuess, name: str) -> TableGuess:
    columns = [
        column._replace(ours="item_id", how_sure="likely")
        if column.theirs == name
        else column._replace(ours=None, how_sure="")
        if column.ours == "item_id"
        else column
        for column in table.columns
    ]
    return table._replace(columns=columns)
