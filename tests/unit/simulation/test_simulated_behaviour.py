import numpy as np
import pytest

from simulation.daily_demand import Household
from simulation.logging_policy import draw_without_replacement
from simulation.shop_world import load_shop_world
from simulation.user_choice import click_probability, draw_reaction, examination_probability


def test_draws_follow_the_weights_without_repeating() -> None:
    weights = np.tile(np.array([0.0, 1.0, 2.0, 5.0], dtype=np.float32), (20_000, 1))
    drawn = draw_without_replacement(weights, 3, np.random.default_rng(0))
    first = np.bincount(drawn[:, 0], minlength=4) / len(drawn)
    assert first == pytest.approx([0, 1 / 8, 2 / 8, 5 / 8], abs=0.015)
    assert (np.sort(drawn, axis=1) == [1, 2, 3]).all()


def test_lower_positions_are_looked_at_less() -> None:
    looked_at = examination_probability(np.arange(50))
    assert looked_at[0] == 1
    assert (np.diff(looked_at) < 0).all()


def test_clicks_happen_as_often_as_their_probability_says() -> None:
    affinities = np.full((100_000,), 2.0, dtype=np.float32)
    positions = np.full(affinities.shape, 3)
    reaction = draw_reaction(
        affinities, positions, np.random.default_rng(1).random((3, *affinities.shape), dtype=np.float32)
    )
    assert reaction.click.mean() == pytest.approx(click_probability(affinities, positions)[0], rel=0.03)
    assert (reaction.click | ~reaction.cart).all()
    assert (reaction.cart | ~reaction.order).all()


def test_a_durable_purchase_satisfies_and_calls_for_what_follows() -> None:
    world = load_shop_world()
    names = [kind.type_id for kind in world.types]
    stroller, cover, diapers = (names.index(name) for name in ("stroller", "stroller_rain_cover", "diapers"))
    household = Household.create_empty(2, len(names))
    household.record_purchases(np.array([1, 1]), np.array([stroller, diapers]), world)
    assert household.called_for[1, cover] > 0
    assert not household.called_for[0].any()
    for _ in range(30):
        household.pass_day(world)
    assert household.supplied[1, stroller] == 1
    assert household.supplied[1, diapers] < 0.1
    assert household.called_for[1, cover] < 1
