"""The parts of the ranker that read behaviours with a candidate in mind.

Behaviours come before candidates in the shapes: what is computed per pair then lies together for all candidates, as
the vector units of a processor want it.

Shape legend: B batch, C candidates, H behaviours, E width, e width of a head, A heads, G gates, N kernels, S aspects of
similarity, F features.
"""

# ruff: noqa: N803, N806 (shape suffixes)
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.ranker.encoding import NUM_EVENT_TYPES

_AGE_EDGES_S = (60, 300, 1800, 7200, 28800, 86400, 3 * 86400, 7 * 86400, 14 * 86400, 30 * 86400, 60 * 86400)
_AGE_EDGES_LONG_S = (120 * 86400, 240 * 86400, 365 * 86400, 730 * 86400)
MASKED = -1e4
_STEEPEST = 0.6
_LEAST_MASS = -10.0
_FIRST_WEIGHTS = (4.0, 16.0)
_WEIGHT_UNIT = 10.0
"""Cosines need weights far above the optimiser's step."""
_LOWEST, _HIGHEST, _NUM_KERNELS = -0.1, 1.0, 12
_LEAST_COUNT = 0.01


class BehaviorBias(nn.Module):
    """What the age and the kind of a behaviour add to its weight, for several readers at once."""

    edges: Tensor

    def __init__(self, heads: int, memories: int, gates: Sequence[int], *, recency: bool, event_type: bool) -> None:
        """Makes biases for the heads of the attention, the memories of a user, and the gates of each histogram."""
        super().__init__()
        outputs = (heads, memories, *gates)
        self.outputs = [heads, memories, sum(gates)]
        edges = torch.tensor(_AGE_EDGES_S + _AGE_EDGES_LONG_S, dtype=torch.float32)
        self.register_buffer("edges", edges, persistent=False)
        self.age = nn.Embedding(len(edges) + 1, sum(outputs)) if recency else None
        self.kind = nn.Embedding(NUM_EVENT_TYPES, sum(outputs)) if event_type else None
        if self.age is not None:
            self.age.weight.data = torch.cat([_power_law(edges, count) for count in outputs], 1)
        if self.kind is not None:
            nn.init.zeros_(self.kind.weight)

    def forward(self, mask_BH: Tensor, ages_s_BH: Tensor | None, types_BH: Tensor | None) -> tuple[Tensor, ...]:
        """The readers' biases, each [B, H, outputs]; far below all others where there is no behaviour."""
        bias = ((1 - mask_BH) * MASKED).unsqueeze(-1)
        if self.age is None and self.kind is None:
            bias = bias.expand(-1, -1, sum(self.outputs))
        if self.age is not None:
            assert ages_s_BH is not None
            bias = bias + self.age((ages_s_BH.unsqueeze(-1) >= self.edges).sum(-1))
        if self.kind is not None:
            assert types_BH is not None
            bias = bias + self.kind(types_BH)
        return torch.split(bias, self.outputs, -1)


def _power_law(edges_s: Tensor, outputs: int) -> Tensor:
    """Log weights that fall with a power of the age (exponents 0 to 0.6), [buckets, outputs].

    A start from zero would take many epochs to reach the decay that every log shows.
    """
    hours = torch.cat([torch.zeros(1), edges_s]) / 3600
    return -torch.linspace(0, _STEEPEST, outputs) * torch.log1p(hours).unsqueeze(-1)


