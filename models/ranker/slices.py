"""Parts of the test lists in which a ranker may be better or worse than on the whole.

Legend: N lists, I rows of the item table.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from models.ranker.encoding import FIRST
from models.ranker.metrics import Bools, Reals
from models.ranker.records import RankingRows
from models.ranker.rows import ItemTable

COLD_EVENTS = 5
NEW_USER_BEHAVIORS = 3
HEAD_SHARE = 0.1
_LEAST_LISTS = 30


def training_events(events: pl.DataFrame, names: pl.Enum) -> npt.NDArray[np.int64]:
    """Behaviours with each row of the item table, [I]; `events` are those before the training end."""
    codes = events["item_id"].cast(names, strict=False).to_physical().drop_nulls().to_numpy()
    return np.bincount(codes + FIRST, minlength=len(names.categories) + FIRST)


def slice_lists(rows: RankingRows, table: ItemTable, counts: npt.NDArray[np.int64]) -> dict[str, Bools]:
    """Slice -> the lists in it, [N], by what the (first) clicked candidate is and how much of the user is known.

    Args:
        rows: the lists.
        table: the catalogue.
        counts: training events of each row of the table, [I].
    """
    targets, has_target = _targets(rows)
    events, prices = counts[targets], table.features.price_buckets[targets]
    known = rows.lengths
    bands = np.quantile(prices[prices >= FIRST], [1 / 3, 2 / 3]) if (prices >= FIRST).any() else (0, 0)
    head = np.quantile(counts[FIRST:][counts[FIRST:] > 0], 1 - HEAD_SHARE) if (counts[FIRST:] > 0).any() else 0
    found = {
        f"cold items (under {COLD_EVENTS} training events)": events < COLD_EVENTS,
        f"head items (top {HEAD_SHARE:.0%} by training events)": (events >= head) & (events > 0),
        "tail items (the others that training met)": (events < head) & (events > 0),
        f"new users (under {NEW_USER_BEHAVIORS} behaviours)": known < NEW_USER_BEHAVIORS,
        "known users (the others)": known >= NEW_USER_BEHAVIORS,
        "low price": (prices >= FIRST) & (prices <= bands[0]),
        "middle price": (prices > bands[0]) & (prices <= bands[1]),
        "high price": prices > bands[1],
    }
    return {name: chosen & has_target for name, chosen in found.items()}


def slice_means(ndcg: Reals, slices: Mapping[str, Bools]) -> dict[str, dict[str, float]]:
    """Mean NDCG@10 and number of lists of each slice; a slice of a few lists tells nothing and is absent."""
    known = ~np.isnan(ndcg)
    return {
        name: {"ndcg10": float(ndcg[chosen & known].mean()), "lists": float((chosen & known).sum())}
        for name, chosen in slices.items()
        if (chosen & known).sum() >= _LEAST_LISTS
    }


def _targets(rows: RankingRows) -> tuple[npt.NDArray[np.int64], Bools]:
    """Item row of each list's first clicked candidate, and whether there is one."""
    clicked = np.flatnonzero(rows.clicks)
    place = np.searchsorted(clicked, rows.offsets[:-1])
    first = clicked[np.minimum(place, len(clicked) - 1)] if len(clicked) else np.zeros(len(rows), np.int64)
    has_target = (place < len(clicked)) & (first < rows.offsets[1:])
    return np.asarray(rows.candidates)[first].astype(np.int64), has_target
