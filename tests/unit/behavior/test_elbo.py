"""On a distribution whose entropy is known, the negative ELBO is never below it, and training brings it near."""

import math
from itertools import combinations

import pytest
import torch

from models.behavior.config import NetworkConfig
from models.behavior.diffusion import Noise, draw_noise, negative_elbo
from models.behavior.network import Denoiser, NetworkSpec
from models.behavior.tensors import Batch, ItemTensors, code_log_priors, log_prior

# Four items of two codes; the first behaviour is uniform, the second follows it four times in five.
CODES = torch.cartesian_prod(torch.arange(2), torch.arange(2))
PAIRS = torch.cartesian_prod(torch.arange(4), torch.arange(4))
PROBABILITY = torch.where(PAIRS[:, 1] == (PAIRS[:, 0] + 1) % 4, 0.8, 0.2 / 3) / 4
ENTROPY = float(-(PROBABILITY * PROBABILITY.log()).sum()) / 2
"""Nats per behaviour."""


def denoiser(seed: int) -> Denoiser:
    torch.manual_seed(seed)
    network = NetworkConfig(dimension=16, num_layers=1, num_heads=2, dropout=0)
    spec = NetworkSpec(network=network, code_sizes=(2, 2), vector_length=4, max_length=2, num_event_types=1)
    made = Denoiser(spec)
    torch.nn.init.eye_(made.get_buffer("rotation"))
    return made


def items() -> ItemTensors:
    prior = log_prior(torch.zeros(4).numpy())
    return ItemTensors(CODES, torch.eye(4), torch.eye(4), prior, code_log_priors(prior, CODES, (2, 2)))


def batch(rows: torch.Tensor) -> Batch:
    pairs = PAIRS[rows]
    return Batch(pairs, torch.ones_like(pairs), torch.zeros(pairs.shape), torch.ones_like(pairs, dtype=torch.bool))


def exact_loss(model: Denoiser, *, by_item: bool) -> float:
    """The mean over all sequences and all masks, each with its probability."""
    tokens, total = (2 if by_item else 4), 0.0
    modes = torch.full((16,), by_item)
    for count in range(1, tokens + 1):
        masks = list(combinations(range(tokens), count))
        for mask in masks:
            hidden = torch.zeros(tokens, dtype=torch.bool)
            hidden[list(mask)] = True
            masked = hidden[:, None].expand(2, 2) if by_item else hidden.view(2, 2)
            noise = Noise(masked.expand(16, 2, 2), 16 * PROBABILITY * tokens / count, modes)
            total += float(negative_elbo(model, items(), batch(torch.arange(16)), noise)) / (tokens * len(masks))
    return total


@pytest.mark.parametrize("by_item", [True, False])
@torch.no_grad()
def test_it_is_a_bound_for_any_weights(by_item: bool) -> None:
    for seed in range(2):
        model = denoiser(seed).eval()
        for parameter in model.parameters():
            parameter.mul_(1 + 3 * seed)
        assert exact_loss(model, by_item=by_item) >= ENTROPY


@pytest.mark.parametrize("by_item", [True, False])
def test_training_brings_it_near_the_entropy(by_item: bool) -> None:
    model = denoiser(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(250):
        rows = torch.multinomial(PROBABILITY, 64, replacement=True, generator=generator)
        noise = draw_noise(torch.ones(64, 2, dtype=torch.bool), 2, float(by_item), generator)
        optimizer.zero_grad()
        negative_elbo(model, items(), batch(rows), noise).backward()
        optimizer.step()
    with torch.no_grad():
        loss = exact_loss(model.eval(), by_item=by_item)
    assert ENTROPY <= loss < ENTROPY + 0.15 * math.log(4)


@torch.no_grad()
def test_the_estimate_has_the_mean_of_all_masks() -> None:
    model = denoiser(1).eval()
    for by_item in (True, False):
        generator = torch.Generator().manual_seed(5)
        rows = torch.multinomial(PROBABILITY, 20_000, replacement=True, generator=generator)
        noise = draw_noise(torch.ones(20_000, 2, dtype=torch.bool), 2, float(by_item), generator)
        estimate = float(negative_elbo(model, items(), batch(rows), noise))
        assert estimate == pytest.approx(exact_loss(model, by_item=by_item), rel=0.02)
