"""Soft bins of a cosine (kernel pooling, arXiv 1706.06613)."""

import torch
from torch import Tensor, nn

_LOWEST_CENTER, _HIGHEST_CENTER = -0.1, 1.0


class SimilarityKernels(nn.Module):
    """How near each cosine lies to each of the bins' centers, in (0, 1]."""

    NUM_KERNELS = 12

    exponents: Tensor
    heights_N1: Tensor

    def __init__(self) -> None:
        super().__init__()
        centers = torch.linspace(_LOWEST_CENTER, _HIGHEST_CENTER, self.NUM_KERNELS)
        sharpness = 0.5 / (centers[1] - centers[0]) ** 2
        # exp(-s (x - c)^2) = exp(-s x^2 + 2 s c x) exp(-s c^2): the exponents of all kernels are one product.
        exponents = torch.stack([(-sharpness).expand(self.NUM_KERNELS), 2 * sharpness * centers], 1)
        self.register_buffer("exponents", exponents, persistent=False)
        self.register_buffer("heights_N1", torch.exp(-sharpness * centers**2)[:, None], persistent=False)

    def forward(self, similarity_BSHC: Tensor) -> Tensor:
        """Kernels [B, S, N, H, C], in proportion: a sum over H still wants the factor `heights_N1`."""
        flat_similarity = similarity_BSHC.flatten(2).unsqueeze(2)
        powers = torch.cat([flat_similarity * flat_similarity, flat_similarity], 2)
        kernels = torch.exp(self.exponents @ powers)
        return kernels.view(*kernels.shape[:3], *similarity_BSHC.shape[2:])

    def sum_over_others(self, similarity_BSCC: Tensor, own_similarity_BSC: Tensor, mask_BC: Tensor) -> Tensor:
        """Sums of the kernels of each candidate's cosines to the other candidates, [B, S, N, C].

        Bin by bin, without a reshape: the exported graph cannot name a list's length twice in one.
        """
        mask_BC1 = mask_BC[:, None, :, None]
        square_BSCC, own_square_BSC = similarity_BSCC * similarity_BSCC, own_similarity_BSC.square()
        sums = []
        for (steep, slope), height in zip(self.exponents.tolist(), self.heights_N1.tolist(), strict=True):
            kernels_BSCC = torch.exp(steep * square_BSCC + slope * similarity_BSCC) * mask_BC1
            # A candidate is not one of the others.
            own_BSC = torch.exp(steep * own_square_BSC + slope * own_similarity_BSC)
            sums.append((kernels_BSCC.sum(2) - own_BSC) * height[0])
        return torch.stack(sums, 2)
