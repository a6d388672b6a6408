"""BERT4Rec (Sun et al., CIKM 2019): masked items, named from both sides. An item has a text vector or not.

With text an item's vector is its id's plus a projection of its text vector, in the input and in the output
(the idea of UniSRec, Hou et al., KDD 2022, without its pretraining).
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.behavior.peers.log import NO_ITEM, PeerLog, Scorer, recommend_by_score
from benchmarks.behavior.peers.training import PeerConfig, train_peer_network
from benchmarks.behavior.peers.transformer import ItemTransformer
from contracts.array_types import FloatArray, IntArray

_MASK_SHARE = 0.3


def train_bert4rec(log: PeerLog, config: PeerConfig, *, text: bool) -> Scorer:
    """Trained to name masked items, at least one of each user."""
    torch.manual_seed(config.seed)
    network = ItemTransformer(log, config, causal=False, text=text)

    def compute_loss(histories: IntArray, generator: torch.Generator) -> Tensor:
        items_bt = torch.from_numpy(histories)
        draw_bt = torch.rand(items_bt.shape, generator=generator).masked_fill(items_bt == NO_ITEM, 2.0)
        least_b1 = draw_bt.min(dim=1, keepdim=True).values
        masked_bt = (draw_bt < _MASK_SHARE) | (draw_bt == least_b1)
        table_nd = network.item_table()
        hidden_btd = network(items_bt.masked_fill(masked_bt, log.num_items), table_nd)
        return cross_entropy(network.compute_logits(hidden_btd[masked_bt], table_nd), items_bt[masked_bt])

    def score_users(histories: IntArray) -> FloatArray:
        return network.score_sequences(histories, masked_end=True)

    train_peer_network(network, compute_loss, recommend_by_score(score_users), log, config)
    return score_users
