"""Draws candidates that share the target's time: the "contemporaneous" protocol.

The negatives of a target are items of the next events of other users. So they have the positives' own distribution of
popularity, age and season, and a ranker can only win by knowing the user.

Legend: N targets, W window, K negatives wanted.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NO_ITEM = -1
_CELLS_PER_CHUNK = 4_000_000


class Log(NamedTuple):
    """A behaviour log as integer arrays, in the order of time."""

    users: Ints
    items: Ints
    times: Ints
    """Microseconds."""
    item_names: pl.Series
    """Item code -> item id."""
    item_first: Ints
    """Item code -> time of its first event."""
    pair_keys: Ints
    """Sorted keys of all (user, item) pairs of the log."""
    pair_first: Ints
    """Row of each pair's first event."""

    def pair_rows(self, users: Ints, items: Ints) -> Ints:
        """First row of each (user, item) pair, or the number of rows where the pair does not occur."""
        keys = users * len(self.item_names) + items
        place = np.minimum(np.searchsorted(self.pair_keys, keys), len(self.pair_keys) - 1)
        return np.where(self.pair_keys[place] == keys, self.pair_first[place], len(self.items))


def read_log(behaviors: pl.DataFrame) -> Log:
    """Encodes behaviours (sorted by time) as integers."""
    item_names = behaviors["item_id"].unique().sort()
    users = _codes(behaviors["user_id"], behaviors["user_id"].unique().sort())
    items = _codes(behaviors["item_id"], item_names)
    times = behaviors["timestamp"].cast(pl.Int64).to_numpy()
    _, first = np.unique(items, return_index=True)
    pair_keys, pair_first = np.unique(users * len(item_names) + items, return_index=True)
    return Log(users, items, times, item_names, times[first], pair_keys, pair_first)


def novel_targets(log: Log, start: int, stop: int) -> Ints:
    """Rows in [start, stop) that can be targets.

    A target is a user's first event with an item that others have met before; the user has an earlier event. (A target
    that the user or nobody has met before would stand out from its negatives, which are the opposite by construction.)
    """
    rows = np.arange(start, stop)
    users, items, times = log.users[rows], log.items[rows], log.times[rows]
    _, user_first_row = np.unique(log.users, return_index=True)
    has_history = log.times[user_first_row][users] < times
    is_known = log.item_first[items] < times
    chosen: Bools = has_history & is_known & (log.pair_rows(users, items) == rows)
    return rows[chosen]


def draw_negatives(log: Log, targets: Ints, pool: Ints, *, window: int, count: int, seed: int) -> Ints:
    """Draws up to `count` distinct negatives per target from the next `window` rows of `pool`.

    Never drawn: the target's item, an item of the user's history, an item without an earlier event, an event of the
    user's own.

    Args:
        log: the behaviours.
        targets: rows of the targets, [N].
        pool: rows that may be drawn, ascending; the end of the pool is the end of the part of the log.
        window: rows of the pool after the target that are looked at (W).
        count: negatives wanted (K).
        seed: makes the draw reproducible.

    Returns:
        Item codes [N, K] in random order, padded at the end with `NO_ITEM` where too few are to be had.
    """
    rng = np.random.default_rng(seed)
    # A few draws are nearly always enough for a few negatives; the rows where they are not look at the whole window.
    drawn = _draw(log, targets, pool, window=window, looks=4 * count + 32, count=count, rng=rng)
    short = np.flatnonzero((drawn == NO_ITEM).any(axis=1))
    drawn[short] = _draw(log, targets[short], pool, window=window, looks=window, count=count, rng=rng)
    return drawn


def _draw(
    log: Log, targets: Ints, pool: Ints, *, window: int, looks: int, count: int, rng: np.random.Generator
) -> Ints:
    drawn = np.full((len(targets), count), NO_ITEM)
    chunk = max(1, _CELLS_PER_CHUNK // window)
    for at in range(0, len(targets), chunk):
        rows = targets[at : at + chunk]
        keys = rng.random((len(rows), window), dtype=np.float32)
        order = _smallest(keys, min(looks, window))
        drawn[at : at + chunk] = _first_distinct(_allowed(log, rows, pool, order), count)
    return drawn


def _smallest(keys: npt.NDArray[np.float32], count: int) -> Ints:
    """Columns of the `count` smallest keys of each row, in the order of the keys."""
    chosen = keys.argpartition(count - 1, axis=1)[:, :count]
    ordered: Ints = np.take_along_axis(keys, chosen, axis=1).argsort(axis=1)
    return np.take_along_axis(chosen, ordered, axis=1)


def _allowed(log: Log, targets: Ints, pool: Ints, order: Ints) -> Ints:
    """Items at the given places after each target, `NO_ITEM` where the item is no fair negative."""
    places = np.searchsorted(pool, targets, side="right")[:, None] + order
    inside = places < len(pool)
    rows = pool[np.minimum(places, len(pool) - 1)]
    items = log.items[rows]
    users, times = log.users[targets][:, None], log.times[targets][:, None]
    allowed = inside & (log.users[rows] != users) & (items != log.items[targets][:, None])
    allowed &= log.item_first[items] < times
    allowed &= log.pair_rows(users, items) > targets[:, None]
    return np.where(allowed, items, NO_ITEM)


def _first_distinct(items: Ints, count: int) -> Ints:
    """The first `count` distinct items of each row, padded with `NO_ITEM`."""
    order = items.argsort(axis=1, kind="stable")
    ranked = np.take_along_axis(items, order, axis=1)
    is_new_ranked = np.ones(items.shape, bool)
    is_new_ranked[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    is_new = np.empty(items.shape, bool)
    np.put_along_axis(is_new, order, is_new_ranked, axis=1)
    is_new &= items != NO_ITEM
    front = (~is_new).argsort(axis=1, kind="stable")[:, :count]
    drawn = np.where(np.take_along_axis(is_new, front, axis=1), np.take_along_axis(items, front, axis=1), NO_ITEM)
    return np.pad(drawn, ((0, 0), (0, count - drawn.shape[1])), constant_values=NO_ITEM)


def _codes(values: pl.Series, names: pl.Series) -> Ints:
    return values.replace_strict(names, np.arange(len(names)), return_dtype=pl.Int64).to_numpy()
