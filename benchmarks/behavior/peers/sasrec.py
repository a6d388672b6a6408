"""SASRec (Kang and McAuley, "Self-attentive sequential recommendation", ICDM 2018).

With the full softmax instead of one sampled negative, which is what makes it as good as later models
(Klenitskiy and Vasilev, "Turning dross into gold loss", RecSys 2023).
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.behavior.peers.log import NO_ITEM, PeerLog, Scorer, recommend_by_score
from benchmarks.behavior.peers.training import PeerConfig, train_peer_network
from benchmarks.behavior.peers.transformer import ItemTransformer
from contracts.array_types import FloatArray, IntArray


def train_sasrec(log: PeerLog, config: PeerConfig) -> Scorer:
    """Trained to name each next item."""
    torch.manual_seed(config.seed)
    network = ItemTransformer(log, config, causal=True, text=False)

    def compute_loss(histories: IntArray, _generator: torch.Generator) -> Tensor:
        items_bt = torch.from_numpy(histories)
        table_nd = network.item_table()
        hidden_btd = network(items_bt[:, :-1].contiguous(), table_nd)
        targets_bt = items_bt[:, 1:]
        known_bt = targets_bt != NO_ITEM
        return cross_entropy(network.compute_logits(hidden_btd[known_bt], table_nd), targets_bt[known_bt])

    def score_users(histories: IntArray) -> FloatArray:
        return network.score_sequences(histories, masked_end=False)

    train_peer_network(network, compute_loss, recommend_by_score(score_users), log, config)
    return score_users
