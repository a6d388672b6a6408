from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.behavior.config import NetworkConfig
from models.behavior.decoding.associations import Associations, log_mean_vote
from models.behavior.decoding.vote_tables import build_association_table
from models.behavior.network.denoiser import Denoiser, DenoiserSpec
from models.behavior.network.diffusion_noise import draw_mask_noise
from models.behavior.sequences.masked_slots import OPEN_SLOT, lay_out_slots
from models.behavior.sequences.sequence_tensors import (
    ItemTensors,
    SequenceBatch,
    sample_softmax_items,
    smooth_log_prior,
    sum_code_log_priors,
)
from models.behavior.training.denoiser_trainer import plan_batches_by_length


def batch_of(lengths: list[int], width: int) -> SequenceBatch:
    """Right-aligned sequences 1, 2, 3 ... whose ages are the distance from the end."""
    from_end = torch.arange(width - 1, -1, -1).expand(len(lengths), width)
    is_valid = from_end < torch.tensor(lengths)[:, None]
    items = torch.where(is_valid, torch.tensor(lengths)[:, None] - from_end, 0)
    return SequenceBatch(items, is_valid.long(), from_end.float(), is_valid)


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_noise_masks_only_behaviors_and_at_least_one(lengths: list[int], share: float, seed: int) -> None:
    sequence_batch = batch_of(lengths, 9)
    mask_noise = draw_mask_noise(sequence_batch.is_valid_BT, 3, share, torch.Generator().manual_seed(seed))
    assert not mask_noise.is_masked_BTL[~sequence_batch.is_valid_BT].any()
    assert mask_noise.is_masked_BTL.flatten(1).any(1).all()
    is_whole = mask_noise.is_masked_BTL.all(-1) | ~mask_noise.is_masked_BTL.any(-1)
    assert is_whole[mask_noise.is_by_item_B].all()
    num_tokens = torch.tensor(lengths) * torch.where(mask_noise.is_by_item_B, 1, 3)
    assert (mask_noise.weight_B >= 1).all()
    assert (mask_noise.weight_B <= num_tokens + 1e-4).all()


def test_the_share_masked_is_the_ratio_drawn() -> None:
    is_valid = torch.ones(4000, 40, dtype=torch.bool)
    mask_noise = draw_mask_noise(is_valid, 2, 0.5, torch.Generator().manual_seed(0))
    is_masked = mask_noise.is_masked_BTL.float().mean((1, 2))
    assert abs((is_masked * mask_noise.weight_B).mean() - 1) < 0.02
    assert abs(is_masked.mean() - 0.5) < 0.02


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=5), slots=st.integers(1, 8))
def test_slots_keep_the_order_and_lie_between(lengths: list[int], slots: int) -> None:
    layout = lay_out_slots(batch_of(lengths, 9), slots)
    open_slots = torch.full(layout.is_valid_BG.shape, OPEN_SLOT)
    merged_batch, is_masked = layout.fill_slots(open_slots)
    for row, history_length in enumerate(lengths):
        shown_items = merged_batch.items_BT[row][merged_batch.is_valid_BT[row] & ~is_masked[row]]
        assert shown_items.tolist() == list(range(1, history_length + 1))
        is_present = merged_batch.is_valid_BT[row] & is_masked[row]
        assert (
            int(is_present.sum()) == int(layout.is_valid_BG[row].sum()) == max(1, min(slots, history_length))
        )
        valid_ages = merged_batch.ages_BT[row][merged_batch.is_valid_BT[row]]
        assert (valid_ages.diff() <= 0).all()
        assert bool(is_present[-1])


def test_filled_slots_are_visible() -> None:
    layout = lay_out_slots(batch_of([3], 4), 2)
    merged_batch, is_masked = layout.fill_slots(torch.tensor([[7, OPEN_SLOT]]))
    assert merged_batch.items_BT[0, -1] == 7
    assert int(is_masked.sum()) == 1


