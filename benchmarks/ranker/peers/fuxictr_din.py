"""FuxiCTR's DIN: the library's network, optimizer and training step.

Its defaults, made for millions of rows, stay at chance on these. Chosen on validation lists: softmax in the
attention, batch norm, a light penalty on embeddings and small batches, which lift NDCG@10 from .04 to .24.
"""

import tempfile
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
import torch
from fuxictr.features import FeatureMap
from model_zoo.LongCTR.DIN.DIN import DIN

from benchmarks.ranker.peers.batches import FIELDS, RowBatch
from benchmarks.ranker.peers.run import EMBEDDING
from contracts.array_types import FloatArray, IntArray

_LABEL = "label"
_GRADIENT_NORM = 10.0
BATCH_SIZE, NUM_EPOCHS = 256, 5


class FuxiDin:
    """The network with the item table that its inputs are looked up in."""

    def __init__(self, fields: dict[str, IntArray]) -> None:
        scratch_folder = tempfile.gettempdir()
        feature_map = FeatureMap("rows", scratch_folder)
        feature_map.features = OrderedDict(
            (
                name,
                {
                    "source": "item",
                    "type": "categorical",
                    "vocab_size": int(values.max()) + 1,
                    "padding_idx": 0,
                },
            )
            for name, values in fields.items()
        )
        feature_map.labels = [_LABEL]
        feature_map.num_fields, feature_map.default_emb_dim = len(FIELDS), EMBEDDING
        self.fields = {name: torch.from_numpy(values) for name, values in fields.items()}
        self.model = DIN(
            feature_map,
            embedding_dim=EMBEDDING,
            optimizer="adam",
            loss="binary_crossentropy",
            verbose=0,
            model_root=scratch_folder,
            metrics=["AUC"],
            din_use_softmax=True,
            batch_norm=True,
            embedding_regularizer=1e-6,
        )
        self.model._max_gradient_norm = _GRADIENT_NORM

    def train_epoch(self, batches: list[RowBatch]) -> None:
        """Takes one step a batch."""
        self.model.train()
        for batch_number, batch in enumerate(batches):
            self.model._batch_index = batch_number
            self.model.train_step(self.make_inputs(batch))

    def score_lists(self, batches: Iterator[RowBatch]) -> FloatArray:
        """Scores of all rows, in their order."""
        self.model.eval()
        with torch.inference_mode():
            return np.concatenate(
                [self.model(self.make_inputs(batch))["y_pred"].numpy().ravel() for batch in batches]
            )

    def make_inputs(
        self, batch: RowBatch
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], torch.Tensor]:
        """Labels, item fields and mask of a batch."""
        # As the library's collator does it: padded to the batch's longest history, the target last.
        longest_history = max(1, int((batch.history_BH > 0).sum(1).max()))
        histories = batch.history_BH[:, :longest_history]
        item_rows = torch.from_numpy(np.concatenate([histories, batch.candidates_B[:, None]], 1).ravel())
        history_mask = torch.from_numpy((histories > 0).astype(np.float32))
        labels = {_LABEL: torch.from_numpy(batch.clicks_B)}
        return labels, {name: code_table[item_rows] for name, code_table in self.fields.items()}, history_mask


def build_peer(fields: dict[str, IntArray], history_length: int) -> FuxiDin:
    """The peer; the library takes histories of any length."""
    del history_length
    return FuxiDin(fields)
