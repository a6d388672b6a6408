from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.behavior.associations import Associations, log_mean
from models.behavior.config import NetworkConfig
from models.behavior.diffusion import draw_noise
from models.behavior.fit import batches
from models.behavior.neighbors import association_table
from models.behavior.network import Denoiser, NetworkSpec
from models.behavior.slots import OPEN, lay_out
from models.behavior.tensors import Batch, ItemTensors, code_log_priors, log_prior, sample_items


def batch_of(lengths: list[int], width: int) -> Batch:
    """Right-aligned sequences 1, 2, 3 ... whose ages are the distance from the end."""
    from_end = torch.arange(width - 1, -1, -1).expand(len(lengths), width)
    valid = from_end < torch.tensor(lengths)[:, None]
    items = torch.where(valid, torch.tensor(lengths)[:, None] - from_end, 0)
    return Batch(items, valid.long(), from_end.float(), valid)


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=8), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_noise_masks_only_behaviours_and_at_least_one(lengths: list[int], share: float, seed: int) -> None:
    batch = batch_of(lengths, 9)
    noise = draw_noise(batch.valid_bt, 3, share, torch.Generator().manual_seed(seed))
    assert not noise.masked_btl[~batch.valid_bt].any()
    assert noise.masked_btl.flatten(1).any(1).all()
    whole = noise.masked_btl.all(-1) | ~noise.masked_btl.any(-1)
    assert whole[noise.by_item_b].all()
    tokens = torch.tensor(lengths) * torch.where(noise.by_item_b, 1, 3)
    assert (noise.weight_b >= 1).all()
    assert (noise.weight_b <= tokens + 1e-4).all()


def test_the_share_masked_is_the_ratio_drawn() -> None:
    valid = torch.ones(4000, 40, dtype=torch.bool)
    noise = draw_noise(valid, 2, 0.5, torch.Generator().manual_seed(0))
    masked = noise.masked_btl.float().mean((1, 2))
    assert abs((masked * noise.weight_b).mean() - 1) < 0.02
    assert abs(masked.mean() - 0.5) < 0.02


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=5), slots=st.integers(1, 8))
def test_slots_keep_the_order_and_lie_between(lengths: list[int], slots: int) -> None:
    layout = lay_out(batch_of(lengths, 9), slots)
    open_slots = torch.full(layout.valid_bg.shape, OPEN)
    merged, masked = layout.filled(open_slots)
    for row, length in enumerate(lengths):
        shown = merged.items_bt[row][merged.valid_bt[row] & ~masked[row]]
        assert shown.tolist() == list(range(1, length + 1))
        present = merged.valid_bt[row] & masked[row]
        assert int(present.sum()) == int(layout.valid_bg[row].sum()) == max(1, min(slots, length))
        ages = merged.ages_bt[row][merged.valid_bt[row]]
        assert (ages.diff() <= 0).all()
        assert bool(present[-1])


def test_filled_slots_are_visible() -> None:
    layout = lay_out(batch_of([3], 4), 2)
    merged, masked = layout.filled(torch.tensor([[7, OPEN]]))
    assert merged.items_bt[0, -1] == 7
    assert int(masked.sum()) == 1


@pytest.mark.parametrize("max_exact", [0, 7])
def test_tables_of_associations_say_what_the_network_does(max_exact: int) -> None:
    vectors = torch.nn.functional.normalize(torch.randn(7, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    learnt, batch = Associations(), batch_of([1, 4, 0], 5)
    table = association_table(vectors, float(learnt.sharpness.detach()), count=6, max_exact=max_exact)
    said = log_mean(table.sum_over(batch), batch.valid_bt.sum(1))
    for row, length in enumerate([1, 4, 0]):
        others = [item for item in range(7) if item not in range(1, length + 1)]
        exact = learnt(vectors, batch.items_bt, batch.valid_bt)[row, others]
        torch.testing.assert_close(said[row, others], exact)


def test_a_table_keeps_the_nearest_and_the_mean_of_the_rest() -> None:
    angles = torch.linspace(0, torch.pi / 2, 6)
    points = torch.stack([angles.cos(), angles.sin()], dim=1)
    table = association_table(points, 10.0, count=2, max_exact=0)
    near = torch.exp(10 * (points @ points.T - 1))[1]
    near = near / (near.sum() - 1)
    said = table.sum_over(batch_of([1], 2))[0]
    torch.testing.assert_close(said[[0, 2]], near[[0, 2]])
    torch.testing.assert_close(said[3:], near[3:].mean().expand(3))


def test_the_score_is_the_prior_corrected_product_of_code_probabilities() -> None:
    """score(item) = sum_l [log p(code_l) - log P(code_l)] + log P(item), up to a constant: no knowledge, all items."""
    spec = NetworkSpec(
        network=NetworkConfig(dimension=8, num_heads=2),
        code_sizes=(3, 4),
        vector_length=5,
        max_length=4,
        num_event_types=4,
    )
    denoiser = Denoiser(spec)
    torch.nn.init.zeros_(denoiser.knowledge.weight)
    codes = torch.cartesian_prod(torch.arange(3), torch.arange(4))
    prior = log_prior(np.arange(12, dtype=np.float32))
    code_priors = code_log_priors(prior, codes, spec.code_sizes)
    hidden = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    score = hidden @ denoiser.item_vectors(codes, torch.zeros(12, 5)).T + prior
    product = prior.expand(2, 12)
    for level, code_prior in enumerate(code_priors):
        log_p = (denoiser.code_log_odds(hidden, level) + code_prior).log_softmax(1)
        product = product + (log_p - code_prior)[:, codes[:, level]]
    torch.testing.assert_close(score.log_softmax(1), product.log_softmax(1))


def test_sampled_items_stand_for_the_rest() -> None:
    prior = log_prior(np.zeros(1000, dtype=np.float32))
    items = ItemTensors(torch.zeros(1000, 1).long(), torch.zeros(1000, 2), torch.zeros(1000, 2), prior, ())
    batch = batch_of([3], 3)
    sampled, moved = sample_items(items, batch, 50, torch.Generator().manual_seed(0))
    assert sampled.log_prior_n.exp().sum().item() == pytest.approx(1, abs=1e-4)
    assert (sampled.log_prior_n[moved.items_bt] == prior[batch.items_bt]).all()


def test_a_batch_of_the_whole_catalogue_is_not_sampled() -> None:
    items = ItemTensors(torch.zeros(3, 1).long(), torch.zeros(3, 2), torch.zeros(3, 2), log_prior(np.ones(3)), ())
    batch = replace(batch_of([3], 3), items_bt=torch.tensor([[2, 0, 1]]))
    sampled, moved = sample_items(items, batch, 2, torch.Generator().manual_seed(0))
    assert sampled is items
    assert moved is batch


def test_batches_hold_every_sequence_once() -> None:
    lengths = np.arange(101) % 7
    drawn = list(batches(lengths, 8, np.random.default_rng(0)))
    assert sorted(np.concatenate(drawn).tolist()) == list(range(101))
    assert max(len(rows) for rows in drawn) == 8
