"""What peers train on and score, as they read it: one row a candidate, histories padded to one length.

Runs in the peers' environment too: numpy alone.

Legend: N lists, M candidates of all lists, H history, I rows of the item table, B rows of a batch.
"""

# ruff: noqa: N815 (shape suffixes)
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
FIELDS = ("ids", "categories", "brands", "price_buckets")
TRAIN, VALIDATION, TEST = "train", "validation", "test"


class PeerRows(NamedTuple):
    """The lists of one part of the log."""

    offsets: Ints
    """[N + 1]"""
    candidates: Ints
    """[M], rows of the item table."""
    clicks: npt.NDArray[np.bool_]
    """[M]"""
    history: Ints
    """[N, H], newest first, 0 where there is none."""


class RowBatch(NamedTuple):
    """Some candidates with their users' histories."""

    candidates_B: Ints
    clicks_B: npt.NDArray[np.float32]
    history_BH: Ints


def save_rows(rows: PeerRows, path: Path) -> None:
    """Writes the lists of a part."""
    np.savez(path, allow_pickle=False, **rows._asdict())


def load_rows(path: Path) -> PeerRows:
    """Reads the lists of a part."""
    with np.load(path, allow_pickle=False) as stored:
        return PeerRows(*(stored[name] for name in PeerRows._fields))


def iter_batches(rows: PeerRows, batch_size: int, rng: np.random.Generator | None = None) -> Iterator[RowBatch]:
    """Every candidate once, in their order or shuffled."""
    owner = np.repeat(np.arange(len(rows.offsets) - 1), np.diff(rows.offsets))
    order = np.arange(len(owner)) if rng is None else rng.permutation(len(owner))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        clicks = rows.clicks[chosen].astype(np.float32)
        yield RowBatch(rows.candidates[chosen].astype(np.int64), clicks, rows.history[owner[chosen]].astype(np.int64))


def spread_lists(total: int, count: int) -> Ints:
    """At most `count` of `total` lists, evenly spread."""
    return np.linspace(0, total - 1, min(count, total)).astype(np.int64)


def some_lists(rows: PeerRows, count: int) -> PeerRows:
    """At most `count` lists, evenly spread."""
    chosen = spread_lists(len(rows.history), count)
    lengths = np.diff(rows.offsets)[chosen]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    flat = np.repeat(rows.offsets[chosen] - offsets[:-1], lengths) + np.arange(offsets[-1])
    return PeerRows(offsets, rows.candidates[flat], rows.clicks[flat], rows.history[chosen])
