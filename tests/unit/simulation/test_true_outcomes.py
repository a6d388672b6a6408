"""Exact expectations of pages against many drawn reactions, and the oracle against other orders."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from contracts.errors import UserError
from contracts.tables import ITEMS
from simulation.config import TrafficConfig
from simulation.simulated_traffic import TrafficSimulator
from simulation.true_outcomes import (
    compute_place_outcomes,
    expected_outcomes,
    locate_slots,
    rank_as_given,
    rank_by_truth,
)
from simulation.user_choice import draw_reaction, list_examination_powers


@pytest.fixture(scope="module")
def traffic(shop: Path) -> TrafficSimulator:
    return TrafficSimulator(shop, TrafficConfig(num_requests=200))


def test_expectations_are_the_mean_of_many_reactions(traffic: TrafficSimulator) -> None:
    batch = traffic.batch
    slots = rank_by_truth(batch, 10)
    affinities = np.take_along_axis(batch.affinities, slots, axis=1)
    prices = np.take_along_axis(batch.prices, slots, axis=1)
    rng = np.random.default_rng(0)
    drawn = np.zeros((3, len(slots)))
    for _ in range(400):
        luck = rng.random((3, *slots.shape), dtype=np.float32)
        reaction = draw_reaction(affinities, np.arange(10), luck, list_examination_powers(batch.visits))
        drawn += [reaction.click.sum(1), reaction.order.sum(1), (reaction.order * prices).sum(1)]
    expected = expected_outcomes(batch, slots)
    assert expected.clicks.mean() == pytest.approx(drawn[0].mean() / 400, rel=0.02)
    assert expected.orders.mean() == pytest.approx(drawn[1].mean() / 400, rel=0.03)
    assert expected.gmv.mean() == pytest.approx(drawn[2].mean() / 400, rel=0.05)


def test_no_order_brings_more_than_the_oracle(traffic: TrafficSimulator) -> None:
    batch = traffic.batch
    given = expected_outcomes(batch, rank_as_given(batch, 10))
    by_clicks = expected_outcomes(batch, rank_by_truth(batch, 10))
    by_gmv = expected_outcomes(batch, rank_by_truth(batch, 10, "gmv"))
    assert (by_clicks.clicks >= given.clicks).all()
    assert (by_gmv.gmv >= by_clicks.gmv).all()
    assert by_clicks.clicks.mean() > 1.5 * given.clicks.mean()


def test_places_add_up_and_empty_ones_bring_nothing(traffic: TrafficSimulator) -> None:
    batch = traffic.batch.select_requests(slice(0, 7))
    slots = rank_as_given(batch, 5)
    whole = expected_outcomes(batch, slots)
    assert compute_place_outcomes(batch, slots).clicks.sum(1) == pytest.approx(whole.clicks)
    slots[:, 1:] = -1
    assert (expected_outcomes(batch, slots).clicks < whole.clicks).all()


def test_rankings_by_id_become_slots(traffic: TrafficSimulator) -> None:
    batch = traffic.batch.select_requests(slice(0, 2))
    requests = [request for request, _ in zip(traffic.iter_requests(), range(2), strict=False)]
    rankings = {requests[1].request_id: requests[1].candidate_item_ids[3:5]}
    assert locate_slots(batch, rankings, 3).tolist() == [[-1, -1, -1], [3, 4, -1]]
    with pytest.raises(UserError, match="candidates once each"):
        locate_slots(batch, {requests[0].request_id: ["i99999"]}, 3)


def test_requests_tell_their_context(traffic: TrafficSimulator) -> None:
    for request, scene in zip(traffic.iter_requests(), traffic.batch.scenes, strict=True):
        assert request.context["scene"] == scene
        assert ("query" in request.context) == (scene == "search")
        assert ("page_category" in request.context) == (scene == "category")
        assert ("seed_item_id" in request.context) == (scene == "similar")
        assert request.context.get("seed_item_id") not in request.candidate_item_ids


def test_what_was_logged_before_can_slice_the_truth(traffic: TrafficSimulator, shop: Path) -> None:
    events = pl.read_parquet(shop / "events.parquet").filter(pl.col("event_type") == "impression")
    batch, requests = traffic.batch, list(traffic.iter_requests())
    shown = dict(events["item_id"].value_counts().iter_rows())
    pages = dict(events.group_by("user_id").agg(pl.col("request_id").n_unique()).iter_rows())
    assert batch.item_impressions[0].tolist() == [shown.get(i, 0) for i in requests[0].candidate_item_ids]
    assert batch.user_pages.tolist() == [pages.get(request.user_id, 0) for request in requests]
    assert batch.item_ages.min() >= 0
    assert set(batch.candidate_ids.ravel()) <= set(
        pl.read_parquet(shop / "items.parquet", schema=ITEMS.schema)["item_id"]
    )