@pytest.mark.parametrize("max_whole", [0, 7])
def test_tables_of_associations_say_what_the_network_does(max_whole: int) -> None:
    vectors_ID = torch.nn.functional.normalize(
        torch.randn(7, 3, generator=torch.Generator().manual_seed(0)), dim=1
    )
    learned_associations, sequence_batch = Associations(), batch_of([1, 4, 0], 5)
    vote_table = build_association_table(
        vectors_ID, float(learned_associations.sharpness.detach()), num_neighbors=6, max_whole=max_whole
    )
    votes_BI = log_mean_vote(vote_table.sum_votes(sequence_batch), sequence_batch.is_valid_BT.sum(1))
    for row, history_length in enumerate([1, 4, 0]):
        other_items = [item for item in range(7) if item not in range(1, history_length + 1)]
        exact_scores = learned_associations(vectors_ID, sequence_batch.items_BT, sequence_batch.is_valid_BT)[
            row, other_items
        ]
        torch.testing.assert_close(votes_BI[row, other_items], exact_scores)


def test_a_table_keeps_the_nearest_and_the_mean_of_the_rest() -> None:
    angles_I = torch.linspace(0, torch.pi / 2, 6)
    points_ID = torch.stack([angles_I.cos(), angles_I.sin()], dim=1)
    vote_table = build_association_table(points_ID, 10.0, num_neighbors=2, max_whole=0)
    expected_votes = torch.exp(10 * (points_ID @ points_ID.T - 1))[1]
    expected_votes = expected_votes / (expected_votes.sum() - 1)
    votes_BI = vote_table.sum_votes(batch_of([1], 2))[0]
    torch.testing.assert_close(votes_BI[[0, 2]], expected_votes[[0, 2]])
    torch.testing.assert_close(votes_BI[3:], expected_votes[3:].mean().expand(3))


def test_the_score_is_the_prior_corrected_product_of_code_probabilities() -> None:
    """score(item) = sum_l [log p(code_l) - log P(code_l)] + log P(item) + constant, without knowledge."""
    denoiser_spec = DenoiserSpec(
        network=NetworkConfig(dimension=8, num_heads=2),
        code_sizes=(3, 4),
        vector_length=5,
        max_length=4,
        num_event_types=4,
    )
    denoiser = Denoiser(denoiser_spec)
    torch.nn.init.zeros_(denoiser.knowledge.weight)
    codes_IL = torch.cartesian_prod(torch.arange(3), torch.arange(4))
    prior_I = smooth_log_prior(np.arange(12, dtype=np.float32))
    code_priors = sum_code_log_priors(prior_I, codes_IL, denoiser_spec.code_sizes)
    hidden_BE = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    scores_BI = hidden_BE @ denoiser.embed_items(codes_IL, torch.zeros(12, 5)).T + prior_I
    products_BI = prior_I.expand(2, 12)
    for level, code_prior in enumerate(code_priors):
        log_p = (denoiser.compute_code_log_odds(hidden_BE, level) + code_prior).log_softmax(1)
        products_BI = products_BI + (log_p - code_prior)[:, codes_IL[:, level]]
    torch.testing.assert_close(scores_BI.log_softmax(1), products_BI.log_softmax(1))


def test_sampled_items_stand_for_the_rest() -> None:
    prior_I = smooth_log_prior(np.zeros(1000, dtype=np.float32))
    items = ItemTensors(torch.zeros(1000, 1).long(), torch.zeros(1000, 2), torch.zeros(1000, 2), prior_I, ())
    sequence_batch = batch_of([3], 3)
    sampled_items, moved_batch = sample_softmax_items(
        items, sequence_batch, 50, torch.Generator().manual_seed(0)
    )
    assert sampled_items.log_prior_I.exp().sum().item() == pytest.approx(1, abs=1e-4)
    assert (sampled_items.log_prior_I[moved_batch.items_BT] == prior_I[sequence_batch.items_BT]).all()


def test_a_batch_of_the_whole_catalogue_is_not_sampled() -> None:
    items = ItemTensors(
        torch.zeros(3, 1).long(), torch.zeros(3, 2), torch.zeros(3, 2), smooth_log_prior(np.ones(3)), ()
    )
    sequence_batch = replace(batch_of([3], 3), items_BT=torch.tensor([[2, 0, 1]]))
    sampled_items, moved_batch = sample_softmax_items(
        items, sequence_batch, 2, torch.Generator().manual_seed(0)
    )
    assert sampled_items is items
    assert moved_batch is sequence_batch


def test_batches_hold_every_sequence_once() -> None:
    sequence_lengths = np.arange(101) % 7
    drawn_batches = plan_batches_by_length(sequence_lengths, 8, np.random.default_rng(0))
    assert sorted(np.concatenate(drawn_batches).tolist()) == list(range(101))
    assert max(len(row_numbers) for row_numbers in drawn_batches) == 8
