"""Draws candidates that share the target's time: the "contemporaneous" protocol.

The negatives of a target are items of the next behaviors of other users. Only behaviors that could be targets
themselves are drawn. Repeats are on neither side: a staple that everybody buys again would else be a negative
often and a target never, and "minus popularity" would tell the target.

A list holds an item once, however often its window does. So an item that fills its window would be the target
more often than it is a negative. `measure_keep_chances` says how many of its targets to keep. With both rules
the negatives have the positives' own distribution of popularity, age and season, and a ranker can only win by
knowing the user.

Legend: N targets, W window, K negatives wanted, R asked rows.
"""

from typing import NamedTuple

import numpy as np
import polars as pl

from contracts.array_types import BoolArray, DoubleArray, FloatArray, IntArray

NO_ITEM = -1
LARGEST_WIDENING = 8
"""A window grows to this many times its length where it holds too few items: longer ones would compare a
target with what others did in another season."""
_SAMPLED_USERS = 100
"""Of a window, asked whether they had an item already."""
# Random keys in memory at once.
_CELLS_PER_CHUNK = 4_000_000


class IndexedLog(NamedTuple):
    """A behavior log as integer arrays, in the order of time."""

    users: IntArray
    items: IntArray
    times: IntArray
    """Microseconds."""
    item_names: pl.Series
    """Item code -> item id."""
    item_first_times: IntArray
    """Item code -> time of its first event."""
    pair_keys: IntArray
    """Sorted keys of all (user, item) pairs of the log."""
    pair_first_rows: IntArray
    """Row of each pair's first event."""

    def find_first_rows(self, users: IntArray, items: IntArray) -> IntArray:
        """First row of each (user, item) pair, or the number of rows where the pair does not occur."""
        keys = users * len(self.item_names) + items
        key_rows = np.minimum(np.searchsorted(self.pair_keys, keys), len(self.pair_keys) - 1)
        return np.where(self.pair_keys[key_rows] == keys, self.pair_first_rows[key_rows], len(self.items))


def index_log(behaviors: pl.DataFrame) -> IndexedLog:
    """Encodes behaviors (sorted by time) as integers."""
    item_names = behaviors["item_id"].unique().sort()
    users = _encode_names(behaviors["user_id"], behaviors["user_id"].unique().sort())
    items = _encode_names(behaviors["item_id"], item_names)
    times = behaviors["timestamp"].cast(pl.Int64).to_numpy()
    _, item_first_rows = np.unique(items, return_index=True)
    pair_keys, pair_first_rows = np.unique(users * len(item_names) + items, return_index=True)
    return IndexedLog(users, items, times, item_names, times[item_first_rows], pair_keys, pair_first_rows)


class TargetConditions(NamedTuple):
    """What makes a behavior a target, each [R]."""

    has_history: BoolArray
    """The user has an earlier event."""
    is_known_item: BoolArray
    """Somebody had the item before."""
    is_first_time: BoolArray
    """The user has not had the item before."""


def check_targets(log: IndexedLog, rows: IntArray) -> TargetConditions:
    """Which rows of the log meet which condition of a target."""
    users, items, times = log.users[rows], log.items[rows], log.times[rows]
    _, user_first_rows = np.unique(log.users, return_index=True)
    return TargetConditions(
        has_history=log.times[user_first_rows][users] < times,
        is_known_item=log.item_first_times[items] < times,
        is_first_time=log.find_first_rows(users, items) == rows,
    )


def select_novel_targets(log: IndexedLog, start: int, stop: int) -> IntArray:
    """Rows in [start, stop) that can be targets.

    A target is a user's first event with an item that others had before. The user has an earlier event.
    An item that this user already had, or that no user had yet, is no target. Negatives are never either.
    So such a target could be told by that alone.
    """
    rows = np.arange(start, stop)
    return rows[np.logical_and.reduce(check_targets(log, rows))]


