"""What single behaviors call for: items that lie near *something* in the history.

A sequence's summary blurs behaviors that have nothing to do with each other. So each visible behavior
answers for itself, beside the transformer: log mean_j p(i | j), with p(i | j) in proportion to exp(s cos(j,
i)). The answers compete (the form of multiple-instance learning, Miech et al., arXiv 1912.06430, section
3.2). Each behavior has one vote, shared among all other items. Otherwise a behavior among many alike items
would outvote the others.

A letter of its own: R visible behaviors of all sequences, flat.
"""

import math

import torch
from torch import Tensor, nn

_SHARPNESS_START = 10.0
MIN_VOTE_TOTAL = 1e-6
"""What all other items together must be worth before a vote is shared among them in full."""


class Associations(nn.Module):
    """How sharply nearness counts, and how much. The space itself is given."""

    def __init__(self) -> None:
        super().__init__()
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(_SHARPNESS_START)))
        self.strength = nn.Parameter(torch.ones(()))

    @property
    def sharpness(self) -> Tensor:
        """s, what a cosine is multiplied by."""
        return self.log_sharpness.exp()

    def forward(self, vectors_ID: Tensor, items_BT: Tensor, is_visible_BT: Tensor) -> Tensor:
        """Computes the log-odds of every item, [B, I]; 0 where nothing is visible.

        Args:
            vectors_ID: knowledge vectors of the items, of unit norm.
            items_BT: items of the sequences.
            is_visible_BT: which of them are seen.
        """
        rows, columns = is_visible_BT.nonzero(as_tuple=True)
        votes_RI = share_votes(vectors_ID[items_BT[rows, columns]] @ vectors_ID.T, self.sharpness)
        total_BI = votes_RI.new_zeros(len(items_BT), len(vectors_ID)).index_add(0, rows, votes_RI)
        return self.strength * log_mean_vote(total_BI, is_visible_BT.sum(1))


def share_votes(cosines_RI: Tensor, sharpness: Tensor | float) -> Tensor:
    """Shares each behavior's vote among all items, [R, I]. The items that are not its own get 1 in all."""
    votes_RI = torch.exp(sharpness * (cosines_RI - 1))
    return votes_RI / (votes_RI.sum(1, keepdim=True) - 1).clamp_min(MIN_VOTE_TOTAL)


def log_mean_vote(total_BI: Tensor, count_B: Tensor) -> Tensor:
    """Takes the logarithm of summed votes, divided by the number of behaviors; 0 where there were none."""
    is_empty_B1 = (count_B == 0)[:, None]
    return torch.log((total_BI / count_B.clamp_min(1)[:, None]).masked_fill(is_empty_B1, 1.0))
