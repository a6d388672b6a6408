"""What the log says of an item at a moment: how popular it is, and how new. Nothing at or after the moment counts.

Legend: M asked pairs of item and moment.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from models.ranker.encoding import FIRST, Floats
from models.ranker.spec import NUM_STATISTICS

Ints = npt.NDArray[np.int64]

WINDOWS_S = (7 * 86_400, 30 * 86_400)
_DAY_S = 86_400


@dataclass(frozen=True)
class ItemLog:
    """The behaviours of all users with each item, ready to be counted up to any moment."""

    keys: Ints
    """Of each behaviour, ascending: item row x span + time since the log's start."""
    start_s: int
    """First second of the log."""
    span_s: int
    """Keys of neighbouring items lie this far apart: more than the length of the log."""

    @classmethod
    def index(cls, behaviors: pl.DataFrame, names: pl.Enum) -> "ItemLog":
        """Indexes behaviours (no impressions) by the rows of an item table (`ItemTable.names`)."""
        items = behaviors["item_id"].cast(names, strict=False).to_physical().cast(pl.Int64)
        known = items.is_not_null()
        rows = items.filter(known).to_numpy() + FIRST
        # Microseconds would not fit beside the item's row.
        times_s = behaviors["timestamp"].filter(known).cast(pl.Int64).to_numpy() // 1_000_000
        start = int(times_s.min()) if len(times_s) else 0
        span = (int(times_s.max()) - start if len(times_s) else 0) + 2
        return cls(np.sort(rows * span + times_s - start), start, span)

    def at(self, items: Ints, times_s: Ints) -> Floats:
        """Statistics [M, 3]: log(1 + behaviours) of the last 7 and 30 days, log(1 + days since the first); 0 if none.

        Args:
            items: item rows [M].
            times_s: moments [M]; a behaviour of the same second does not count.
        """
        own = items.astype(np.int64) * self.span_s
        now = self._place(own, times_s)
        counts = [now - self._place(own, times_s - window) for window in WINDOWS_S]
        first = np.searchsorted(self.keys, own)
        is_met = now > first
        met_s = self.keys[np.minimum(first, len(self.keys) - 1)] - own if len(self.keys) else np.zeros(len(own))
        days = np.where(is_met, (times_s - self.start_s - met_s) / _DAY_S, 0)
        found: Floats = np.log1p(np.stack([*counts, days], 1)).astype(np.float32)
        assert found.shape == (len(items), NUM_STATISTICS)
        return found

    def _place(self, own: Ints, times_s: Ints) -> Ints:
        """How many keys lie before each item's moment."""
        since = np.clip(times_s - self.start_s, 0, self.span_s - 1)
        return np.searchsorted(self.keys, own + since)
