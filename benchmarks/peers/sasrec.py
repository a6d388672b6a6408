"""SASRec (Kang and McAuley, "Self-attentive sequential recommendation", ICDM 2018).

With the full softmax instead of one sampled negative, which is what makes it as good as later models (Klenitskiy and
Vasilev, "Turning dross into gold loss", RecSys 2023).
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.behavior_protocol import Ints
from benchmarks.peers.log import NO_ITEM, Floats, PeerLog, Scorer, by_score
from benchmarks.peers.training import PeerConfig, fit
from benchmarks.peers.transformer import ItemTransformer


def sasrec(log: PeerLog, config: PeerConfig) -> Scorer:
    """Trained to name each next item."""
    torch.manual_seed(config.seed)
    network = ItemTransformer(log, config, causal=True, text=False)

    def loss(histories: Ints, _generator: torch.Generator) -> Tensor:
        items_bt = torch.from_numpy(histories)
        table_nd = network.table()
        hidden_btd = network(items_bt[:, :-1].contiguous(), table_nd)
        targets_bt = items_bt[:, 1:]
        known_bt = targets_bt != NO_ITEM
        return cross_entropy(network.logits(hidden_btd[known_bt], table_nd), targets_bt[known_bt])

    def score(histories: Ints) -> Floats:
        return network.score(histories, masked_end=False)

    fit(network, loss, by_score(score), log, config)
    return score
