"""Lists by scores of the whole catalogue and of candidates: alike, valid, and the same in any batch."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
import torch
from behavior_shop import START

from contracts.complement_vectors import ComplementVectors
from models.behavior.config import NetworkConfig
from models.behavior.decoding import shortlist_decoder
from models.behavior.decoding.complement_votes import share_complement_votes, tabulate_complements
from models.behavior.decoding.shortlist_decoder import build_shortlist_decoder, search_associations
from models.behavior.decoding.slot_decoder import SlotDecoder
from models.behavior.decoding.top_items import (
    LogSnapshot,
    TopItems,
    mark_unavailable_items,
    rank_shortlists,
    rank_whole_catalogue,
)
from models.behavior.decoding.vote_tables import (
    FullVoteTable,
    NeighborVoteTable,
    build_association_table,
    keep_largest_votes,
)
from models.behavior.network.denoiser import Denoiser, DenoiserSpec, count_codes
from models.behavior.sequences.behavior_catalogue import BehaviorCatalogue
from models.behavior.sequences.sequence_tensors import ItemTensors, smooth_log_prior, sum_code_log_priors
from models.behavior.training.score_weights import ScoreWeights

NUM_ITEMS, NUM_USERS, LENGTH = 2000, 30, 12
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def catalogue() -> BehaviorCatalogue:
    item_groups = RNG.integers(20, size=(NUM_ITEMS, 2))
    vectors_ID = (
        RNG.standard_normal((20, 16))[item_groups[:, 0]]
        + 0.5 * RNG.standard_normal((20, 16))[item_groups[:, 1]]
    )
    vectors_ID += 0.3 * RNG.standard_normal((NUM_ITEMS, 16))
    vectors_ID /= np.linalg.norm(vectors_ID, axis=1, keepdims=True)
    return BehaviorCatalogue(
        item_ids=pl.Series([f"i{number:04d}" for number in range(NUM_ITEMS)]),
        codes=np.column_stack([item_groups, np.arange(NUM_ITEMS) % 16]),
        vectors=vectors_ID.astype(np.float32),
        available_us=np.where(np.arange(NUM_ITEMS) < NUM_ITEMS - 100, 0, 2**62),
        space="space-a",
    )


@pytest.fixture(scope="module")
def decoder(catalogue: BehaviorCatalogue) -> SlotDecoder:
    torch.manual_seed(0)
    code_sizes = count_codes(catalogue.codes)
    network = NetworkConfig(dimension=16, num_layers=1, num_heads=2)
    denoiser_spec = DenoiserSpec(
        network=network, code_sizes=code_sizes, vector_length=16, max_length=LENGTH, num_event_types=1
    )
    denoiser = Denoiser(denoiser_spec)
    denoiser.start_from_catalogue(catalogue)
    codes_IL, vectors_ID = torch.from_numpy(catalogue.codes), torch.from_numpy(catalogue.vectors)
    prior_I = smooth_log_prior(RNG.pareto(1, NUM_ITEMS).astype(np.float32))
    with torch.no_grad():
        components_IP = denoiser.project_vectors(vectors_ID)
    joint_votes, complement_votes = (
        torch.from_numpy(RNG.random((NUM_ITEMS, NUM_ITEMS)).astype(np.float32)) ** 8 for _ in range(2)
    )
    return SlotDecoder(
        denoiser=denoiser,
        items=ItemTensors(
            codes_IL, components_IP, vectors_ID, prior_I, sum_code_log_priors(prior_I, codes_IL, code_sizes)
        ),
        num_slots=2,
        num_steps=1,
        associations=build_association_table(vectors_ID, 10.0, num_neighbors=50, max_whole=0),
        cooccurrences=keep_largest_votes(joint_votes, 0, 20, keep_mean=False),
        weights=ScoreWeights(popularity=0.9, context=1.1, association=0.7, cooccurrence=0.4, complement=0.2),
        popularity_weight=1.0,
        complements=keep_largest_votes(complement_votes, 0, 20, keep_mean=True),
    )


@pytest.fixture(scope="module")
def moment(catalogue: BehaviorCatalogue) -> LogSnapshot:
    """Users of one to thirty behaviors, and one without any."""
    num_behaviors = np.arange(1, NUM_USERS)
    user_numbers = np.repeat(np.arange(1, NUM_USERS), num_behaviors)
    item = np.concatenate([RNG.choice(NUM_ITEMS - 100, size=count, replace=False) for count in num_behaviors])
    start_us = int(START.timestamp() * 1e6)
    times_us = start_us - RNG.integers(1, 10**12, size=len(user_numbers))
    behaviors = pl.DataFrame(
        {"user_id": [f"u{n}" for n in user_numbers], "item": item, "event_type": 1, "time_us": times_us}
    )
    return LogSnapshot(START + timedelta(seconds=1), behaviors.sort("user_id", "time_us"), catalogue)


def lists(
    moment: LogSnapshot, decoder: SlotDecoder, *, short: bool, only: list[str] | None = None
) -> TopItems:
    users = pl.Series(only or [f"u{number}" for number in range(NUM_USERS)])
    if short:
        short_decoder = build_shortlist_decoder(
            decoder, mark_unavailable_items(moment.catalogue, moment.as_of)
        )
        return rank_shortlists(
            moment, users, short_decoder.compute_confidences, max_history=LENGTH - 2, num_items=20
        )
    return rank_whole_catalogue(
        moment, users, decoder.compute_confidences, max_history=LENGTH - 2, num_items=20
    )


def test_they_are_nearly_those_of_the_whole_catalogue(moment: LogSnapshot, decoder: SlotDecoder) -> None:
    short_lists, whole_lists = (lists(moment, decoder, short=short) for short in (True, False))
    assert (short_lists.items >= 0).all()
    is_shared = (short_lists.items[:, :, None] == whole_lists.items[:, None]).any(1)
    assert is_shared.mean() > 0.98
    # Both normalize, over different items: their log-confidences differ by one number per user_numbers.
    for row in range(NUM_USERS):
        shared_items = np.intersect1d(short_lists.items[row], whole_lists.items[row])
        top_scores = [
            dict(zip(top_items.items[row], top_items.scores[row], strict=True))
            for top_items in (short_lists, whole_lists)
        ]
        log_ratios = np.log([top_scores[0][item] / top_scores[1][item] for item in shared_items])
        assert np.ptp(log_ratios) < 1e-3


@pytest.mark.parametrize("short", [False, True])
def test_a_batch_gives_what_single_users_give(moment: LogSnapshot, decoder: SlotDecoder, short: bool) -> None:
    joint_lists = lists(moment, decoder, short=short)
    for row in (0, 1, 7, NUM_USERS - 1):  # histories of no, one, seven, and more behaviors than are shown
        lone_lists = lists(moment, decoder, short=short, only=[f"u{row}"])
        assert lone_lists.items[0].tolist() == joint_lists.items[row].tolist()
        np.testing.assert_allclose(lone_lists.scores[0], joint_lists.scores[row], rtol=1e-4)


@pytest.mark.parametrize("short", [False, True])
def test_nothing_logged_or_unavailable_is_found(
    moment: LogSnapshot, decoder: SlotDecoder, short: bool
) -> None:
    top_lists = lists(moment, decoder, short=short)
    assert (top_lists.items < NUM_ITEMS - 100).all()
    logged_pairs = set(moment.behaviors.select("user_id", "item").iter_rows())
    assert not logged_pairs & {
        (f"u{row}", int(item)) for row, items in enumerate(top_lists.items) for item in items
    }


def test_associations_found_by_index_are_nearly_all(catalogue: BehaviorCatalogue) -> None:
    vectors_ID = torch.from_numpy(catalogue.vectors)
    exact_table = build_association_table(vectors_ID, 10.0, num_neighbors=50, max_whole=0)
    found_table = search_associations(vectors_ID, torch.from_numpy(catalogue.codes), 10.0, num_neighbors=50)
    assert isinstance(exact_table, NeighborVoteTable)
    is_kept = (exact_table.neighbors_IJ[:, :20, None] == found_table.neighbors_IJ[:, None]).any(2)
    assert is_kept.float().mean() > 0.95
    assert (found_table.other_vote_I / exact_table.other_vote_I).log().abs().median() < 0.2


def test_an_unknown_kind_gets_the_mean_vote_and_unknown_complements_say_nothing() -> None:
    cosines_RI = torch.tensor([[0.9, 0.1, 0.0], [0.0, 0.0, 0.0]])
    votes_RI = share_complement_votes(cosines_RI, torch.tensor([False, False, True]))
    assert votes_RI.sum(1) == pytest.approx(1)
    assert votes_RI[0, 0] > votes_RI[0, 2] > votes_RI[0, 1]
    assert votes_RI[0, 2] == pytest.approx(float(votes_RI[0, :2].mean()))
    assert votes_RI[1] == pytest.approx(1 / 3)
    assert share_complement_votes(cosines_RI, torch.ones(3, dtype=torch.bool)) == pytest.approx(1 / 3)


def test_complements_found_by_index_are_nearly_all(
    catalogue: BehaviorCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    complements_ID = np.roll(catalogue.vectors, 700, axis=0).astype(np.float16)
    complements_ID[:3] = 0
    vectors = ComplementVectors(catalogue.vectors.astype(np.float16), complements_ID)
    codes_IL = torch.from_numpy(catalogue.codes)
    whole_table = tabulate_complements(vectors, codes_IL)
    assert isinstance(whole_table, FullVoteTable)
    monkeypatch.setattr(shortlist_decoder, "MAX_EXACT_ITEMS", NUM_ITEMS - 1)
    found_table = tabulate_complements(vectors, codes_IL)
    assert isinstance(found_table, NeighborVoteTable)
    best_items_IJ = whole_table.votes_II.topk(20, dim=1).indices
    is_found = (best_items_IJ[3:, :, None] == found_table.neighbors_IJ[3:, None]).any(2)
    assert is_found.float().mean() > 0.95
    assert not found_table.votes_IJ[:3].any()
