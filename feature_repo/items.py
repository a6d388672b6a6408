"""A bounded in-process cache of item features: rows of arrays, oldest out first."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

MISSING = -1
"""Slot of an item that is not cached: the last one, which stays empty."""


class ItemFeatures(NamedTuple):
    """What the store knows of N items, in the order asked for."""

    item_ids: Sequence[str]
    categories: list[str | None]
    brands: list[str | None]
    prices: list[float | None]
    vectors: Floats
    """[N, D]; zeros where `has_vector` is false."""
    known: npt.NDArray[np.bool_]
    """[N]: is the item in the store at all?"""
    has_vector: npt.NDArray[np.bool_]
    """[N]: does it have a vector of the asked space?"""

    def part(self, rows: slice) -> "ItemFeatures":
        """The items of some rows."""
        return ItemFeatures(
            self.item_ids[rows],
            self.categories[rows],
            self.brands[rows],
            self.prices[rows],
            self.vectors[rows],
            self.known[rows],
            self.has_vector[rows],
        )

    def fill_from(self, rows: "ItemFeatures") -> None:
        """Fills in the unknown ones of these items, as far as `rows` has them."""
        places = {item_id: row for row, item_id in enumerate(rows.item_ids)}
        pairs = [(row, places[item_id]) for row, item_id in enumerate(self.item_ids) if item_id in places]
        mine, theirs = ([pair[side] for pair in pairs if not self.known[pair[0]]] for side in (0, 1))
        for row, place in zip(mine, theirs, strict=True):
            self.categories[row] = rows.categories[place]
            self.brands[row] = rows.brands[place]
            self.prices[row] = rows.prices[place]
        self.vectors[mine] = rows.vectors[theirs]
        self.has_vector[mine] = rows.has_vector[theirs]
        self.known[mine] = rows.known[theirs]


class ItemCache:
    """Item features by id, for one embedding space."""

    def __init__(self, *, capacity: int, dim: int) -> None:
        """Reserves (not yet touches) `capacity` rows of `dim` floats, and one that stays empty for missing items."""
        self._slots: dict[str, int] = {}
        self._ids: list[str | None] = [None] * capacity
        self._vectors: Floats = np.zeros((capacity + 1, dim), np.float32)
        self._has_vector = np.zeros(capacity + 1, np.bool_)
        self._sides: list[tuple[str | None, str | None, float | None]] = [(None, None, None)] * (capacity + 1)
        self._next = 0

    def __len__(self) -> int:
        return len(self._slots)

    def missing(self, item_ids: Sequence[str]) -> list[str]:
        """The distinct ids that are not cached."""
        return [item_id for item_id in dict.fromkeys(item_ids) if item_id not in self._slots]

    def put(self, rows: ItemFeatures) -> None:
        """Stores the known ones of the rows; the oldest ones make room.

        Unknown items are not kept: junk ids would push out the good ones, and a new item must be seen once it is in.
        """
        for row in np.flatnonzero(rows.known).tolist():
            slot = self._slots.get(rows.item_ids[row])
            self._write(self._claim(rows.item_ids[row]) if slot is None else slot, rows, row)

    def get(self, item_ids: Sequence[str]) -> ItemFeatures:
        """Features of the items, marked unknown where they are not cached."""
        slot_of = self._slots.get
        listed = [slot_of(item_id, MISSING) for item_id in item_ids]
        slots = np.array(listed, np.int64)
        sides = [self._sides[slot] for slot in listed]
        categories, brands, prices = (list(column) for column in zip(*sides, strict=True)) if sides else ([], [], [])
        return ItemFeatures(
            item_ids, categories, brands, prices, self._vectors[slots], slots != MISSING, self._has_vector[slots]
        )

    def _claim(self, item_id: str) -> int:
        slot, self._next = self._next, (self._next + 1) % len(self._ids)
        previous = self._ids[slot]
        if previous is not None:
            del self._slots[previous]
        self._ids[slot] = item_id
        self._slots[item_id] = slot
        return slot

    def _write(self, slot: int, rows: ItemFeatures, row: int) -> None:
        self._vectors[slot] = rows.vectors[row]
        self._has_vector[slot] = rows.has_vector[row]
        self._sides[slot] = (rows.categories[row], rows.brands[row], rows.prices[row])
