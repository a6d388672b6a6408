"""FuxiCTR's DIN: the library's network, optimizer and training step.

Its defaults, made for millions of rows, stay at chance on these. Chosen on validation lists: softmax in the attention,
batch norm, a light penalty on embeddings and small batches, which lift NDCG@10 from .04 to .24.
"""

import tempfile
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
import torch
from fuxictr.features import FeatureMap
from model_zoo.LongCTR.DIN.DIN import DIN

from benchmarks.ranker_peers.batches import FIELDS, Ints, RowBatch
from benchmarks.ranker_peers.run import EMBEDDING, Floats

_LABEL = "label"
_GRADIENT_NORM = 10.0
BATCH_SIZE, NUM_EPOCHS = 256, 5


class FuxiDin:
    """The network with the item table that its inputs are looked up in."""

    def __init__(self, fields: dict[str, Ints]) -> None:
        folder = tempfile.gettempdir()
        features = FeatureMap("rows", folder)
        features.features = OrderedDict(
            (name, {"source": "item", "type": "categorical", "vocab_size": int(values.max()) + 1, "padding_idx": 0})
            for name, values in fields.items()
        )
        features.labels = [_LABEL]
        features.num_fields, features.default_emb_dim = len(FIELDS), EMBEDDING
        self.fields = {name: torch.from_numpy(values) for name, values in fields.items()}
        self.model = DIN(
            features,
            embedding_dim=EMBEDDING,
            optimizer="adam",
            loss="binary_crossentropy",
            verbose=0,
            model_root=folder,
            metrics=["AUC"],
            din_use_softmax=True,
            batch_norm=True,
            embedding_regularizer=1e-6,
        )
        self.model._max_gradient_norm = _GRADIENT_NORM

    def train_epoch(self, batches: list[RowBatch]) -> None:
        """Takes one step a batch."""
        self.model.train()
        for number, batch in enumerate(batches):
            self.model._batch_index = number
            self.model.train_step(self._inputs(batch))

    def score(self, batches: Iterator[RowBatch]) -> Floats:
        """Scores of all rows, in their order."""
        self.model.eval()
        with torch.inference_mode():
            return np.concatenate([self.model(self._inputs(batch))["y_pred"].numpy().ravel() for batch in batches])

    def _inputs(self, batch: RowBatch) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], torch.Tensor]:
        # As the library's collator does it: padded to the batch's longest history, the target last.
        longest = max(1, int((batch.history_BH > 0).sum(1).max()))
        history = batch.history_BH[:, :longest]
        items = torch.from_numpy(np.concatenate([history, batch.candidates_B[:, None]], 1).ravel())
        mask = torch.from_numpy((history > 0).astype(np.float32))
        label = {_LABEL: torch.from_numpy(batch.clicks_B)}
        return label, {name: table[items] for name, table in self.fields.items()}, mask


def build(fields: dict[str, Ints], history_length: int) -> FuxiDin:
    """The peer; the library takes histories of any length."""
    del history_length
    return FuxiDin(fields)
