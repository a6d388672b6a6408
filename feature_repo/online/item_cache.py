"""A bounded in-process cache of item features: rows of arrays, oldest out first.

What a ranker makes of an item's columns is cached with them, so that a request looks up numbers and not
words.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np

from contracts.array_types import BoolArray, HalfArray, IntArray
from contracts.half_vectors import VECTOR_DTYPE

ItemAttributes = tuple[str | None, str | None, float | None]
"""Category, brand and price of an item."""
EncodeItems = Callable[[Sequence[str], Sequence[ItemAttributes]], IntArray]
"""What a ranker makes of N items: ids and attributes -> codes [F, N], those of the first row above 0."""

_EMPTY_SLOT: Final = -1
"""Slot of an item that is not cached: the last one, which stays empty."""
_NO_ATTRIBUTES: Final[ItemAttributes] = (None, None, None)
_MAX_RANKERS: Final = 8
"""Rankers whose codes are kept; those that are in use are asked for all the time."""


class StoredItems(NamedTuple):
    """N items as the store holds them."""

    item_ids: Sequence[str]
    attributes: Sequence[ItemAttributes]
    vectors: HalfArray
    """[N, D]; zeros where `has_vector` is false."""
    is_stored: BoolArray
    """[N]: is the item in the store at all?"""
    has_vector: BoolArray
    """[N]: does it have a vector of the asked space?"""

    def encode_with(self, encode: EncodeItems) -> "ItemFeatures":
        """Encodes the items as a ranker takes them."""
        codes = encode(self.item_ids, self.attributes)
        return ItemFeatures(self.item_ids, codes, self.vectors, self.is_stored, self.has_vector)


class ItemFeatures(NamedTuple):
    """What is known of N items, in the order asked for, as a ranker takes it."""

    item_ids: Sequence[str]
    codes: IntArray
    """[F, N]: what the ranker makes of id, category, brand and price."""
    vectors: HalfArray
    """[N, D]; zeros where `has_vector` is false."""
    is_stored: BoolArray
    """[N]: is the item in the store at all?"""
    has_vector: BoolArray
    """[N]: does it have a vector of the asked space?"""

    def slice_items(self, rows: slice) -> "ItemFeatures":
        """Selects the items of some rows."""
        return ItemFeatures(
            self.item_ids[rows],
            self.codes[:, rows],
            self.vectors[rows],
            self.is_stored[rows],
            self.has_vector[rows],
        )

    def fill_unknown_from(self, others: "ItemFeatures") -> None:
        """Fills in the unknown ones of these items, as far as `others` has them."""
        row_of_item = {item_id: row for row, item_id in enumerate(others.item_ids)}
        row_pairs = [
            (row, row_of_item[item_id])
            for row, item_id in enumerate(self.item_ids)
            if item_id in row_of_item and not self.is_stored[row]
        ]
        own_rows, other_rows = ([pair[side] for pair in row_pairs] for side in (0, 1))
        self.codes[:, own_rows] = others.codes[:, other_rows]
        self.vectors[own_rows] = others.vectors[other_rows]
        self.has_vector[own_rows] = others.has_vector[other_rows]
        self.is_stored[own_rows] = others.is_stored[other_rows]


def create_unknown_items(item_ids: Sequence[str], dim: int) -> StoredItems:
    """Creates items of which nothing is known."""
    num_items = len(item_ids)
    vectors, all_false = np.zeros((num_items, dim), VECTOR_DTYPE), np.zeros(num_items, np.bool_)
    return StoredItems(item_ids, [_NO_ATTRIBUTES] * num_items, vectors, all_false, all_false)


class ItemCache:
    """Item features by id, for one embedding space."""

    def __init__(self, *, capacity: int, dim: int) -> None:
        """Reserves `capacity` rows of `dim` numbers, and one that stays empty for missing items."""
        # Zeroed pages take no memory before they are written to.
        self._slots: dict[str, int] = {}
        self._ids: list[str | None] = [None] * capacity
        self._vectors: HalfArray = np.zeros((capacity + 1, dim), VECTOR_DTYPE)
        self._has_vector = np.zeros(capacity + 1, np.bool_)
        self._attributes = [_NO_ATTRIBUTES] * (capacity + 1)
        self._codes: dict[str, IntArray] = {}
        self._next_slot = 0

    def __len__(self) -> int:
        return len(self._slots)

    def list_uncached(self, item_ids: Sequence[str]) -> list[str]:
        """Lists the distinct ids that are not cached."""
        return [item_id for item_id in dict.fromkeys(item_ids) if item_id not in self._slots]

    def store_items(self, rows: StoredItems) -> None:
        """Stores the known ones of the rows; the oldest ones make room.

        Unknown items are not kept: junk ids would push out the good ones, and a new item must be seen
        once it is in.
        """
        for row in np.flatnonzero(rows.is_stored).tolist():
            slot = self._slots.get(rows.item_ids[row])
            self._write_slot(self._claim_slot(rows.item_ids[row]) if slot is None else slot, rows, row)

    def look_up_items(self, item_ids: Sequence[str], *, ranker: str, encode: EncodeItems) -> ItemFeatures:
        """Looks up the items' features; what is not cached is marked as unknown.

        Args:
            item_ids: N items.
            ranker: names the codes in the cache.
            encode: makes those that are not there yet.
        """
        slot_of = self._slots.get
        slots = np.array([slot_of(item_id, _EMPTY_SLOT) for item_id in item_ids], np.int64)
        codes = self._encode_slots(slots, item_ids, ranker, encode)
        is_cached = slots != _EMPTY_SLOT
        return ItemFeatures(item_ids, codes, self._vectors[slots], is_cached, self._has_vector[slots])

    def _encode_slots(
        self, slots: IntArray, item_ids: Sequence[str], ranker: str, encode: EncodeItems
    ) -> IntArray:
        cached_codes = self._open_codes(ranker, encode)
        codes = cached_codes[:, slots]
        # A code of the first row is above 0 once it is there.
        uncoded_rows = np.flatnonzero(codes[0] == 0).tolist()
        if uncoded_rows:
            attributes = [self._attributes[slots[row]] for row in uncoded_rows]
            codes[:, uncoded_rows] = encode([item_ids[row] for row in uncoded_rows], attributes)
            cached_codes[:, slots] = codes
            # Items that are not cached share the empty slot, whose codes are those of none of them.
            cached_codes[:, _EMPTY_SLOT] = 0
        return codes

    def _open_codes(self, ranker: str, encode: EncodeItems) -> IntArray:
        """Opens a ranker's codes of all slots, 0 where there is none yet."""
        # A dictionary keeps the order of entry: taken out and put in again, the oldest ones come first.
        ranker_codes = self._codes.pop(ranker, None)
        if ranker_codes is None:
            ranker_codes = np.zeros((len(encode([], [])), len(self._attributes)), np.int64)
        self._codes[ranker] = ranker_codes
        if len(self._codes) > _MAX_RANKERS:
            del self._codes[next(iter(self._codes))]
        return ranker_codes

    def _claim_slot(self, item_id: str) -> int:
        slot, self._next_slot = self._next_slot, (self._next_slot + 1) % len(self._ids)
        previous_id = self._ids[slot]
        if previous_id is not None:
            del self._slots[previous_id]
        self._ids[slot] = item_id
        self._slots[item_id] = slot
        return slot

    def _write_slot(self, slot: int, rows: StoredItems, row: int) -> None:
        self._vectors[slot] = rows.vectors[row]
        self._has_vector[slot] = rows.has_vector[row]
        self._attributes[slot] = rows.attributes[row]
        # The rankers' codes were those of the item before.
        for codes in self._codes.values():
            codes[:, slot] = 0
