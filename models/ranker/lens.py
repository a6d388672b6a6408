"""A fixed map that makes the cosines of item vectors tell more.

Vectors of a text encoder share a common direction and lie in few dimensions, so all cosines look alike. The lens takes
the catalogue's mean off, divides each principal direction by the square root of its spread (half of a whitening; a
whole one would blow up noise) and keeps the leading directions. It is fitted on the items that training saw.

Source: Su et al., "Whitening sentence representations" (arXiv 2103.15316), halved.

Shape legend: D vector, R directions kept.
"""

import numpy as np
import torch
from torch import Tensor, nn

from models.ranker.encoding import Floats

_LEAST_SPREAD = 1e-6


class Lens(nn.Module):
    """Item vectors [..., D] -> unit vectors [..., R]; an item without a vector (zeros) stays zeros."""

    centre: Tensor
    directions: Tensor

    def __init__(self, vector_dim: int, rank: int) -> None:
        super().__init__()
        self.rank = min(vector_dim, rank)
        self.register_buffer("centre", torch.zeros(vector_dim))
        self.register_buffer("directions", torch.eye(vector_dim, self.rank))

    def fit(self, vectors: Floats) -> None:
        """Fits the lens on vectors [N, D]; rows of zeros are left out."""
        known = vectors[np.any(vectors != 0, axis=1)].astype(np.float64)
        if len(known) < 2 or np.ptp(known, axis=0).max() < _LEAST_SPREAD:
            return  # No two items differ: there is nothing to look at more closely.
        centre = known.mean(0)
        offsets = known - centre
        spread, directions = np.linalg.eigh(offsets.T @ offsets / len(known))
        spread, directions = spread[::-1][: self.rank], directions[:, ::-1][:, : self.rank]
        # The spread is a variance: its fourth root is the square root of a standard deviation.
        scaled = directions / np.maximum(spread, _LEAST_SPREAD * spread[0]) ** 0.25
        self.centre.copy_(torch.from_numpy(centre))
        self.directions.copy_(torch.from_numpy(np.ascontiguousarray(scaled)))

    def forward(self, vectors: Tensor) -> Tensor:
        """Sees item vectors through the lens."""
        seen = (vectors - self.centre) @ self.directions
        known = (vectors * vectors).sum(-1, keepdim=True) > 0
        unit: Tensor = seen / seen.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        return unit * known.to(unit.dtype)
