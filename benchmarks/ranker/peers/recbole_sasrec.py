"""RecBole's SASRec (the library's network, trainer and optimizer, with its own defaults but for the sizes).

It learns from targets alone, against all items; its DIN takes hours for these rows.
"""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender.sasrec import SASRec
from recbole.trainer.trainer import Trainer

from benchmarks.ranker.peers.batches import RowBatch
from benchmarks.ranker.peers.run import EMBEDDING
from contracts.array_types import FloatArray, IntArray

_NAME = "rows"
BATCH_SIZE, NUM_EPOCHS = 2560, 8


class RecboleSasrec:
    """The network, and the library's number of each item."""

    def __init__(self, num_items: int, history_length: int) -> None:
        logging.disable(logging.WARNING)
        with tempfile.TemporaryDirectory() as folder:
            _write_log(num_items, Path(folder) / _NAME)
            config = Config(model="SASRec", dataset=_NAME, config_dict=_make_settings(folder, history_length))
            dataset = create_dataset(config)
        item_tokens = dataset.token2id("item_id", np.array([str(row) for row in range(1, num_items)]))
        self.numbers = np.concatenate([[0], item_tokens])
        self.model = SASRec(config, dataset)
        self.trainer = Trainer(config, self.model)

    def train_epoch(self, batches: list[RowBatch]) -> None:
        """Takes one step a batch."""
        self.trainer._train_epoch((self.make_inputs(batch, batch.clicks_B > 0) for batch in batches), 0)

    def score_lists(self, batches: Iterator[RowBatch]) -> FloatArray:
        """Scores of all rows, in their order."""
        self.model.eval()
        with torch.inference_mode():
            return np.concatenate([self.score_batch(batch) for batch in batches])

    def score_batch(self, batch: RowBatch) -> FloatArray:
        """What the library's `predict` gives, with the history of a list's candidates read once."""
        is_first = np.append(True, (batch.history_BH[1:] != batch.history_BH[:-1]).any(1))
        history_inputs = self.make_inputs(batch, is_first)
        user_vectors = self.model.forward(history_inputs["item_id_list"], history_inputs["item_length"])[
            np.cumsum(is_first) - 1
        ]
        item_vectors = self.model.item_embedding(torch.from_numpy(self.numbers[batch.candidates_B]))
        scores: FloatArray = (user_vectors * item_vectors).sum(1).numpy()
        return scores

    def make_inputs(self, batch: RowBatch, chosen: np.ndarray) -> Interaction:
        """Histories and targets of the chosen rows of a batch."""
        # The library's sequences end with the newest; where nothing is known one empty place stays.
        histories = batch.history_BH[chosen]
        history_lengths = np.maximum((histories > 0).sum(1), 1)
        newest_last = history_lengths[:, None] - 1 - np.arange(histories.shape[1])
        oldest_first = np.take_along_axis(histories, np.maximum(newest_last, 0), 1) * (newest_last >= 0)
        return Interaction(
            {
                "item_id": torch.from_numpy(self.numbers[batch.candidates_B[chosen]]),
                "item_id_list": torch.from_numpy(self.numbers[oldest_first]),
                "item_length": torch.from_numpy(history_lengths),
            }
        )


def build_peer(fields: dict[str, IntArray], history_length: int) -> RecboleSasrec:
    """The peer; it knows items by their rows alone."""
    return RecboleSasrec(len(fields["ids"]), history_length)


def _make_settings(folder: str, history_length: int) -> dict[str, object]:
    return {
        "data_path": folder,
        "checkpoint_dir": folder,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": history_length,
        "hidden_size": EMBEDDING,
        "train_neg_sample_args": None,
        "use_gpu": False,
        "show_progress": False,
    }


def _write_log(num_items: int, folder: Path) -> None:
    """A log that names every item, since the library numbers what it meets."""
    folder.mkdir()
    log_lines = [f"u\t{item_row}\t{item_row}" for item_row in range(1, num_items)]
    log_text = "\n".join(["user_id:token\titem_id:token\ttimestamp:float", *log_lines]) + "\n"
    (folder / f"{_NAME}.inter").write_text(log_text, encoding="utf-8")
