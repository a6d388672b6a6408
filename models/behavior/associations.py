"""What single behaviours call for: items that lie near *something* in the history.

A sequence's summary blurs what its parts have nothing to do with each other. So beside the transformer's answer each
visible behaviour answers for itself, log mean_j p(i | j) with p(i | j) in proportion to exp(s cos(j, i)), and the
answers compete (the form of multiple-instance learning, Miech et al., arXiv 1912.06430, section 3.2). Each behaviour
has one vote, shared among all other items: else those among many alike ones would outvote the others.

Shape letters: B sequences, T positions, R visible behaviours of all of them, N items, V length of the knowledge vector.
"""

import math

import torch
from torch import Tensor, nn

_SHARPNESS_START = 10.0
LEAST_VOTE = 1e-6
"""What all other items together must be worth before a vote is shared among them in full."""


class Associations(nn.Module):
    """How sharply nearness counts, and how much; the space itself is given."""

    def __init__(self) -> None:
        super().__init__()
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(_SHARPNESS_START)))
        self.strength = nn.Parameter(torch.ones(()))

    @property
    def sharpness(self) -> Tensor:
        """s, what a cosine is multiplied by."""
        return self.log_sharpness.exp()

    def forward(self, vectors_nv: Tensor, items_bt: Tensor, visible_bt: Tensor) -> Tensor:
        """Log-odds of every item, [B, N]; 0 where nothing is visible.

        Args:
            vectors_nv: knowledge vectors of the items, of unit norm.
            items_bt: items of the sequences.
            visible_bt: which of them are seen.
        """
        row, column = visible_bt.nonzero(as_tuple=True)
        answers_rn = votes(vectors_nv[items_bt[row, column]] @ vectors_nv.T, self.sharpness)
        total_bn = answers_rn.new_zeros(len(items_bt), len(vectors_nv)).index_add(0, row, answers_rn)
        return self.strength * log_mean(total_bn, visible_bt.sum(1))


def votes(cosines_rn: Tensor, sharpness: Tensor | float) -> Tensor:
    """What behaviours say of all items, [R, N]; those of the items that are not the behaviour's own add up to 1."""
    answers_rn = torch.exp(sharpness * (cosines_rn - 1))
    return answers_rn / (answers_rn.sum(1, keepdim=True) - 1).clamp_min(LEAST_VOTE)


def log_mean(total_bn: Tensor, count_b: Tensor) -> Tensor:
    """Logarithm of sums over behaviours divided by their number; 0 where there were none."""
    none_b1 = (count_b == 0)[:, None]
    return torch.log((total_bn / count_b.clamp_min(1)[:, None]).masked_fill(none_b1, 1.0))
