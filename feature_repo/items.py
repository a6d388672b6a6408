"""A bounded in-process cache of item features: rows of arrays, oldest out first.

What a ranker makes of an item's columns is cached with them, so that a request looks up numbers and not words.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from contracts.vectors import VECTOR_DTYPE, Halves

Ints = npt.NDArray[np.int64]
Side = tuple[str | None, str | None, float | None]
"""Category, brand and price of an item."""
Encode = Callable[[Sequence[str], Sequence[Side]], Ints]
"""What a ranker makes of N items: their ids and sides -> codes [F, N], those of the first row above 0."""

MISSING: Final = -1
"""Slot of an item that is not cached: the last one, which stays empty."""
_NOTHING: Final[Side] = (None, None, None)
_MAX_RANKERS: Final = 8
"""Rankers whose codes are kept; those that are in use are asked for all the time."""


class StoredItems(NamedTuple):
    """N items as the store holds them."""

    item_ids: Sequence[str]
    sides: Sequence[Side]
    vectors: Halves
    """[N, D]; zeros where `has_vector` is false."""
    known: npt.NDArray[np.bool_]
    """[N]: is the item in the store at all?"""
    has_vector: npt.NDArray[np.bool_]
    """[N]: does it have a vector of the asked space?"""

    def encoded(self, encode: Encode) -> "ItemFeatures":
        """The same as a ranker takes them."""
        codes = encode(self.item_ids, self.sides)
        return ItemFeatures(self.item_ids, codes, self.vectors, self.known, self.has_vector)


class ItemFeatures(NamedTuple):
    """What is known of N items, in the order asked for, as a ranker takes it."""

    item_ids: Sequence[str]
    codes: Ints
    """[F, N]: what the ranker makes of id, category, brand and price."""
    vectors: Halves
    """[N, D]; zeros where `has_vector` is false."""
    known: npt.NDArray[np.bool_]
    """[N]: is the item in the store at all?"""
    has_vector: npt.NDArray[np.bool_]
    """[N]: does it have a vector of the asked space?"""

    def part(self, rows: slice) -> "ItemFeatures":
        """The items of some rows."""
        return ItemFeatures(
            self.item_ids[rows], self.codes[:, rows], self.vectors[rows], self.known[rows], self.has_vector[rows]
        )

    def fill_from(self, rows: "ItemFeatures") -> None:
        """Fills in the unknown ones of these items, as far as `rows` has them."""
        places = {item_id: row for row, item_id in enumerate(rows.item_ids)}
        pairs = [(row, places[item_id]) for row, item_id in enumerate(self.item_ids) if item_id in places]
        mine, theirs = ([pair[side] for pair in pairs if not self.known[pair[0]]] for side in (0, 1))
        self.codes[:, mine] = rows.codes[:, theirs]
        self.vectors[mine] = rows.vectors[theirs]
        self.has_vector[mine] = rows.has_vector[theirs]
        self.known[mine] = rows.known[theirs]


def unknown_items(item_ids: Sequence[str], dim: int) -> StoredItems:
    """Items of which nothing is known."""
    count = len(item_ids)
    nothing = np.zeros(count, np.bool_)
    return StoredItems(item_ids, [_NOTHING] * count, np.zeros((count, dim), VECTOR_DTYPE), nothing, nothing)


class ItemCache:
    """Item features by id, for one embedding space."""

    def __init__(self, *, capacity: int, dim: int) -> None:
        """Reserves (not yet touches) `capacity` rows of `dim` numbers, and one that stays empty for missing items."""
        self._slots: dict[str, int] = {}
        self._ids: list[str | None] = [None] * capacity
        self._vectors: Halves = np.zeros((capacity + 1, dim), VECTOR_DTYPE)
        self._has_vector = np.zeros(capacity + 1, np.bool_)
        self._sides = [_NOTHING] * (capacity + 1)
        self._codes: dict[str, Ints] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._slots)

    def missing(self, item_ids: Sequence[str]) -> list[str]:
        """The distinct ids that are not cached."""
        return [item_id for item_id in dict.fromkeys(item_ids) if item_id not in self._slots]

    def put(self, rows: StoredItems) -> None:
        """Stores the known ones of the rows; the oldest ones make room.

        Unknown items are not kept: junk ids would push out the good ones, and a new item must be seen once it is in.
        """
        for row in np.flatnonzero(rows.known).tolist():
            slot = self._slots.get(rows.item_ids[row])
            self._write(self._claim(rows.item_ids[row]) if slot is None else slot, rows, row)

    def get(self, item_ids: Sequence[str], *, ranker: str, encode: Encode) -> ItemFeatures:
        """Features of the items, marked unknown where they are not cached.

        Args:
            item_ids: N items.
            ranker: names the codes in the cache.
            encode: makes those that are not there yet.
        """
        slot_of = self._slots.get
        slots = np.array([slot_of(item_id, MISSING) for item_id in item_ids], np.int64)
        codes = self._encoded(slots, item_ids, ranker, encode)
        return ItemFeatures(item_ids, codes, self._vectors[slots], slots != MISSING, self._has_vector[slots])

    def _encoded(self, slots: Ints, item_ids: Sequence[str], ranker: str, encode: Encode) -> Ints:
        kept = self._codes_of(ranker, encode)
        codes = kept[:, slots]
        due = np.flatnonzero(codes[0] == 0).tolist()
        if due:
            sides = [self._sides[slots[row]] for row in due]
            codes[:, due] = encode([item_ids[row] for row in due], sides)
            kept[:, slots] = codes
            kept[:, MISSING] = 0
        return codes

    def _codes_of(self, ranker: str, encode: Encode) -> Ints:
        """Codes of all slots, 0 where there is none yet; the ranker that was not asked for the longest makes room."""
        found = self._codes.pop(ranker, None)
        if found is None:
            found = np.zeros((len(encode([], [])), len(self._sides)), np.int64)
        self._codes[ranker] = found
        if len(self._codes) > _MAX_RANKERS:
            del self._codes[next(iter(self._codes))]
        return found

    def _claim(self, item_id: str) -> int:
        slot, self._next = self._next, (self._next + 1) % len(self._ids)
        previous = self._ids[slot]
        if previous is not None:
            del self._slots[previous]
        self._ids[slot] = item_id
        self._slots[item_id] = slot
        return slot

    def _write(self, slot: int, rows: StoredItems, row: int) -> None:
        self._vectors[slot] = rows.vectors[row]
        self._has_vector[slot] = rows.has_vector[row]
        self._sides[slot] = rows.sides[row]
        for codes in self._codes.values():
            codes[:, slot] = 0
