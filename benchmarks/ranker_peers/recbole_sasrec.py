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

from benchmarks.ranker_peers.batches import Ints, RowBatch
from benchmarks.ranker_peers.run import EMBEDDING, Floats

_NAME = "rows"
BATCH_SIZE, NUM_EPOCHS = 2560, 8


class RecboleSasrec:
    """The network, and the library's number of each item."""

    def __init__(self, num_items: int, history_length: int) -> None:
        logging.disable(logging.WARNING)
        with tempfile.TemporaryDirectory() as folder:
            _write_log(num_items, Path(folder) / _NAME)
            config = Config(model="SASRec", dataset=_NAME, config_dict=_settings(folder, history_length))
            dataset = create_dataset(config)
        tokens = dataset.token2id("item_id", np.array([str(row) for row in range(1, num_items)]))
        self.numbers = np.concatenate([[0], tokens])
        self.model = SASRec(config, dataset)
        self.trainer = Trainer(config, self.model)

    def train_epoch(self, batches: list[RowBatch]) -> None:
        """Takes one step a batch."""
        self.trainer._train_epoch((self._inputs(batch, batch.clicks_B > 0) for batch in batches), 0)

    def score(self, batches: Iterator[RowBatch]) -> Floats:
        """Scores of all rows, in their order."""
        self.model.eval()
        with torch.inference_mode():
            return np.concatenate([self._scores(batch) for batch in batches])

    def _scores(self, batch: RowBatch) -> Floats:
        """What the library's `predict` gives, with the history of a list's candidates read once."""
        is_first = np.append(True, (batch.history_BH[1:] != batch.history_BH[:-1]).any(1))
        inputs = self._inputs(batch, is_first)
        users = self.model.forward(inputs["item_id_list"], inputs["item_length"])[np.cumsum(is_first) - 1]
        items = self.model.item_embedding(torch.from_numpy(self.numbers[batch.candidates_B]))
        scores: Floats = (users * items).sum(1).numpy()
        return scores

    def _inputs(self, batch: RowBatch, chosen: np.ndarray) -> Interaction:
        # The library's sequences end with the newest; where nothing is known one empty place stays.
        history = batch.history_BH[chosen]
        lengths = np.maximum((history > 0).sum(1), 1)
        places = lengths[:, None] - 1 - np.arange(history.shape[1])
        oldest_first = np.take_along_axis(history, np.maximum(places, 0), 1) * (places >= 0)
        return Interaction(
            {
                "item_id": torch.from_numpy(self.numbers[batch.candidates_B[chosen]]),
                "item_id_list": torch.from_numpy(self.numbers[oldest_first]),
                "item_length": torch.from_numpy(lengths),
            }
        )


def build(fields: dict[str, Ints], history_length: int) -> RecboleSasrec:
    """The peer; it knows items by their rows alone."""
    return RecboleSasrec(len(fields["ids"]), history_length)


def _settings(folder: str, history_length: int) -> dict[str, object]:
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
    lines = [f"u\t{row}\t{row}" for row in range(1, num_items)]
    text = "\n".join(["user_id:token\titem_id:token\ttimestamp:float", *lines]) + "\n"
    (folder / f"{_NAME}.inter").write_text(text, encoding="utf-8")
