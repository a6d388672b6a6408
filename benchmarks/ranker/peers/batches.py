"""What peers train on and score, as they read it: one row a candidate, histories padded to one length.

Runs in the peers' environment too: numpy alone.

Legend: N lists, M candidates of all lists, H history, I rows of the item table, B rows of a batch.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from contracts.array_types import IntArray

FIELDS = ("ids", "categories", "brands", "price_buckets")
TRAIN, VALIDATION, TEST = "train", "validation", "test"


class PeerRows(NamedTuple):
    """The lists of one part of the log."""

    offsets: IntArray
    """[N + 1]"""
    candidates: IntArray
    """[M], rows of the item table."""
    clicks: npt.NDArray[np.bool_]
    """[M]"""
    history: IntArray
    """[N, H], newest first, 0 where there is none."""


class RowBatch(NamedTuple):
    """Some candidates with their users' histories."""

    candidates_B: IntArray
    clicks_B: npt.NDArray[np.float32]
    history_BH: IntArray


def save_rows(rows: PeerRows, path: Path) -> None:
    """Writes the lists of a part."""
    np.savez(path, allow_pickle=False, **rows._asdict())


def load_rows(path: Path) -> PeerRows:
    """Reads the lists of a part."""
    with np.load(path, allow_pickle=False) as stored_arrays:
        return PeerRows(*(stored_arrays[name] for name in PeerRows._fields))


def iter_batches(
    rows: PeerRows, batch_size: int, rng: np.random.Generator | None = None
) -> Iterator[RowBatch]:
    """Every candidate once, in their order or shuffled."""
    list_of_row = np.repeat(np.arange(len(rows.offsets) - 1), np.diff(rows.offsets))
    row_order = np.arange(len(list_of_row)) if rng is None else rng.permutation(len(list_of_row))
    for batch_start in range(0, len(row_order), batch_size):
        batch_rows = row_order[batch_start : batch_start + batch_size]
        batch_clicks = rows.clicks[batch_rows].astype(np.float32)
        yield RowBatch(
            rows.candidates[batch_rows].astype(np.int64),
            batch_clicks,
            rows.history[list_of_row[batch_rows]].astype(np.int64),
        )


def spread_lists(total: int, count: int) -> IntArray:
    """At most `count` of `total` lists, evenly spread."""
    return np.linspace(0, total - 1, min(count, total)).astype(np.int64)


def take_lists(rows: PeerRows, count: int) -> PeerRows:
    """At most `count` lists, evenly spread."""
    chosen_lists = spread_lists(len(rows.history), count)
    list_lengths = np.diff(rows.offsets)[chosen_lists]
    new_offsets = np.concatenate([[0], np.cumsum(list_lengths)])
    list_shifts = np.repeat(rows.offsets[chosen_lists] - new_offsets[:-1], list_lengths)
    chosen_rows = list_shifts + np.arange(new_offsets[-1])
    return PeerRows(
        new_offsets, rows.candidates[chosen_rows], rows.clicks[chosen_rows], rows.history[chosen_lists]
    )
