"""A transformer over item sequences, causal (SASRec) or not (BERT4Rec), with input and output items tied.

Shape letters: B users, T positions, N items, D width, d length of a text vector.
"""

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.behavior.peers.log import NO_ITEM, PeerLog
from benchmarks.behavior.peers.training import PeerConfig
from contracts.array_types import FloatArray, IntArray


class ItemTransformer(nn.Module):
    """Predicts an item at each position. Item N stands for the mask."""

    def __init__(self, log: PeerLog, config: PeerConfig, *, causal: bool, text: bool) -> None:
        super().__init__()
        width = config.dimension
        self.causal = causal
        self.ids = nn.Embedding(log.num_items + 1, width)
        nn.init.normal_(self.ids.weight, std=0.02)
        self.text = nn.Linear(log.vectors.shape[1], width, bias=False) if text else None
        self.register_buffer("vectors", torch.from_numpy(_center_vectors(log.vectors)))
        self.positions = nn.Embedding(log.histories.shape[1] + 1, width)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.bias = nn.Parameter(torch.zeros(log.num_items))
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(config.dropout)
        encoder_layer = nn.TransformerEncoderLayer(
            width, config.num_heads, 4 * width, config.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(
            encoder_layer, config.num_layers, nn.LayerNorm(width), enable_nested_tensor=False
        )

    def item_table(self) -> Tensor:
        """Item vectors, [N + 1, D]; the last is the mask's."""
        if self.text is None:
            return self.ids.weight
        projected_text = self.text(self.get_buffer("vectors"))
        return self.ids.weight + torch.cat(
            [projected_text, projected_text.new_zeros(1, projected_text.shape[1])]
        )

    def forward(self, items_bt: Tensor, table_nd: Tensor) -> Tensor:
        """Hidden states [B, T, D] of left-aligned items; positions count from the last."""
        valid_bt = items_bt != NO_ITEM
        from_end_bt = (valid_bt.sum(1, keepdim=True) - 1 - torch.arange(items_bt.shape[1])).clamp_min(0)
        x_btd = table_nd[items_bt.clamp_min(0)] + self.positions(from_end_bt)
        causal_mask = None
        if self.causal:
            causal_mask = nn.Transformer.generate_square_subsequent_mask(items_bt.shape[1]).bool()
        hidden_btd: Tensor = self.blocks(
            self.dropout(self.norm(x_btd)), mask=causal_mask, src_key_padding_mask=~valid_bt
        )
        return hidden_btd

    def compute_logits(self, hidden_md: Tensor, table_nd: Tensor) -> Tensor:
        """Scores of the catalogue, [M, N]."""
        return hidden_md @ table_nd[:-1].T + self.bias

    @torch.no_grad()
    def score_sequences(self, histories: IntArray, *, masked_end: bool) -> FloatArray:
        """Scores at the end of each history [B, N]: at its last item, or at a mask set behind it."""
        items_bt = torch.from_numpy(histories)
        last_b = (items_bt != NO_ITEM).sum(1) - (0 if masked_end else 1)
        if masked_end:
            items_bt = torch.cat([items_bt, torch.full((len(items_bt), 1), NO_ITEM)], dim=1)
            items_bt[torch.arange(len(items_bt)), last_b] = len(self.bias)
        self.eval()
        table_nd = self.item_table()
        hidden_bd: Tensor = self(items_bt, table_nd)[torch.arange(len(items_bt)), last_b]
        scores_bn = self.compute_logits(hidden_bd, table_nd)
        return np.asarray(scores_bn.numpy(), dtype=np.float32)


def _center_vectors(vectors: FloatArray) -> FloatArray:
    """Text vectors without their common part, of mean square one."""
    centered_vectors = vectors - vectors.mean(axis=0)
    return np.asarray(centered_vectors / max(float(centered_vectors.std()), 1e-9), dtype=np.float32)
