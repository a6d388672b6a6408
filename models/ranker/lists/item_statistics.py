"""What the log says of an item at a moment: how popular it is, and how new.

Nothing at or after the moment counts.

Legend: M asked pairs of item and moment.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from contracts.array_types import FloatArray, IntArray
from models.ranker.inputs.input_table import NUM_STATISTICS
from models.ranker.inputs.item_encoder import FIRST

WINDOWS_S = (7 * 86_400, 30 * 86_400)
_DAY_S = 86_400


@dataclass(frozen=True)
class ItemActivity:
    """The behaviors of all users with each item, ready to be counted up to any moment."""

    keys: IntArray
    """Of each behavior, ascending: item row x span + time since the log's start."""
    start_s: int
    """First second of the log."""
    span_s: int
    """Keys of neighboring items lie this far apart: more than the length of the log."""

    @classmethod
    def index_behaviors(cls, behaviors: pl.DataFrame, item_id_enum: pl.Enum) -> "ItemActivity":
        """Indexes behaviors (no impressions) by the rows of an item table (`ItemTable.item_id_enum`)."""
        item_codes = behaviors["item_id"].cast(item_id_enum, strict=False).to_physical().cast(pl.Int64)
        in_catalogue = item_codes.is_not_null()
        item_rows = item_codes.filter(in_catalogue).to_numpy() + FIRST
        # Microseconds would not fit beside the item's row.
        times_s = behaviors["timestamp"].filter(in_catalogue).cast(pl.Int64).to_numpy() // 1_000_000
        start_s = int(times_s.min()) if len(times_s) else 0
        span_s = (int(times_s.max()) - start_s if len(times_s) else 0) + 2
        return cls(np.sort(item_rows * span_s + times_s - start_s), start_s, span_s)

    def measure_statistics(self, item_rows: IntArray, times_s: IntArray) -> FloatArray:
        """Statistics [M, 3]: log(1 + behaviors) of the last 7 and 30 days, log(1 + days since the first); 0
        if none.

        Args:
            item_rows: rows of the item table, [M].
            times_s: moments [M]; a behavior of the same second does not count.
        """
        first_keys = item_rows.astype(np.int64) * self.span_s
        keys_before = self._count_keys_before(first_keys, times_s)
        window_counts = [
            keys_before - self._count_keys_before(first_keys, times_s - window_s) for window_s in WINDOWS_S
        ]
        first_places = np.searchsorted(self.keys, first_keys)
        has_behavior = keys_before > first_places
        first_seen_s = np.zeros(len(first_keys), np.int64)
        if len(self.keys):
            first_seen_s = self.keys[np.minimum(first_places, len(self.keys) - 1)] - first_keys
        days_known = np.where(has_behavior, (times_s - self.start_s - first_seen_s) / _DAY_S, 0)
        statistics: FloatArray = np.log1p(np.stack([*window_counts, days_known], 1)).astype(np.float32)
        assert statistics.shape == (len(item_rows), NUM_STATISTICS)
        return statistics

    def _count_keys_before(self, first_keys: IntArray, times_s: IntArray) -> IntArray:
        """How many keys lie before each item's moment."""
        since_start_s = np.clip(times_s - self.start_s, 0, self.span_s - 1)
        return np.searchsorted(self.keys, first_keys + since_start_s)
