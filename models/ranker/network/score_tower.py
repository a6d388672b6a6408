"""From all that was read of a candidate to its logits: click, conversion, and spend where it is asked for.

Shape legend: B batch, C candidates, E width, F features.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

_FIRST_FOLLOW, _FIRST_CONVERSION = 0.5, -2.0


class RankerLogits(NamedTuple):
    """Uncalibrated logits, [B, C], and the user on their own."""

    click: Tensor
    conversion: Tensor
    spend: Tensor | None
    """Logarithm of an order's revenue, over the usual one; None without a value head."""
    user_BE: Tensor | None
    """None where the summary is switched off."""


class ScoreTower(nn.Module):
    """From all that was read of a candidate to its logits."""

    mean_F1: Tensor
    scale_F1: Tensor

    def __init__(
        self, num_features: int, num_distribution: int, width: int, dropout: float, *, has_value_head: bool
    ) -> None:
        """Takes features that lie along the last axis and distributions that lie before it."""
        super().__init__()
        self.num_features = num_features
        # Distributions differ in scale by a hundred; standardized, all are learned from alike.
        self.register_buffer("mean_F1", torch.zeros(num_distribution, 1))
        self.register_buffer("scale_F1", torch.ones(num_distribution, 1))
        self.first = nn.Linear(num_features + num_distribution, 2 * width)
        self.rest = nn.Sequential(
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
            nn.GELU(),
            nn.Linear(width, 3 if has_value_head else 2),
        )
        # Conversion learned from nothing but the few orders of a log is noise: it starts as what the click
        # says.
        self.follow = nn.Parameter(torch.tensor(_FIRST_FOLLOW))
        last_layer = self.rest[-1]
        assert isinstance(last_layer, nn.Linear)
        nn.init.zeros_(last_layer.weight[1:])
        nn.init.zeros_(last_layer.bias[1:])
        nn.init.constant_(last_layer.bias[1], _FIRST_CONVERSION)

    def forward(
        self, features_BCF: Sequence[Tensor], distributions_BFC: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Logits of click and of conversion, and of spend where there is a head for it, [B, C]."""
        weight = self.first.weight
        hidden = linear(torch.cat(list(features_BCF), -1), weight[:, : self.num_features], self.first.bias)
        if distributions_BFC:
            standardized_BFC = (torch.cat(list(distributions_BFC), 1) - self.mean_F1) * self.scale_F1
            turned_BCF = standardized_BFC.transpose(-1, -2)
            # One product takes the turned axes as they are: no copy is made.
            hidden = hidden + turned_BCF @ weight[:, self.num_features :].T
        click, own_conversion, *spend = self.rest(hidden).unbind(-1)
        # Detached: the few orders must not move what many clicks have taught.
        return click, own_conversion + self.follow * click.detach(), spend[0] if spend else None


def compute_order_logit(logits: RankerLogits) -> Tensor:
    """Logit of P(order) = P(click) P(order | click).

    With logits a and b: 1 / p = (1 + exp(-a)) (1 + exp(-b)). So (1 - p) / p = exp(-a) (1 + (1 + exp(a))
    exp(-b)), whose logarithm is -a + softplus(softplus(a) - b).
    """
    return logits.click - softplus(softplus(logits.click) - logits.conversion)
