"""The parts of the ranker that read behaviors with a candidate in mind: the exact search unit (ESU).

Behaviors come before candidates in the shapes. What is computed per pair then lies together for all
candidates, as the vector units of a processor want it.

Shape legend: B batch, C candidates, H behaviors, E width, e width of a head, A heads, G gates, N kernels, S
aspects of similarity, F features, M memories.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.ranker.inputs.item_encoder import NUM_EVENT_TYPES
from models.ranker.network.behavior_counts import make_type_weights
from models.ranker.network.similarity_kernels import SimilarityKernels

# Buckets widen with the age, as a power law has it: minutes at first, years at the end.
_AGE_EDGES_S = (60, 300, 1800, 7200, 28800, 86400, 3 * 86400, 7 * 86400, 14 * 86400, 30 * 86400, 60 * 86400)
_AGE_EDGES_LONG_S = (120 * 86400, 240 * 86400, 365 * 86400, 730 * 86400)
# Far below any logit, but finite: with minus infinity, a list without behaviors would give NaN.
MASKED = -1e4
# The first exponents of the decay with age run from 0 to this.
_STEEPEST_DECAY = 0.6
# Floor of the loudness, which would be MASKED for a user without behaviors.
_LEAST_MASS = -10.0
# Heads start with different trust in similarity, in units of the logit.
_FIRST_WEIGHTS = (4.0, 16.0)
_WEIGHT_UNIT = 10.0
"""Cosines need weights far above the optimizer's step."""
# A root's slope is infinite at zero; this keeps gradients of empty bins finite.
_LEAST_COUNT = 0.01


class BehaviorBias(nn.Module):
    """What the age and the kind of a behavior add to its weight, for several readers at once."""

    edges: Tensor

    def __init__(
        self,
        num_heads: int,
        num_memories: int,
        num_gates: Sequence[int],
        *,
        num_count_gates: int = 0,
        recency: bool,
    ) -> None:
        """Makes biases for the attention's heads, the memories of a user, and the gates of each histogram.

        The last `num_count_gates` begin as counters of one kind of event each (`behavior_counts.py`).
        """
        super().__init__()
        self.reader_widths = [num_heads, num_memories, sum(num_gates), num_count_gates]
        edges = torch.tensor(_AGE_EDGES_S + _AGE_EDGES_LONG_S, dtype=torch.float32)
        self.register_buffer("edges", edges, persistent=False)
        self.age = nn.Embedding(len(edges) + 1, sum(self.reader_widths)) if recency else None
        self.kind = nn.Embedding(NUM_EVENT_TYPES, sum(self.reader_widths)) if recency else None
        if self.age is not None and self.kind is not None:
            group_widths = (num_heads, num_memories, *num_gates)
            self.age.weight.data = torch.cat([_make_power_law_weights(edges, w) for w in group_widths], 1)
            if num_count_gates:
                count_decays = _make_power_law_weights(edges, num_count_gates)
                self.age.weight.data = torch.cat([self.age.weight.data, count_decays], 1)
            nn.init.zeros_(self.kind.weight)
            if num_count_gates:
                self.kind.weight.data[:, -num_count_gates:] = make_type_weights(num_count_gates)

    def forward(
        self, mask_BH: Tensor, ages_s_BH: Tensor | None, types_BH: Tensor | None
    ) -> tuple[Tensor, ...]:
        """The readers' biases, each [B, H, outputs]; far below all others where there is no behavior."""
        bias = ((1 - mask_BH) * MASKED).unsqueeze(-1)
        if self.age is None or self.kind is None:
            bias = bias.expand(-1, -1, sum(self.reader_widths))
        else:
            assert ages_s_BH is not None
            assert types_BH is not None
            bias = bias + self.age((ages_s_BH.unsqueeze(-1) >= self.edges).sum(-1)) + self.kind(types_BH)
        return torch.split(bias, self.reader_widths, -1)


def _make_power_law_weights(edges_s: Tensor, num_outputs: int) -> Tensor:
    """Log weights that fall with a power of the age (exponents 0 to 0.6), [buckets, outputs].

    A start from zero would take many epochs to reach the decay that every log shows.
    """
    ages_h = torch.cat([torch.zeros(1), edges_s]) / 3600
    return -torch.linspace(0, _STEEPEST_DECAY, num_outputs) * torch.log1p(ages_h).unsqueeze(-1)


