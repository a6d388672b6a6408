"""Trains and scores one peer, in the peers' environment: `python -m benchmarks.ranker.peers.run PEER FOLDER`.

Reads `items.npz` and the parts' rows from FOLDER, writes `PEER.npz`: processor seconds and samples of the
training steps, and the test scores of the epoch that was best on validation lists. Batches come from memory,
made before the clock starts: a library's own loader is not counted against it.
"""

import argparse
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from benchmarks.ranker.peers.batches import (
    TEST,
    TRAIN,
    VALIDATION,
    PeerRows,
    RowBatch,
    iter_batches,
    load_rows,
    take_lists,
)
from contracts.array_types import FloatArray, IntArray

SCORING_BATCH = 4096
EMBEDDING = 64
_VALIDATION_LISTS = 1000


class Peer(Protocol):
    """A library's ranker."""

    def train_epoch(self, batches: list[RowBatch]) -> None:
        """Takes one step a batch."""

    def score_lists(self, batches: Iterator[RowBatch]) -> FloatArray:
        """Scores of all rows, in their order."""


def train_and_score_peer(name: str, folder: Path, *, seed: int) -> None:
    """Trains to the end and writes what came of it."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    with np.load(folder / "items.npz", allow_pickle=False) as stored_items:
        fields: dict[str, IntArray] = dict(stored_items)
    rows_by_part = {log_part: load_rows(folder / f"{log_part}.npz") for log_part in (TRAIN, VALIDATION, TEST)}
    module = import_module(f"benchmarks.ranker.peers.{name}")
    peer: Peer = module.build_peer(fields, rows_by_part[TRAIN].history.shape[1])
    validation_rows = take_lists(rows_by_part[VALIDATION], _VALIDATION_LISTS)
    best_ndcg10, test_scores, training_s = -1.0, np.empty(0, np.float32), 0.0
    for epoch in range(module.NUM_EPOCHS):
        rng = np.random.default_rng([seed, epoch])
        batches = list(iter_batches(rows_by_part[TRAIN], module.BATCH_SIZE, rng))
        epoch_start_s = time.process_time()
        peer.train_epoch(batches)
        training_s += time.process_time() - epoch_start_s
        validation_scores = peer.score_lists(iter_batches(validation_rows, SCORING_BATCH))
        validation_ndcg10 = compute_ndcg10(validation_scores, validation_rows)
        print(f"{name}, epoch {epoch + 1}: {training_s:.0f} s, NDCG@10 {validation_ndcg10:.4f}", flush=True)
        if validation_ndcg10 > best_ndcg10:
            best_ndcg10 = validation_ndcg10
            test_scores = peer.score_lists(iter_batches(rows_by_part[TEST], SCORING_BATCH))
    num_samples = module.NUM_EPOCHS * len(rows_by_part[TRAIN].candidates)
    np.savez(
        folder / f"{name}.npz", allow_pickle=False, test=test_scores, seconds=training_s, samples=num_samples
    )


def compute_ndcg10(scores: FloatArray, rows: PeerRows) -> float:
    """Mean NDCG@10 of lists with one target; equal scores count against it."""
    list_of_row = np.repeat(np.arange(len(rows.history)), np.diff(rows.offsets))
    target_scores = np.zeros(len(rows.history), np.float32)
    target_scores[list_of_row[rows.clicks]] = scores[rows.clicks]
    is_above = (scores >= target_scores[list_of_row]) & ~rows.clicks
    target_ranks = np.bincount(list_of_row, is_above, len(target_scores))
    return float(np.where(target_ranks < 10, 1 / np.log2(target_ranks + 2), 0).mean())


def run_named_peer() -> None:
    """One peer, one seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=("fuxictr_din", "recbole_sasrec"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    train_and_score_peer(arguments.peer, arguments.folder, seed=arguments.seed)


if __name__ == "__main__":
    run_named_peer()
