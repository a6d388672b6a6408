"""What the candidates of a list have in common, and where each stands among them.

A page is opened for something: a category, a search, a mood. Which one, its candidates say themselves. All
readings are relative to the list's highest: a ranker learns from pages of ten and ranks pools of hundreds.

Shape legend: B batch, C candidates, S aspects, N kernels, F features.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from models.ranker.inputs.item_encoder import UNKNOWN
from models.ranker.network.similarity_kernels import SimilarityKernels

COUNTED_FIELDS = ("categories", "brands", "price_buckets")
"""Item fields whose equal values are counted."""
_LEAST_SHARE = 1e-2
"""Keeps the relative share of what no other candidate is at nothing, and the division tame."""


class ListComposition(nn.Module):
    """Shares of the other candidates that are like each one: in meaning by aspect, and in its fields."""

    def __init__(self, fields: Sequence[str], *, num_aspects: int) -> None:
        super().__init__()
        self.fields = tuple(field for field in fields if field in COUNTED_FIELDS)
        self.kernels = SimilarityKernels() if num_aspects else None
        self.width = num_aspects * (SimilarityKernels.NUM_KERNELS + 1) + len(self.fields)

    def forward(
        self,
        similarity_BSCC: Tensor | None,
        own_similarity_BSC: Tensor | None,
        candidate_fields: Mapping[str, Tensor],
        mask_BC: Tensor,
    ) -> Tensor:
        """Shares over the list's largest, and each aspect's mean cosine under the list's largest: [B, F, C].

        Args:
            similarity_BSCC: cosines between candidates; None without vectors.
            own_similarity_BSC: cosine of each candidate with itself: 1, or 0 where it has no vector.
            candidate_fields: codes of the candidates by field, [B, C] each.
            mask_BC: 1 where there is a candidate, else 0.
        """
        num_others_B1C = (mask_BC.sum(1, keepdim=True) - 1).clamp(min=1).unsqueeze(1)
        shares, means = [], []
        if similarity_BSCC is not None:
            assert self.kernels is not None
            assert own_similarity_BSC is not None
            counts_BSNC = self.kernels.sum_over_others(similarity_BSCC, own_similarity_BSC, mask_BC)
            shares.append(counts_BSNC.flatten(1, 2))
            sums_BSC = (similarity_BSCC * mask_BC[:, None, :, None]).sum(2)
            means_BSC = (sums_BSC - own_similarity_BSC) / num_others_B1C
            real_means_BSC = means_BSC * mask_BC.unsqueeze(1)
            means.append(means_BSC - real_means_BSC.amax(2, keepdim=True))
        for field in self.fields:
            codes_BC = candidate_fields[field]
            is_equal_BCC = (codes_BC.unsqueeze(2) == codes_BC.unsqueeze(1)).to(mask_BC.dtype)
            counts_BC = (is_equal_BCC * mask_BC.unsqueeze(2)).sum(1) - 1
            # What nobody knows is not alike.
            shares.append((counts_BC * (codes_BC > UNKNOWN)).unsqueeze(1))
        shares_BFC = torch.cat(shares, 1) / num_others_B1C
        # Ten of a page of ten are of one kind, ten of a pool of fifty: over the list's most, both are many.
        shares_BFC = shares_BFC.clamp(min=0) * mask_BC.unsqueeze(1)
        shares_BFC = shares_BFC / (shares_BFC.amax(2, keepdim=True) + _LEAST_SHARE)
        return torch.cat([shares_BFC, *means], 1)
