"""Lists from scores of the whole catalogue and of candidates only: alike, valid, and the same in any batch."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
import torch
from behavior_shop import START

from models.behavior.catalogue import Catalogue
from models.behavior.config import NetworkConfig
from models.behavior.decode import Decoder
from models.behavior.mixture import Weights
from models.behavior.neighbors import Neighbors, association_table, keep_largest
from models.behavior.network import Denoiser, NetworkSpec, code_sizes
from models.behavior.recommend import Moment, TopItems, top_items, top_of_shortlists
from models.behavior.shortlist import find_associations, make_shortlists
from models.behavior.tensors import ItemTensors, code_log_priors, log_prior

NUM_ITEMS, NUM_USERS, LENGTH = 2000, 30, 12
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    groups = RNG.integers(20, size=(NUM_ITEMS, 2))
    vectors = RNG.standard_normal((20, 16))[groups[:, 0]] + 0.5 * RNG.standard_normal((20, 16))[groups[:, 1]]
    vectors += 0.3 * RNG.standard_normal((NUM_ITEMS, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Catalogue(
        item_ids=pl.Series([f"i{number:04d}" for number in range(NUM_ITEMS)]),
        codes=np.column_stack([groups, np.arange(NUM_ITEMS) % 16]),
        vectors=vectors.astype(np.float32),
        available_us=np.where(np.arange(NUM_ITEMS) < NUM_ITEMS - 100, 0, 2**62),
        space="space-a",
    )


@pytest.fixture(scope="module")
def decoder(catalogue: Catalogue) -> Decoder:
    torch.manual_seed(0)
    sizes = code_sizes(catalogue.codes)
    network = NetworkConfig(dimension=16, num_layers=1, num_heads=2)
    spec = NetworkSpec(network=network, code_sizes=sizes, vector_length=16, max_length=LENGTH, num_event_types=1)
    denoiser = Denoiser(spec)
    denoiser.start_from(catalogue)
    codes, vectors = torch.from_numpy(catalogue.codes), torch.from_numpy(catalogue.vectors)
    prior = log_prior(RNG.pareto(1, NUM_ITEMS).astype(np.float32))
    with torch.no_grad():
        components = denoiser.project(vectors)
    together = torch.from_numpy(RNG.random((NUM_ITEMS, NUM_ITEMS)).astype(np.float32)) ** 8
    return Decoder(
        denoiser=denoiser,
        items=ItemTensors(codes, components, vectors, prior, code_log_priors(prior, codes, sizes)),
        num_slots=2,
        num_steps=1,
        associations=association_table(vectors, 10.0, count=50, max_exact=0),
        cooccurrences=keep_largest(together, 0, 20, keep_rest=False),
        weights=Weights(popularity=0.9, context=1.1, association=0.7, cooccurrence=0.4),
        popularity_weight=1.0,
    )


@pytest.fixture(scope="module")
def moment(catalogue: Catalogue) -> Moment:
    """Users of one to thirty behaviours, and one without any."""
    counts = np.arange(1, NUM_USERS)
    user = np.repeat(np.arange(1, NUM_USERS), counts)
    item = np.concatenate([RNG.choice(NUM_ITEMS - 100, size=count, replace=False) for count in counts])
    start_us = int(START.timestamp() * 1e6)
    times = start_us - RNG.integers(1, 10**12, size=len(user))
    frame = pl.DataFrame({"user_id": [f"u{n}" for n in user], "item": item, "event_type": 1, "time_us": times})
    return Moment(START + timedelta(seconds=1), frame.sort("user_id", "time_us"), catalogue)


def lists(moment: Moment, decoder: Decoder, *, short: bool, only: list[str] | None = None) -> TopItems:
    users = pl.Series(only or [f"u{number}" for number in range(NUM_USERS)])
    if short:
        shortlists = make_shortlists(decoder, moment.unavailable_n)
        return top_of_shortlists(moment, users, shortlists.confidences, max_history=LENGTH - 2, num_items=20)
    return top_items(moment, users, decoder.confidences, max_history=LENGTH - 2, num_items=20)


def test_they_are_nearly_those_of_the_whole_catalogue(moment: Moment, decoder: Decoder) -> None:
    ours, theirs = (lists(moment, decoder, short=short) for short in (True, False))
    assert (ours.items >= 0).all()
    found = (ours.items[:, :, None] == theirs.items[:, None]).any(1)
    assert found.mean() > 0.98
    # Both normalise, over different items: their log-confidences differ by one number per user.
    for row in range(NUM_USERS):
        shared = np.intersect1d(ours.items[row], theirs.items[row])
        scores = [dict(zip(top.items[row], top.scores[row], strict=True)) for top in (ours, theirs)]
        ratios = np.log([scores[0][item] / scores[1][item] for item in shared])
        assert np.ptp(ratios) < 1e-3


@pytest.mark.parametrize("short", [False, True])
def test_a_batch_gives_what_single_users_give(moment: Moment, decoder: Decoder, short: bool) -> None:
    together = lists(moment, decoder, short=short)
    for row in (0, 1, 7, NUM_USERS - 1):  # histories of no, one, seven, and more behaviours than are shown
        alone = lists(moment, decoder, short=short, only=[f"u{row}"])
        assert alone.items[0].tolist() == together.items[row].tolist()
        np.testing.assert_allclose(alone.scores[0], together.scores[row], rtol=1e-4)


@pytest.mark.parametrize("short", [False, True])
def test_nothing_logged_or_unavailable_is_found(moment: Moment, decoder: Decoder, short: bool) -> None:
    found = lists(moment, decoder, short=short)
    assert (found.items < NUM_ITEMS - 100).all()
    logged = set(moment.behaviors.select("user_id", "item").iter_rows())
    assert not logged & {(f"u{row}", int(item)) for row, items in enumerate(found.items) for item in items}


def test_associations_found_by_index_are_nearly_all(catalogue: Catalogue) -> None:
    vectors = torch.from_numpy(catalogue.vectors)
    exact = association_table(vectors, 10.0, count=50, max_exact=0)
    found = find_associations(vectors, torch.from_numpy(catalogue.codes), 10.0, 50)
    assert isinstance(exact, Neighbors)
    kept = (exact.items_nk[:, :20, None] == found.items_nk[:, None]).any(2)
    assert kept.float().mean() > 0.95
    assert (found.rest_n / exact.rest_n).log().abs().median() < 0.2
