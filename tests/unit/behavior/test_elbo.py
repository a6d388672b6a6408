"""Where the entropy is known, the negative ELBO is never below it, and training brings it near."""

import math
from itertools import combinations

import pytest
import torch

from models.behavior.config import NetworkConfig
from models.behavior.network.denoiser import Denoiser, DenoiserSpec
from models.behavior.network.diffusion_noise import MaskNoise, draw_mask_noise, estimate_negative_elbo
from models.behavior.sequences.sequence_tensors import (
    ItemTensors,
    SequenceBatch,
    smooth_log_prior,
    sum_code_log_priors,
)

# Four items of two codes; the first behavior is uniform, the second follows it four times in five.
CODES = torch.cartesian_prod(torch.arange(2), torch.arange(2))
PAIRS = torch.cartesian_prod(torch.arange(4), torch.arange(4))
PROBABILITY = torch.where(PAIRS[:, 1] == (PAIRS[:, 0] + 1) % 4, 0.8, 0.2 / 3) / 4
ENTROPY = float(-(PROBABILITY * PROBABILITY.log()).sum()) / 2
"""Nats per behavior."""


def denoiser(seed: int) -> Denoiser:
    torch.manual_seed(seed)
    network = NetworkConfig(dimension=16, num_layers=1, num_heads=2, dropout=0)
    denoiser_spec = DenoiserSpec(
        network=network, code_sizes=(2, 2), vector_length=4, max_length=2, num_event_types=1
    )
    random_denoiser = Denoiser(denoiser_spec)
    torch.nn.init.eye_(random_denoiser.get_buffer("rotation"))
    return random_denoiser


def items() -> ItemTensors:
    prior_I = smooth_log_prior(torch.zeros(4).numpy())
    return ItemTensors(
        CODES, torch.eye(4), torch.eye(4), prior_I, sum_code_log_priors(prior_I, CODES, (2, 2))
    )


def batch(rows: torch.Tensor) -> SequenceBatch:
    item_pairs = PAIRS[rows]
    return SequenceBatch(
        item_pairs,
        torch.ones_like(item_pairs),
        torch.zeros(item_pairs.shape),
        torch.ones_like(item_pairs, dtype=torch.bool),
    )


def exact_loss(model: Denoiser, *, by_item: bool) -> float:
    """The mean over all sequences and all masks, each with its probability."""
    num_tokens, total_loss = (2 if by_item else 4), 0.0
    is_by_item = torch.full((16,), by_item)
    for count in range(1, num_tokens + 1):
        all_masks = list(combinations(range(num_tokens), count))
        for mask in all_masks:
            is_hidden = torch.zeros(num_tokens, dtype=torch.bool)
            is_hidden[list(mask)] = True
            is_masked = is_hidden[:, None].expand(2, 2) if by_item else is_hidden.view(2, 2)
            mask_noise = MaskNoise(
                is_masked.expand(16, 2, 2), 16 * PROBABILITY * num_tokens / count, is_by_item
            )
            total_loss += float(
                estimate_negative_elbo(model, items(), batch(torch.arange(16)), mask_noise)
            ) / (num_tokens * len(all_masks))
    return total_loss


@pytest.mark.parametrize("by_item", [True, False])
@torch.no_grad()
def test_it_is_a_bound_for_any_weights(by_item: bool) -> None:
    for seed in range(2):
        trained_model = denoiser(seed).eval()
        for parameter in trained_model.parameters():
            parameter.mul_(1 + 3 * seed)
        assert exact_loss(trained_model, by_item=by_item) >= ENTROPY


@pytest.mark.parametrize("by_item", [True, False])
def test_training_brings_it_near_the_entropy(by_item: bool) -> None:
    trained_model = denoiser(0)
    optimizer = torch.optim.Adam(trained_model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(250):
        row_numbers = torch.multinomial(PROBABILITY, 64, replacement=True, generator=generator)
        mask_noise = draw_mask_noise(torch.ones(64, 2, dtype=torch.bool), 2, float(by_item), generator)
        optimizer.zero_grad()
        estimate_negative_elbo(trained_model, items(), batch(row_numbers), mask_noise).backward()
        optimizer.step()
    with torch.no_grad():
        final_loss = exact_loss(trained_model.eval(), by_item=by_item)
    assert ENTROPY <= final_loss < ENTROPY + 0.15 * math.log(4)


@torch.no_grad()
def test_the_estimate_has_the_mean_of_all_masks() -> None:
    trained_model = denoiser(1).eval()
    for by_item in (True, False):
        generator = torch.Generator().manual_seed(5)
        row_numbers = torch.multinomial(PROBABILITY, 20_000, replacement=True, generator=generator)
        mask_noise = draw_mask_noise(torch.ones(20_000, 2, dtype=torch.bool), 2, float(by_item), generator)
        estimated_loss = float(estimate_negative_elbo(trained_model, items(), batch(row_numbers), mask_noise))
        assert estimated_loss == pytest.approx(exact_loss(trained_model, by_item=by_item), rel=0.02)
