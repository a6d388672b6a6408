import numpy as np
import pytest

from simulation.choice import click_probability, examination, react
from simulation.demand import Household
from simulation.policy import _race
from simulation.world import load_world


def test_draws_follow_the_weights_without_repeating() -> None:
    weights = np.tile(np.array([0.0, 1.0, 2.0, 5.0], dtype=np.float32), (20_000, 1))
    drawn = _race(weights, 3, np.random.default_rng(0))
    first = np.bincount(drawn[:, 0], minlength=4) / len(drawn)
    assert first == pytest.approx([0, 1 / 8, 2 / 8, 5 / 8], abs=0.015)
    assert (np.sort(drawn, axis=1) == [1, 2, 3]).all()


def test_lower_positions_are_looked_at_less() -> None:
    looked_at = examination(np.arange(50))
    assert looked_at[0] == 1
    assert (np.diff(looked_at) < 0).all()


def test_clicks_happen_as_often_as_their_probability_says() -> None:
    affinities = np.full((100_000,), 2.0, dtype=np.float32)
    positions = np.full(affinities.shape, 3)
    reaction = react(affinities, positions, np.random.default_rng(1).random((3, *affinities.shape), dtype=np.float32))
    assert reaction.click.mean() == pytest.approx(click_probability(affinities, positions)[0], rel=0.03)
    assert (reaction.click | ~reaction.cart).all()
    assert (reaction.cart | ~reaction.order).all()


def test_a_durable_purchase_satisfies_and_calls_for_what_follows() -> None:
    world = load_world()
    names = [kind.type_id for kind in world.types]
    stroller, cover, diapers = (names.index(name) for name in ("stroller", "stroller_rain_cover", "diapers"))
    household = Household.empty(2, len(names))
    household.acquire(np.array([1, 1]), np.array([stroller, diapers]), world)
    assert household.called_for[1, cover] > 0
    assert not household.called_for[0].any()
    for _ in range(30):
        household.pass_day(world)
    assert household.supplied[1, stroller] == 1
    assert household.supplied[1, diapers] < 0.1
    assert household.called_for[1, cover] < 1
