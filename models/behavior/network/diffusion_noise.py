"""Masked discrete diffusion: the noise and the objective (LLaDA, arXiv 2502.09992; MDLM, arXiv 2406.07524).

The negative ELBO of a sequence of n tokens is E_t [ 1/t * sum over masked tokens of -log p(token | visible)
], with t ~ U(0, 1) and each token masked with probability t. Here a sequence is noised in one of two ways:
item by item (all its L tokens at once), or token by token. For a wholly masked item, p is the joint
probability of its code word among the code words of the real catalogue. Decoding uses the same
distribution.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.behavior.network.denoiser import Denoiser
from models.behavior.sequences.sequence_tensors import ItemTensors, SequenceBatch


@dataclass(frozen=True)
class MaskNoise:
    """What is hidden, and what hiding it weighs."""

    is_masked_BTL: Tensor
    weight_B: Tensor
    """n/k: tokens over masked tokens."""
    is_by_item_B: Tensor
    """Was the sequence noised item by item?"""


def draw_mask_noise(
    is_valid_BT: Tensor, num_levels: int, item_mask_share: float, generator: torch.Generator
) -> MaskNoise:
    """Draws the mode of each sequence, how many of its n tokens are masked, and which.

    The numbers are stratified over the batch. Under t ~ U(0, 1) the number k of masked tokens is uniform. The
    mean weight 1/t given k is (n + 1) / k, where k = 0 counts nothing. So k is drawn uniformly from 1 to n
    and weighs n / k. The estimate has the same mean as with t and less variance (LLaDA, equation 6), and no
    sequence is drawn in vain.
    """
    num_sequences, width = is_valid_BT.shape
    is_by_item_B = torch.rand(num_sequences, generator=generator) < item_mask_share
    length_B = is_valid_BT.sum(1) * torch.where(is_by_item_B, 1, num_levels)
    strata_B = torch.randperm(num_sequences, generator=generator) + torch.rand(
        num_sequences, generator=generator
    )
    count_B = (strata_B / num_sequences * length_B).long() + 1
    uniform_BTL = torch.rand(num_sequences, width, num_levels, generator=generator)
    draw_BTL = uniform_BTL.masked_fill(~is_valid_BT[..., None], 2.0)  # padding comes last
    by_token_BTL = _rank_draws(draw_BTL.flatten(1)).view_as(draw_BTL)
    by_item_BTL = _rank_draws(draw_BTL[..., 0])[..., None].expand_as(draw_BTL)
    rank_BTL = torch.where(is_by_item_B[:, None, None], by_item_BTL, by_token_BTL)
    count_B = torch.minimum(count_B, length_B)
    return MaskNoise(rank_BTL < count_B[:, None, None], length_B / count_B, is_by_item_B)


def _rank_draws(draws: Tensor) -> Tensor:
    return draws.argsort(dim=1).argsort(dim=1)


def estimate_negative_elbo(
    denoiser: Denoiser, items: ItemTensors, batch: SequenceBatch, noise: MaskNoise
) -> Tensor:
    """Estimates the negative ELBO in nats per behavior, from one sample of noise."""
    items_IE = denoiser.embed_items(items.codes_IL, items.components_IP)
    codes_BTL = items.codes_IL[batch.items_BT]
    hidden_BTE = denoiser.encode_sequences(items_IE[batch.items_BT], codes_BTL, noise.is_masked_BTL, batch)
    is_whole_BT = noise.is_masked_BTL.all(-1) & noise.is_by_item_B[:, None]
    is_visible_BT = batch.is_valid_BT & ~noise.is_masked_BTL.any(-1) & noise.is_by_item_B[:, None]
    associations_BI = denoiser.associations(items.vectors_ID, batch.items_BT, is_visible_BT)
    context_MI = hidden_BTE[is_whole_BT] @ items_IE.T
    logits_MI = context_MI + associations_BI[is_whole_BT.nonzero()[:, 0]] + items.log_prior_I
    item_losses = functional.cross_entropy(logits_MI, batch.items_BT[is_whole_BT], reduction="none")
    weight_BT = noise.weight_B[:, None].expand_as(is_whole_BT)
    total_loss = (weight_BT[is_whole_BT] * item_losses).sum()
    for level, log_prior_V in enumerate(items.code_log_priors):
        is_token_BT = noise.is_masked_BTL[..., level] & ~noise.is_by_item_B[:, None]
        logits_MV = denoiser.compute_code_log_odds(hidden_BTE[is_token_BT], level) + log_prior_V
        code_losses = functional.cross_entropy(
            logits_MV, codes_BTL[..., level][is_token_BT], reduction="none"
        )
        total_loss = total_loss + (weight_BT[is_token_BT] * code_losses).sum()
    return total_loss / batch.is_valid_BT.sum()