class DrawnNegatives(NamedTuple):
    """Negatives, and how they were drawn."""

    items: IntArray
    """Item codes [N, K] in random order, padded at the end with `NO_ITEM` where too few are to be had."""
    windows: IntArray
    """Rows of the pool behind each target that were drawn from, [N]."""
    drawn_shares: DoubleArray
    """Share of the window's rows that were drawn until the list was full, [N]; 1 where it is not full."""


def draw_negatives(
    log: IndexedLog, targets: IntArray, pool: IntArray, *, window: int, count: int, seed: int
) -> DrawnNegatives:
    """Draws up to `count` distinct negatives per target from the next `window` rows of `pool`.

    Never drawn: the target's item, an item of the user's history, an item without an earlier event, an event
    of the user's own. A window that holds too few is doubled, up to `LARGEST_WIDENING` times its length.

    Args:
        log: the behaviors.
        targets: rows of the targets, [N].
        pool: rows that may be drawn, ascending; the end of the pool is the end of the part of the log.
        window: rows of the pool after the target that are looked at (W).
        count: negatives wanted (K).
        seed: makes the draw reproducible.
    """
    rng = np.random.default_rng(seed)
    # A few draws are nearly always enough for a few negatives; the rows where they are not look at the whole
    # window.
    few_draws = 4 * count + 32
    items, shares = _draw_from_window(
        log, targets, pool, window=window, draws=few_draws, count=count, rng=rng
    )
    windows = np.full(len(targets), window)
    for length in [window * 2**doubling for doubling in range(LARGEST_WIDENING.bit_length())]:
        short_rows = np.flatnonzero((items == NO_ITEM).any(axis=1))
        # Behind the pool's end there is nothing to widen to.
        rows_behind = len(pool) - np.searchsorted(pool, targets[short_rows], side="right")
        if length > window:
            short_rows = short_rows[rows_behind > length // 2]
        items[short_rows], shares[short_rows] = _draw_from_window(
            log, targets[short_rows], pool, window=length, draws=length, count=count, rng=rng
        )
        windows[short_rows] = length
    return DrawnNegatives(items, windows, shares)


def measure_keep_chances(
    log: IndexedLog, targets: IntArray, pool: IntArray, drawn: DrawnNegatives
) -> DoubleArray:
    """How likely each target must be kept, so that its item is a target as often as it is a negative, [N].

    Of an item that has m rows in the window, m become targets. As a negative it comes at most once a list:
    with 1 - (1 - f)^m, where f is the share of the window that is drawn. And it comes only to users who have
    not had it yet, a share e of all. So the chance is e * (1 - (1 - f)^m) / (f * m): near 1 for an item that
    is rare in the window and among users, 1 / m where the whole window is drawn.
    """
    target_items = log.items[targets]
    # Sorted by item, then by place in the pool: an item's rows of any stretch lie together.
    pool_keys = np.sort(log.items[pool] * len(pool) + np.arange(len(pool)))
    first_places = np.searchsorted(pool, targets, side="right")
    stop_places = np.minimum(first_places + drawn.windows, len(pool))
    other_rows = np.searchsorted(pool_keys, target_items * len(pool) + stop_places) - np.searchsorted(
        pool_keys, target_items * len(pool) + first_places
    )
    # The target's own row counts too.
    item_rows, shares = other_rows + 1, drawn.drawn_shares
    chances: DoubleArray = (1 - (1 - shares) ** item_rows) / (shares * item_rows)
    return chances * _measure_strangers(log, targets, pool, first_places, stop_places)


def _measure_strangers(
    log: IndexedLog, targets: IntArray, pool: IntArray, first_places: IntArray, stop_places: IntArray
) -> DoubleArray:
    """Share of the window's users who had not had the target's item when it was the target, [N]."""
    strangers = np.ones(len(targets))
    steps = np.arange(_SAMPLED_USERS) / _SAMPLED_USERS
    chunk_size = _CELLS_PER_CHUNK // _SAMPLED_USERS
    for start in range(0, len(targets), chunk_size):
        chunk = slice(start, start + chunk_size)
        first, stop = first_places[chunk, None], stop_places[chunk, None]
        places = np.minimum(first + (steps * (stop - first)).astype(np.int64), len(pool) - 1)
        first_rows = log.find_first_rows(log.users[pool[places]], log.items[targets[chunk]][:, None])
        # The target's own user is a stranger.
        num_strangers = (first_rows >= targets[chunk, None]).sum(axis=1) + 1
        strangers[chunk] = num_strangers / (_SAMPLED_USERS + 1)
    return strangers


def _draw_from_window(
    log: IndexedLog,
    targets: IntArray,
    pool: IntArray,
    *,
    window: int,
    draws: int,
    count: int,
    rng: np.random.Generator,
) -> tuple[IntArray, DoubleArray]:
    """Negatives [N, K], and the share of each window that was drawn for them, [N]."""
    negatives = np.full((len(targets), count), NO_ITEM)
    shares = np.ones(len(targets))
    chunk_size = max(1, _CELLS_PER_CHUNK // window)
    for start in range(0, len(targets), chunk_size):
        chunk = slice(start, start + chunk_size)
        random_keys = rng.random((len(targets[chunk]), window), dtype=np.float32)
        offsets = _select_smallest(random_keys, min(draws, window))
        items = _pick_valid_items(log, targets[chunk], pool, offsets)
        negatives[chunk], num_drawn = _take_first_distinct(items, count)
        shares[chunk] = num_drawn / window
    shares[(negatives == NO_ITEM).any(axis=1)] = 1.0
    return negatives, shares


def _select_smallest(keys: FloatArray, count: int) -> IntArray:
    """Columns of the `count` smallest keys of each row, in the order of the keys."""
    columns = keys.argpartition(count - 1, axis=1)[:, :count]
    key_order: IntArray = np.take_along_axis(keys, columns, axis=1).argsort(axis=1)
    return np.take_along_axis(columns, key_order, axis=1)


def _pick_valid_items(log: IndexedLog, targets: IntArray, pool: IntArray, offsets: IntArray) -> IntArray:
    """Items so many pool rows after each target, `NO_ITEM` where the item is no fair negative."""
    pool_rows = np.searchsorted(pool, targets, side="right")[:, None] + offsets
    is_in_pool = pool_rows < len(pool)
    rows = pool[np.minimum(pool_rows, len(pool) - 1)]
    items = log.items[rows]
    target_users, target_times = log.users[targets][:, None], log.times[targets][:, None]
    is_fair = is_in_pool & (log.users[rows] != target_users) & (items != log.items[targets][:, None])
    # Somebody has met it before the target: positives are no strangers either.
    is_fair &= log.item_first_times[items] < target_times
    # The user has not met it before the target: else the history would give it away.
    is_fair &= log.find_first_rows(target_users, items) > targets[:, None]
    return np.where(is_fair, items, NO_ITEM)


def _take_first_distinct(items: IntArray, count: int) -> tuple[IntArray, IntArray]:
    """The first `count` distinct items of each row, padded with `NO_ITEM`, and the columns up to the last of
    them."""
    item_order = items.argsort(axis=1, kind="stable")
    sorted_items = np.take_along_axis(items, item_order, axis=1)
    is_first_sorted = np.ones(items.shape, bool)
    is_first_sorted[:, 1:] = sorted_items[:, 1:] != sorted_items[:, :-1]
    is_first = np.empty(items.shape, bool)
    np.put_along_axis(is_first, item_order, is_first_sorted, axis=1)
    is_first &= items != NO_ITEM
    columns = (~is_first).argsort(axis=1, kind="stable")[:, :count]
    distinct_items = np.where(
        np.take_along_axis(is_first, columns, axis=1), np.take_along_axis(items, columns, axis=1), NO_ITEM
    )
    padding = ((0, 0), (0, count - distinct_items.shape[1]))
    return np.pad(distinct_items, padding, constant_values=NO_ITEM), columns.max(axis=1, initial=0) + 1


def _encode_names(values: pl.Series, names: pl.Series) -> IntArray:
    return values.replace_strict(names, np.arange(len(names)), return_dtype=pl.Int64).to_numpy()