class TargetAttention(nn.Module):
    """Multi-head attention of candidates over behaviors (DIN, arXiv 1706.06978; the paper's ESU).

    Similarity, where given, is added to the logits with a learned weight per aspect and head.
    """

    def __init__(self, width: int, num_heads: int, *, num_aspects: int) -> None:
        super().__init__()
        self.num_heads, self.head_width = num_heads, width // num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.similarity_weight = (
            nn.Parameter(_make_first_aspect_weights(num_aspects, num_heads)) if num_aspects else None
        )

    def forward(
        self, c_BCE: Tensor, h_BHE: Tensor, bias_BHA: Tensor, similarity_BSHC: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What the behaviors say about each candidate [B, C, E], and how loudly [B, C, A].

        The loudness is the log of the summed weights. Both are constant for a user without behaviors.
        """
        q_BACe, k_BAHe, v_BAHe = (
            projected.unflatten(-1, (self.num_heads, self.head_width)).transpose(1, 2)
            for projected in (self.query(c_BCE), self.key(h_BHE) * self.head_width**-0.5, self.value(h_BHE))
        )
        logits_BAHC = k_BAHe @ q_BACe.transpose(-1, -2) + bias_BHA.transpose(1, 2).unsqueeze(-1)
        if self.similarity_weight is not None:
            assert similarity_BSHC is not None
            weight_AS = _WEIGHT_UNIT * self.similarity_weight.T
            steering = weight_AS @ similarity_BSHC.flatten(2)
            logits_BAHC = logits_BAHC + steering.view_as(logits_BAHC)
        # Softmax and log-sum-exp share their exponentials.
        max_BA1C = logits_BAHC.detach().amax(2, keepdim=True)
        weights_BAHC = torch.exp(logits_BAHC - max_BA1C)
        total_BAC1 = weights_BAHC.sum(2).unsqueeze(-1)
        has_behavior_B = (max_BA1C > 0.5 * MASKED).to(c_BCE.dtype).transpose(-1, -2)
        read_BACe = weights_BAHC.transpose(-1, -2) @ v_BAHe * (has_behavior_B / total_BAC1)
        mass_BAC = (torch.log(total_BAC1) + max_BA1C.transpose(-1, -2)).clamp(min=_LEAST_MASS).squeeze(-1)
        return read_BACe.transpose(1, 2).flatten(-2), mass_BAC.transpose(1, 2)


def _make_first_aspect_weights(num_aspects: int, num_heads: int) -> Tensor:
    """Weights [S, A]: the first aspect counts from the start, the others are learned."""
    weight_SA = torch.zeros(num_aspects, num_heads)
    weight_SA[0] = torch.linspace(*_FIRST_WEIGHTS, num_heads) / _WEIGHT_UNIT
    return weight_SA


class UserSummary(nn.Module):
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
    """How many behaviors are how similar to each candidate (paper, section 3.1: similarity distribution).

    A soft histogram per aspect, once per gate over the behaviors' age and kind.
    """

    def __init__(self, *, num_aspects: int, num_gates: int) -> None:
        super().__init__()
        self.kernels = SimilarityKernels()
        self.width = num_aspects * (SimilarityKernels.NUM_KERNELS * num_gates + 1)

    def forward(self, similarity_BSHC: Tensor, mask_BH: Tensor, gates_BSGH: Tensor) -> Tensor:
        """Roots of the counts per aspect, kernel and gate, then each aspect's greatest cosine: [B, F, C]."""
        kernels_BSNHC = self.kernels(similarity_BSHC)
        counts_BSNGC = gates_BSGH.unsqueeze(2) @ kernels_BSNHC * self.kernels.heights_N1.unsqueeze(-1)
        # A root serves as well as kernel pooling's logarithm, in a quarter of its time.
        roots_BSNGC = torch.sqrt(counts_BSNGC + _LEAST_COUNT)
        best_BSC = (similarity_BSHC * mask_BH[:, None, :, None]).amax(2)
        return torch.cat([roots_BSNGC.flatten(1, 3), best_BSC], 1)
