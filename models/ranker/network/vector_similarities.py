"""Cosines of item vectors, aspect by aspect: with behaviors, with the page, among candidates.

Shape legend: B batch, C candidates, H history, D vector, S aspects.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

NUM_LIST_ASPECTS = 2
"""Of `compare_candidates`."""


def compute_similarities(candidates_BCD: Tensor, behaviors_BHD: Tensor, aspects: Sequence[int]) -> Tensor:
    """Cosines of each aspect, [B, S, H, C]; what the vectors hold beyond these aspects is not looked at."""
    aspect_bounds = pairwise(accumulate(aspects, initial=0))
    cosines_BHC = [
        behaviors_BHD[..., start:stop] @ candidates_BCD[..., start:stop].transpose(-1, -2)
        for start, stop in aspect_bounds
    ]
    joined = torch.cat(cosines_BHC, 1)
    return joined.view(joined.shape[0], len(aspects), -1, joined.shape[2])


def compare_with_context(candidates_BCD: Tensor, context_B1D: Tensor, aspects: Sequence[int]) -> Tensor:
    """Cosines of each aspect between candidates and what the page is about, [B, S, C].

    The context may be of length 0: no list of a log says what its page is about.
    """
    if not context_B1D.shape[-1]:
        context_B1D = candidates_BCD[:, :1] * 0
    return compute_similarities(candidates_BCD, context_B1D, aspects).sum(2)


def compare_candidates(vectors_BCD: Tensor, aspects: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Cosines between the candidates [B, S, C, C], and of each with itself [B, S, C].

    Two stand for all aspects, since pairs of a pool of hundreds are many: the first, and all of them in one.
    """
    halves, own_halves = [], []
    for vectors, num_joined in ((vectors_BCD[..., : aspects[0]], 1), (vectors_BCD, len(aspects))):
        halves.append(vectors @ vectors.transpose(-1, -2) / num_joined)
        own_halves.append(vectors.square().sum(-1) / num_joined)
    return torch.stack(halves, 1), torch.stack(own_halves, 1)
