"""From an item's views to its vector: a linear map and a small correction, in torch.

Shape legend: N items, W width of all views together, K principal axes of these, D dimension of the space.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from contracts.array_types import FloatArray

_ROWS_PER_BLOCK: Final = 8192
_HIDDEN_WIDTH: Final = 512
"""Of the correction: twice the default dimension."""
_INPUT_DROPOUT: Final = 0.1
_HIDDEN_DROPOUT: Final = 0.2


class Dropout:
    """Leaves out numbers at random, from a generator of its own: trainings in threads stay reproducible."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def drop_numbers(self, values: Tensor, share: float) -> Tensor:
        """Zeroes a share of the values, in steps of 1/256, and scales up the others."""
        # Bytes against a threshold: torch's own draws took a fifth of the training time.
        threshold = round(share * 256)
        drawn_bytes = np.frombuffer(self._rng.bytes(values.numel()), np.uint8).reshape(values.shape)
        return values * torch.from_numpy(drawn_bytes >= threshold) * (256 / (256 - threshold))


class Projection(nn.Module):
    """Maps views [N, W] to points [N, D]."""

    def __init__(self, width: int, dimension: int, hidden: int = _HIDDEN_WIDTH) -> None:
        super().__init__()
        self.linear = nn.Linear(width, dimension, bias=False)
        self.hidden = nn.Linear(width, hidden)
        self.correction = nn.Linear(hidden, dimension)

    def forward(self, views: Tensor) -> Tensor:
        """Points [N, D], not of unit norm: their length weighs them against what is added to them."""
        points: Tensor = self.linear(views) + self.correction(gelu(self.hidden(views)))
        return points

    @torch.no_grad()
    def project_views(self, views: FloatArray) -> FloatArray:
        """Points [N, D] of views [N, W], in blocks."""
        view_blocks = torch.split(torch.from_numpy(views), _ROWS_PER_BLOCK)
        return np.concatenate([self(block).numpy() for block in view_blocks])

    def keep_inputs(self, width: int) -> "Projection":
        """The same map of the first `width` inputs, as if the others were zero."""
        narrow_copy = Projection(width, self.linear.out_features, self.hidden.out_features)
        weights_by_name = self.state_dict()
        for name in ("linear.weight", "hidden.weight"):
            weights_by_name[name] = weights_by_name[name][:, :width]
        narrow_copy.load_state_dict(weights_by_name)
        return narrow_copy

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, FloatArray]) -> "Projection":
        """The projection whose `state_dict` this is."""
        dimension, width = tensors["linear.weight"].shape
        projection = cls(width, dimension, len(tensors["hidden.bias"]))
        projection.load_state_dict({name: torch.from_numpy(values) for name, values in tensors.items()})
        return projection


class TrainableProjection(nn.Module):
    """A projection in training. It reads the views on K principal axes, and starts as an analysis of these.

    The correction reads the D linear points instead of all axes: a third of the work, and vectors as good.
    """

    def __init__(self, num_axes: int, dimension: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_axes, dimension, bias=False)
        self.hidden = nn.Linear(dimension, _HIDDEN_WIDTH)
        self.correction = nn.Linear(_HIDDEN_WIDTH, dimension)
        nn.init.eye_(self.linear.weight)
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)

    def forward(self, rotated_views: Tensor, noise: Dropout) -> Tensor:
        """Points [N, D] of views [N, K], with some numbers left out."""
        linear_points = self.linear(noise.drop_numbers(rotated_views, _INPUT_DROPOUT))
        hidden_state = noise.drop_numbers(gelu(self.hidden(linear_points)), _HIDDEN_DROPOUT)
        points: Tensor = linear_points + self.correction(hidden_state)
        return points

    @torch.no_grad()
    def undo_rotation(self, axes: FloatArray) -> Projection:
        """The same map of views [N, W], with principal axes [W, K]."""
        linear_weight = self.linear.weight @ torch.from_numpy(axes).T
        projection = Projection(len(axes), self.linear.out_features, self.hidden.out_features)
        projection.load_state_dict(
            self.state_dict()
            | {"linear.weight": linear_weight, "hidden.weight": self.hidden.weight @ linear_weight}
        )
        return projection
