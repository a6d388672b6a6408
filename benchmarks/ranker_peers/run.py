"""Trains and scores one peer, in the peers' environment: `python -m benchmarks.ranker_peers.run PEER FOLDER`.

Reads `items.npz` and the parts' rows from FOLDER, writes `PEER.npz`: processor seconds and samples of the training
steps, and the test scores of the epoch that was best on validation lists. Batches come from memory, made before the
clock starts: a library's own loader is not counted against it.
"""

import argparse
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.ranker_peers.batches import (
    TEST,
    TRAIN,
    VALIDATION,
    Ints,
    PeerRows,
    RowBatch,
    iter_batches,
    load_rows,
    some_lists,
)

Floats = npt.NDArray[np.float32]
SCORING_BATCH = 4096
EMBEDDING = 64
_VALIDATION_LISTS = 1000


class Peer(Protocol):
    """A library's ranker."""

    def train_epoch(self, batches: list[RowBatch]) -> None:
        """Takes one step a batch."""

    def score(self, batches: Iterator[RowBatch]) -> Floats:
        """Scores of all rows, in their order."""


def run(name: str, folder: Path, *, seed: int) -> None:
    """Trains to the end and writes what came of it."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    with np.load(folder / "items.npz", allow_pickle=False) as stored:
        fields: dict[str, Ints] = {field: stored[field] for field in stored.files}
    rows = {part: load_rows(folder / f"{part}.npz") for part in (TRAIN, VALIDATION, TEST)}
    module = import_module(f"benchmarks.ranker_peers.{name}")
    peer: Peer = module.build(fields, rows[TRAIN].history.shape[1])
    choosing = some_lists(rows[VALIDATION], _VALIDATION_LISTS)
    best, test, seconds = -1.0, np.empty(0, np.float32), 0.0
    for epoch in range(module.NUM_EPOCHS):
        batches = list(iter_batches(rows[TRAIN], module.BATCH_SIZE, np.random.default_rng([seed, epoch])))
        started = time.process_time()
        peer.train_epoch(batches)
        seconds += time.process_time() - started
        found = ndcg10(peer.score(iter_batches(choosing, SCORING_BATCH)), choosing)
        print(f"{name}, epoch {epoch + 1}: {seconds:.0f} s, validation NDCG@10 {found:.4f}", flush=True)
        if found > best:
            best, test = found, peer.score(iter_batches(rows[TEST], SCORING_BATCH))
    samples = module.NUM_EPOCHS * len(rows[TRAIN].candidates)
    np.savez(folder / f"{name}.npz", allow_pickle=False, test=test, seconds=seconds, samples=samples)


def ndcg10(scores: Floats, rows: PeerRows) -> float:
    """Mean NDCG@10 of lists with one target; equal scores count against it."""
    owner = np.repeat(np.arange(len(rows.history)), np.diff(rows.offsets))
    own = np.zeros(len(rows.history), np.float32)
    own[owner[rows.clicks]] = scores[rows.clicks]
    rank = np.bincount(owner, (scores >= own[owner]) & ~rows.clicks, len(own))
    return float(np.where(rank < 10, 1 / np.log2(rank + 2), 0).mean())


def main() -> None:
    """One peer, one seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=("fuxictr_din", "recbole_sasrec"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    run(given.peer, given.folder, seed=given.seed)


if __name__ == "__main__":
    main()
