"""The parts of the ranker that read behaviours with a candidate in mind.

Shape legend: B batch, C candidates, H behaviours, E width, A heads, G gates, N kernels, S aspects of similarity.
"""

# ruff: noqa: N803, N806 (shape suffixes)
import torch
from torch import Tensor, nn

from models.ranker.encoding import NUM_EVENT_TYPES

_AGE_EDGES_S = (60, 300, 1800, 7200, 28800, 86400, 3 * 86400, 7 * 86400, 14 * 86400, 30 * 86400, 60 * 86400)
_AGE_EDGES_LONG_S = (120 * 86400, 240 * 86400, 365 * 86400, 730 * 86400)
_MASKED = -1e4
_STEEPEST = 0.6
_LEAST_MASS = -10.0
_FIRST_WEIGHTS = (4.0, 16.0)
_WEIGHT_UNIT = 10.0
"""Cosines need weights far above the optimiser's step."""


class BehaviorBias(nn.Module):
    """What the age and the kind of a behaviour add to its weight: [B, H] -> [B, H, outputs]."""

    edges: Tensor

    def __init__(self, outputs: int, *, recency: bool, event_type: bool) -> None:
        super().__init__()
        edges = torch.tensor(_AGE_EDGES_S + _AGE_EDGES_LONG_S, dtype=torch.float32)
        self.register_buffer("edges", edges, persistent=False)
        self.age = nn.Embedding(len(edges) + 1, outputs) if recency else None
        self.kind = nn.Embedding(NUM_EVENT_TYPES, outputs) if event_type else None
        if self.age is not None:
            self.age.weight.data = _power_law(edges, outputs)
        if self.kind is not None:
            nn.init.zeros_(self.kind.weight)

    def forward(self, ages_s_BH: Tensor | None, types_BH: Tensor | None) -> Tensor | None:
        """Learnt bias, or None where both switches are off."""
        bias = None
        if self.age is not None:
            assert ages_s_BH is not None
            bias = self.age((ages_s_BH.unsqueeze(-1) >= self.edges).sum(-1))
        if self.kind is not None:
            assert types_BH is not None
            kind = self.kind(types_BH)
            bias = kind if bias is None else bias + kind
        return bias


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
        self, c_BCE: Tensor, h_BHE: Tensor, mask_BH: Tensor, *, similarity_SBCH: Tensor | None, bias_BHA: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What the behaviours say about each candidate [B, C, E], and how loudly: log of the summed weights [B, C, A].

        Both are constant for a user without behaviours.
        """
        q_BACe, k_BAHe, v_BAHe = (
            part.unflatten(-1, (self.num_heads, self.head_width)).transpose(1, 2)
            for part in (self.query(c_BCE), self.key(h_BHE), self.value(h_BHE))
        )
        logits_BACH = q_BACe @ k_BAHe.transpose(-1, -2) * self.head_width**-0.5
        if self.similarity_weight is not None:
            assert similarity_SBCH is not None
            weight_SA = _WEIGHT_UNIT * self.similarity_weight
            logits_BACH = logits_BACH + torch.einsum("sa,sbch->bach", weight_SA, similarity_SBCH)
        if bias_BHA is not None:
            logits_BACH = logits_BACH + bias_BHA.transpose(1, 2).unsqueeze(2)
        logits_BACH = logits_BACH + (1 - mask_BH)[:, None, None, :] * _MASKED
        read_BACe = torch.softmax(logits_BACH, -1) @ v_BAHe
        known_B = (mask_BH.sum(-1) > 0).to(read_BACe.dtype)
        read_BCE = read_BACe.transpose(1, 2).flatten(-2) * known_B[:, None, None]
        mass_BCA = torch.logsumexp(logits_BACH, -1).clamp(min=_LEAST_MASS).transpose(1, 2)
        return read_BCE, mass_BCA


def _first_aspect_weight(num_aspects: int, num_heads: int) -> Tensor:
    """Weights [S, A]: the first aspect counts from the start, the others are learnt."""
    weight_SA = torch.zeros(num_aspects, num_heads)
    weight_SA[0] = torch.linspace(*_FIRST_WEIGHTS, num_heads) / _WEIGHT_UNIT
    return weight_SA


class UserReader(nn.Module):
    """Sums a history up without a candidate in mind: the mean of its items, weighted by age and kind."""

    def __init__(self, width: int, *, recency: bool, event_type: bool) -> None:
        super().__init__()
        self.bias = BehaviorBias(2, recency=recency, event_type=event_type)
        self.project = nn.Linear(2 * width, width)

    def forward(self, h_BHE: Tensor, mask_BH: Tensor, *, ages_s_BH: Tensor | None, types_BH: Tensor | None) -> Tensor:
        """The user, [B, E]: a long and a short memory, joined."""
        bias_BH2 = self.bias(ages_s_BH, types_BH)
        masked_BH1 = ((1 - mask_BH) * _MASKED).unsqueeze(-1)
        logits_BH2 = masked_BH1.expand(-1, -1, 2) if bias_BH2 is None else bias_BH2 + masked_BH1
        memory_B2E = torch.softmax(logits_BH2, 1).transpose(1, 2) @ h_BHE
        user_BE: Tensor = self.project(memory_B2E.flatten(1))
        return user_BE * (mask_BH.sum(-1, keepdim=True) > 0).to(user_BE.dtype)


class SimilarityHistogram(nn.Module):
    """How many behaviours are how similar to each candidate (paper, section 3.1: similarity distribution).

    A soft histogram (kernel pooling, arXiv 1706.06613), once per learnt gate over age and kind of the behaviours.
    """

    centres: Tensor

    def __init__(self, *, num_kernels: int, num_gates: int, recency: bool, event_type: bool) -> None:
        super().__init__()
        self.register_buffer("centres", torch.linspace(-0.1, 1.0, num_kernels), persistent=False)
        self.sharpness = 0.5 / (1.1 / (num_kernels - 1)) ** 2
        self.gates = BehaviorBias(num_gates, recency=recency, event_type=event_type)
        self.width = num_kernels * (num_gates if recency or event_type else 1) + 1

    def forward(
        self,
        similarity_BCH: Tensor,
        weight_BH: Tensor,
        *,
        ages_s_BH: Tensor | None = None,
        types_BH: Tensor | None = None,
    ) -> Tensor:
        """Log counts per kernel and gate, and the greatest similarity: [B, C, N * G + 1]."""
        kernels_BCHN = torch.exp(-self.sharpness * (similarity_BCH.unsqueeze(-1) - self.centres) ** 2)
        bias_BHG = self.gates(ages_s_BH, types_BH)
        weight_BH1 = weight_BH.unsqueeze(-1)
        gate_BHG = weight_BH1 if bias_BHG is None else torch.exp(bias_BHG) * weight_BH1
        counts_BCNG = kernels_BCHN.transpose(-1, -2) @ gate_BHG.unsqueeze(1)
        best_BC1 = (similarity_BCH * (weight_BH > 0).to(similarity_BCH.dtype).unsqueeze(1)).amax(-1, keepdim=True)
        return torch.cat([torch.log1p(counts_BCNG).flatten(-2), best_BC1], -1)
