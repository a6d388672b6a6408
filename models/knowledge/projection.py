"""From an item's views to its vector: a linear map and a small correction, in torch.

Shape legend: N items, W width of all views together, d dimension of the space.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from models.knowledge.encoder import Floats

_ROWS = 8192
_INPUT_DROPOUT = 0.1


class Projection(nn.Module):
    """Views [N, W] -> points [N, d] of the space. Untrained it is a principal component analysis of the views."""

    def __init__(self, width: int, dimension: int, hidden: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear = nn.Linear(width, dimension, bias=False)
        self.hidden = nn.Linear(width, hidden)
        self.correction = nn.Linear(hidden, dimension)
        self.dropout = dropout
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)

    def fit_linear(self, views: Floats) -> None:
        """Sets the linear map to the principal axes of views [N, W]."""
        _, axes = np.linalg.eigh(views.T @ views)
        leading = np.ascontiguousarray(axes[:, ::-1][:, : self.linear.out_features].T, dtype=np.float32)
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(leading))

    def forward(self, views: Tensor) -> Tensor:
        """Points [N, d], not of unit norm: their length weighs them against what is added to them."""
        seen = nn.functional.dropout(views, _INPUT_DROPOUT if self.dropout else 0.0, self.training)
        hidden = nn.functional.dropout(gelu(self.hidden(seen)), self.dropout, self.training)
        points: Tensor = self.linear(seen) + self.correction(hidden)
        return points

    @torch.no_grad()
    def project(self, views: Floats) -> Floats:
        """Points [N, d] of views [N, W], in blocks."""
        self.eval()
        parts = [self(part).numpy() for part in torch.split(torch.from_numpy(views), _ROWS)]
        return np.concatenate(parts) if parts else np.zeros((0, self.linear.out_features), np.float32)

    def without(self, width: int) -> "Projection":
        """The same map of the first `width` inputs, as if the others were zero."""
        copy = Projection(width, self.linear.out_features, self.hidden.out_features, dropout=self.dropout)
        state = self.state_dict()
        for name in ("linear.weight", "hidden.weight"):
            state[name] = state[name][:, :width]
        copy.load_state_dict(state)
        return copy

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Floats]) -> "Projection":
        """The projection whose `state_dict` this is."""
        dimension, width = tensors["linear.weight"].shape
        loaded = cls(width, dimension, len(tensors["hidden.bias"]))
        loaded.load_state_dict({name: torch.from_numpy(values) for name, values in tensors.items()})
        return loaded
