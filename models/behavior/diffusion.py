"""Masked discrete diffusion: the noise and the objective (LLaDA, arXiv 2502.09992; MDLM, arXiv 2406.07524).

Shape letters: B sequences, T positions, L levels, N items, D width, P knowledge components, K codes of a level.

The negative ELBO of a sequence of n tokens is E_t [ 1/t * sum over masked tokens of -log p(token | visible) ] with
t ~ U(0, 1) and each token masked with probability t. Here a sequence is noised in one of two ways: item by item (all L
tokens at once), or token by token. For a wholly masked item, p is the joint probability of its code word among the code
words of the real catalogue, which is the distribution that decoding uses.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.behavior.network import Denoiser
from models.behavior.tensors import Batch, ItemTensors


@dataclass(frozen=True)
class Noise:
    """What is hidden, and what hiding it weighs."""

    masked_btl: Tensor
    weight_b: Tensor
    """n/k: tokens over masked tokens."""
    by_item_b: Tensor
    """Was the sequence noised item by item?"""


def draw_noise(valid_bt: Tensor, num_levels: int, item_mask_share: float, generator: torch.Generator) -> Noise:
    """Draws the mode of each sequence, how many of its n tokens are masked (stratified over the batch), and which.

    Under t ~ U(0, 1) the number k of masked tokens is uniform, and the mean weight 1/t given k is (n + 1) / k where
    k = 0 counts nothing: so k is drawn uniformly from 1 to n and weighs n / k. The estimate has the same mean as with
    t, less variance (LLaDA, equation 6), and no sequence is drawn in vain.
    """
    batch, width = valid_bt.shape
    by_item_b = torch.rand(batch, generator=generator) < item_mask_share
    length_b = valid_bt.sum(1) * torch.where(by_item_b, 1, num_levels)
    strata_b = (torch.randperm(batch, generator=generator) + torch.rand(batch, generator=generator)) / batch
    count_b = (strata_b * length_b).long() + 1
    draw_btl = torch.rand(batch, width, num_levels, generator=generator).masked_fill(~valid_bt[..., None], 2.0)
    by_token_btl = _ranks(draw_btl.flatten(1)).view_as(draw_btl)
    by_item_btl = _ranks(draw_btl[..., 0])[..., None].expand_as(draw_btl)
    rank_btl = torch.where(by_item_b[:, None, None], by_item_btl, by_token_btl)
    count_b = torch.minimum(count_b, length_b)
    return Noise(rank_btl < count_b[:, None, None], length_b / count_b, by_item_b)


def _ranks(draw_bu: Tensor) -> Tensor:
    return draw_bu.argsort(dim=1).argsort(dim=1)


def negative_elbo(denoiser: Denoiser, items: ItemTensors, batch: Batch, noise: Noise) -> Tensor:
    """Negative ELBO in nats per behaviour (a one-sample estimate)."""
    table_nd = denoiser.item_vectors(items.codes_nl, items.components_np)
    codes_btl = items.codes_nl[batch.items_bt]
    hidden_btd = denoiser.encode(table_nd[batch.items_bt], codes_btl, noise.masked_btl, batch)
    whole_bt = noise.masked_btl.all(-1) & noise.by_item_b[:, None]
    visible_bt = batch.valid_bt & ~noise.masked_btl.any(-1) & noise.by_item_b[:, None]
    near_bn = denoiser.associations(items.vectors_nv, batch.items_bt, visible_bt)
    logits = hidden_btd[whole_bt] @ table_nd.T + near_bn[whole_bt.nonzero()[:, 0]] + items.log_prior_n
    item_losses = functional.cross_entropy(logits, batch.items_bt[whole_bt], reduction="none")
    weight_bt = noise.weight_b[:, None].expand_as(whole_bt)
    total = (weight_bt[whole_bt] * item_losses).sum()
    for level, log_prior in enumerate(items.code_log_priors):
        alone_bt = noise.masked_btl[..., level] & ~noise.by_item_b[:, None]
        logits = denoiser.code_log_odds(hidden_btd[alone_bt], level) + log_prior
        code_losses = functional.cross_entropy(logits, codes_btl[..., level][alone_bt], reduction="none")
        total = total + (weight_bt[alone_bt] * code_losses).sum()
    return total / batch.valid_bt.sum()
