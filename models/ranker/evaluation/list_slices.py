"""Parts of the test lists in which a ranker may be better or worse than on the whole.

Legend: N lists, I rows of the item table.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl

from contracts.array_types import BoolArray, DoubleArray, IntArray
from models.ranker.inputs.item_encoder import FIRST, ItemTable
from models.ranker.lists.build_lists import COLD_EVENTS
from models.ranker.lists.mapped_lists import RankingLists

NEW_USER_BEHAVIORS = 3
HEAD_SHARE = 0.1
_LEAST_LISTS = 30


def count_training_events(events: pl.DataFrame, item_id_enum: pl.Enum) -> IntArray:
    """Behaviors with each row of the item table, [I]; `events` are those before the training end."""
    item_codes = events["item_id"].cast(item_id_enum, strict=False).to_physical().drop_nulls().to_numpy()
    return np.bincount(item_codes + FIRST, minlength=len(item_id_enum.categories) + FIRST)


def slice_lists(lists: RankingLists, table: ItemTable, item_events: IntArray) -> dict[str, BoolArray]:
    """Slice -> the lists in it, [N], by the first clicked candidate and by how much of the user is known.

    Args:
        lists: the lists.
        table: the catalogue.
        item_events: training events of each row of the table, [I].
    """
    clicked_rows, has_click = find_clicked_items(lists)
    target_events = item_events[clicked_rows]
    target_prices = table.encoded_items.price_buckets[clicked_rows]
    # An item without a price has the bucket of the unknown, below all others.
    has_price = target_prices >= FIRST
    price_bounds = np.quantile(target_prices[has_price], [1 / 3, 2 / 3]) if has_price.any() else (0, 0)
    low_price, high_price = price_bounds
    met_events = item_events[FIRST:][item_events[FIRST:] > 0]
    head_events = np.quantile(met_events, 1 - HEAD_SHARE) if len(met_events) else 0
    slices = {
        f"cold items (under {COLD_EVENTS} training events)": target_events < COLD_EVENTS,
        f"head items (top {HEAD_SHARE:.0%} by training events)": (target_events >= head_events)
        & (target_events > 0),
        "tail items (the others that training met)": (target_events < head_events) & (target_events > 0),
        f"new users (under {NEW_USER_BEHAVIORS} behaviors)": lists.lengths < NEW_USER_BEHAVIORS,
        "known users (the others)": lists.lengths >= NEW_USER_BEHAVIORS,
        "low price": has_price & (target_prices <= low_price),
        "middle price": (target_prices > low_price) & (target_prices <= high_price),
        "high price": target_prices > high_price,
    }
    return {name: in_slice & has_click for name, in_slice in slices.items()}


def average_slices(ndcg: DoubleArray, slices: Mapping[str, BoolArray]) -> dict[str, dict[str, float]]:
    """Mean NDCG@10 and number of lists of each slice; a slice of a few lists tells nothing and is absent."""
    is_measured = ~np.isnan(ndcg)
    return {
        name: {"ndcg10": float(ndcg[in_slice & is_measured].mean()), "lists": float(num_lists)}
        for name, in_slice in slices.items()
        if (num_lists := (in_slice & is_measured).sum()) >= _LEAST_LISTS
    }


def find_clicked_items(lists: RankingLists) -> tuple[IntArray, BoolArray]:
    """Item row of each list's first clicked candidate, and whether there is one."""
    click_rows = np.flatnonzero(lists.clicks)
    # The first click at or after a list's start is its own, unless it lies behind its end.
    next_click = np.searchsorted(click_rows, lists.offsets[:-1])
    first_click_rows = np.zeros(len(lists), np.int64)
    if len(click_rows):
        first_click_rows = click_rows[np.minimum(next_click, len(click_rows) - 1)]
    has_click = (next_click < len(click_rows)) & (first_click_rows < lists.offsets[1:])
    return np.asarray(lists.candidates)[first_click_rows].astype(np.int64), has_click