class TargetAttention(nn.Module):
    """Multi-head attention of candidates over behaviours (DIN, arXiv 1706.06978; exact search unit of the paper).

    Similarity, where given, is added to the logits with a learnt weight per aspect and head.
    """

    def __init__(self, width: int, num_heads: int, *, num_aspects: int) -> None:
        super().__init__()
        self.num_heads, self.head_width = num_heads, width // num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.similarity_weight = nn.Parameter(_first_aspect_weight(num_aspects, num_heads)) if num_aspects else None

    def forward(
        self, c_BCE: Tensor, h_BHE: Tensor, bias_BHA: Tensor, similarity_BSHC: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What the behaviours say about each candidate [B, C, E], and how loudly: log of the summed weights [B, C, A].

        Both are constant for a user without behaviours.
        """
        q_BACe, k_BAHe, v_BAHe = (
            part.unflatten(-1, (self.num_heads, self.head_width)).transpose(1, 2)
            for part in (self.query(c_BCE), self.key(h_BHE) * self.head_width**-0.5, self.value(h_BHE))
        )
        logits_BAHC = k_BAHe @ q_BACe.transpose(-1, -2) + bias_BHA.transpose(1, 2).unsqueeze(-1)
        if self.similarity_weight is not None:
            assert similarity_BSHC is not None
            weight_AS = _WEIGHT_UNIT * self.similarity_weight.T
            steer = weight_AS @ similarity_BSHC.flatten(2)
            logits_BAHC = logits_BAHC + steer.view_as(logits_BAHC)
        # Softmax and log-sum-exp share their exponentials.
        most_BA1C = logits_BAHC.detach().amax(2, keepdim=True)
        weights_BAHC = torch.exp(logits_BAHC - most_BA1C)
        total_BAC1 = weights_BAHC.sum(2).unsqueeze(-1)
        is_known_B = (most_BA1C > 0.5 * MASKED).to(c_BCE.dtype).transpose(-1, -2)
        read_BACe = weights_BAHC.transpose(-1, -2) @ v_BAHe * (is_known_B / total_BAC1)
        mass_BAC = (torch.log(total_BAC1) + most_BA1C.transpose(-1, -2)).clamp(min=_LEAST_MASS).squeeze(-1)
        return read_BACe.transpose(1, 2).flatten(-2), mass_BAC.transpose(1, 2)


def _first_aspect_weight(num_aspects: int, num_heads: int) -> Tensor:
    """Weights [S, A]: the first aspect counts from the start, the others are learnt."""
    weight_SA = torch.zeros(num_aspects, num_heads)
    weight_SA[0] = torch.linspace(*_FIRST_WEIGHTS, num_heads) / _WEIGHT_UNIT
    return weight_SA


class UserReader(nn.Module):
    """Sums a history up without a candidate in mind: the mean of its items, weighted by age and kind."""

    NUM_MEMORIES = 2

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(self.NUM_MEMORIES * width, width)

    def forward(self, h_BHE: Tensor, mask_BH: Tensor, bias_BH2: Tensor) -> Tensor:
        """The user, [B, E]: a long and a short memory, joined."""
        memory_B2E = torch.softmax(bias_BH2, 1).transpose(1, 2) @ h_BHE
        user_BE: Tensor = self.project(memory_B2E.flatten(1))
        return user_BE * mask_BH.amax(-1, keepdim=True)


class SimilarityHistogram(nn.Module):
    """How many behaviours are how similar to each candidate (paper, section 3.1: similarity distribution).

    A soft histogram per aspect (kernel pooling, arXiv 1706.06613), once per gate over age and kind of the behaviours.
    """

    exponents: Tensor
    heights: Tensor

    def __init__(self, *, num_aspects: int, num_gates: int) -> None:
        super().__init__()
        centres = torch.linspace(_LOWEST, _HIGHEST, _NUM_KERNELS)
        sharpness = 0.5 / (centres[1] - centres[0]) ** 2
        # exp(-s (x - c)^2) = exp(-s x^2 + 2 s c x) exp(-s c^2): the exponents of all kernels are one matrix product.
        exponents = torch.stack([(-sharpness).expand(_NUM_KERNELS), 2 * sharpness * centres], 1)
        self.register_buffer("exponents", exponents, persistent=False)
        self.register_buffer("heights", torch.exp(-sharpness * centres**2)[:, None, None], persistent=False)
        self.width = num_aspects * (_NUM_KERNELS * num_gates + 1)

    def forward(self, similarity_BSHC: Tensor, mask_BH: Tensor, gates_BSGH: Tensor) -> Tensor:
        """Roots of the counts per aspect, kernel and gate, then each aspect's greatest similarity: [B, F, C]."""
        first = similarity_BSHC.flatten(2).unsqueeze(2)
        kernels = torch.exp(self.exponents @ torch.cat([first * first, first], 2))
        kernels_BSNHC = kernels.view(*kernels.shape[:3], *similarity_BSHC.shape[2:])
        counts_BSNGC = gates_BSGH.unsqueeze(2) @ kernels_BSNHC * self.heights
        # A root serves as well as kernel pooling's logarithm, in a quarter of its time.
        roots_BSNGC = torch.sqrt(counts_BSNGC + _LEAST_COUNT)
        best_BSC = (similarity_BSHC * mask_BH[:, None, :, None]).amax(2)
        return torch.cat([roots_BSNGC.flatten(1, 3), best_BSC], 1)
