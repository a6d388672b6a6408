from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from contracts.errors import UserError
from contracts.tables import EVENTS, OUTCOMES
from simulation.config import TrafficConfig
from simulation.simulated_traffic import TrafficRequest, TrafficSimulator

Ranking = Callable[[TrafficRequest], Sequence[str]]


@pytest.fixture(scope="module")
def traffic(shop: Path) -> TrafficSimulator:
    return TrafficSimulator(shop, TrafficConfig(num_requests=300))


def outcomes(traffic: TrafficSimulator, rank: Ranking) -> pl.DataFrame:
    return pl.concat(
        [traffic.simulate_reaction(request, rank(request)) for request in traffic.iter_requests()]
    )


def as_drawn(request: TrafficRequest) -> Sequence[str]:
    return request.candidate_item_ids


def test_requests_repeat_and_come_after_the_log(traffic: TrafficSimulator, shop: Path) -> None:
    first, second = list(traffic.iter_requests()), list(traffic.iter_requests())
    log_end = pl.read_parquet(shop / "events.parquet")["timestamp"].max()
    assert first == second
    assert len({request.request_id for request in first}) == 300
    assert log_end < first[0].timestamp
    times = [request.timestamp for request in first]
    assert times == sorted(times)
    assert times[-1] - times[0] < timedelta(days=14)
    assert all(len(set(request.candidate_item_ids)) == 50 for request in first)


def test_outcomes_keep_their_contract(traffic: TrafficSimulator) -> None:
    table = outcomes(traffic, as_drawn)
    assert OUTCOMES.validate_rows(table).rejected.is_empty()
    assert (table["click"] | ~table["order"]).all()
    assert ((table["revenue"] > 0) == table["order"]).all()


def test_knowing_the_user_beats_not_knowing(traffic: TrafficSimulator) -> None:
    def by_truth(request: TrafficRequest) -> Sequence[str]:
        order = np.argsort(-traffic.compute_true_affinity(request))
        return [request.candidate_item_ids[slot] for slot in order]

    drawn, best = outcomes(traffic, as_drawn), outcomes(traffic, by_truth)
    assert best["click"].sum() > 1.3 * drawn["click"].sum()
    assert best["order"].sum() > 1.3 * drawn["order"].sum()


def test_same_item_at_the_same_place_gets_the_same_answer(traffic: TrafficSimulator) -> None:
    """Common random numbers: what an arm does to other items does not change the luck of this one."""
    for request in list(traffic.iter_requests())[:20]:
        ranked = list(request.candidate_item_ids)
        swapped = [*ranked[:10], *reversed(ranked[10:])]
        first, second = (
            traffic.simulate_reaction(request, ranked),
            traffic.simulate_reaction(request, swapped),
        )
        assert first.head(10).equals(second.head(10))


def test_moving_an_item_up_never_loses_its_click(traffic: TrafficSimulator) -> None:
    for request in list(traffic.iter_requests())[:40]:
        ranked = list(request.candidate_item_ids)
        last, first = (
            traffic.simulate_reaction(request, ranked)[-1],
            traffic.simulate_reaction(request, [ranked[-1], *ranked[:-1]])[:1],
        )
        assert first["click"].item() or not last["click"].item()


def test_a_part_of_the_candidates_may_be_shown(traffic: TrafficSimulator) -> None:
    request = next(traffic.iter_requests())
    assert len(traffic.simulate_reaction(request, request.candidate_item_ids[:7])) == 7
    assert traffic.simulate_reaction(request, []).schema == OUTCOMES.schema


@pytest.mark.parametrize("ranked", [["i99999"], ["first", "first"]])
def test_strange_rankings_are_refused(traffic: TrafficSimulator, ranked: list[str]) -> None:
    request = next(traffic.iter_requests())
    given = [request.candidate_item_ids[0] if item == "first" else item for item in ranked]
    with pytest.raises(UserError, match="candidates once each"):
        traffic.simulate_reaction(request, given)


def test_traffic_needs_a_simulated_shop(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a simulated shop"):
        TrafficSimulator(tmp_path, TrafficConfig())


def test_traffic_may_become_events(traffic: TrafficSimulator) -> None:
    table = outcomes(traffic, as_drawn).filter("click").with_columns(event_type=pl.lit("click"))
    assert EVENTS.validate_rows(table).rejected.is_empty()
