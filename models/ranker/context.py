"""The parts of the ranker that read the moment of a request and the prices around it.

Shape legend: B batch, C candidates, H behaviours, E width, N kernels.
"""

# ruff: noqa: N803, N806 (shape suffixes)
import torch
from torch import Tensor, nn

from models.ranker.encoding import FIRST

HOURS, WEEKDAYS = 24, 7
_WIDEST, _NUM_KERNELS = 0.75, 7


class RequestContext(nn.Module):
    """What the hour and the weekday of a request say of items: one vector a request, multiplied into each candidate."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hours, self.weekdays = nn.Embedding(HOURS, width), nn.Embedding(WEEKDAYS, width)
        for table in (self.hours, self.weekdays):
            nn.init.zeros_(table.weight)

    def forward(self, c_BCE: Tensor, hours_B1: Tensor, weekdays_B1: Tensor) -> Tensor:
        """[B, C, E]"""
        moment_B1E = self.hours(hours_B1) + self.weekdays(weekdays_B1)
        found: Tensor = c_BCE * moment_B1E
        return found


class PriceRelation(nn.Module):
    """Is a candidate dearer or cheaper than what the user turns to? A soft histogram of differences of price buckets.

    Buckets lie at the quantiles of the prices, so a difference is one of rank, whatever the currency.
    """

    centres: Tensor

    def __init__(self, num_buckets: int) -> None:
        super().__init__()
        self.num_buckets, self.width = num_buckets, _NUM_KERNELS + 1
        self.register_buffer("centres", torch.linspace(-_WIDEST, _WIDEST, _NUM_KERNELS), persistent=False)
        self.sharpness = 0.5 / (2 * _WIDEST / (_NUM_KERNELS - 1)) ** 2

    def forward(self, c_BC: Tensor, h_BH: Tensor) -> Tensor:
        """Share of the behaviours whose price lies so far off, and whether anything is known: [B, N + 1, C]."""
        is_known_BHC = (h_BH >= FIRST).unsqueeze(-1) & (c_BC >= FIRST).unsqueeze(1)
        weight_BHC = is_known_BHC.to(self.centres.dtype)
        difference_BHC = (c_BC.unsqueeze(1) - h_BH.unsqueeze(-1)).to(weight_BHC.dtype) / self.num_buckets
        total_B1C = weight_BHC.sum(1, keepdim=True)
        off_BNHC = difference_BHC.unsqueeze(1) - self.centres[:, None, None]
        counts_BNC = (torch.exp(-self.sharpness * off_BNHC * off_BNHC) * weight_BHC.unsqueeze(1)).sum(2)
        return torch.cat([counts_BNC / total_B1C.clamp(min=1), total_B1C.clamp(max=1)], 1)
