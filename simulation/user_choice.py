"""How users react to a page: examined by position, clicked by affinity, ordered by affinity and price.

The examination hypothesis (Richardson et al. 2007; Craswell et al. 2008): P(click) = P(examined | position) x
P(attractive | user, item). Affinity comes from the user's needs and tastes alone, never from a score.
"""

from typing import NamedTuple

import numpy as np

from contracts.array_types import BoolArray, FloatArray, IntArray
from simulation.daily_demand import DailyDemand
from simulation.page_visits import PageVisits
from simulation.simulated_shop import SimulatedShop

_EXAMINATION_POWER = 0.6
_DEVICE_POWERS = np.array([0.63, 0.55, 0.6], dtype=np.float32)
"""Examination power on each of `DEVICES`."""
_CLICK_BIAS = -3.1
_ORDER_BIAS = -3.1
_CART_GIVEN_NO_ORDER = 0.15


class Reaction(NamedTuple):
    """What happened to each shown item."""

    click: BoolArray
    cart: BoolArray
    order: BoolArray


def compute_affinity(
    visits: PageVisits, items: IntArray, demand: DailyDemand, shop: SimulatedShop
) -> FloatArray:
    """Computes the log-odds by which each of the items attracts its visitor: [R, K], as `items`."""
    catalogue, population = shop.catalogue, shop.population
    users = visits.users[:, None]
    item_types, item_variants = catalogue.types[items], catalogue.variants[items]
    # Who looks for one thing has less of an eye for another.
    focus = shop.world.focus[visits.intents[:, None], item_types]
    want_strength = np.log1p(4 * focus * demand.wants[users, item_types])
    variant_match = demand.prefers[users, item_variants] * np.minimum(want_strength, 1)
    price_misfit = np.abs(population.budget[users] - catalogue.tiers[items])
    brand_taste = population.brand_taste[users, catalogue.brands[items]]
    # What is wanted now weighs most; a matching selling point counts only on something wanted.
    log_odds = (
        1.5 * want_strength
        + 0.9 * variant_match
        + 0.35 * brand_taste
        - 0.7 * price_misfit
        + 0.3 * catalogue.quality[items]
    )
    return np.asarray(log_odds, dtype=np.float32)


def list_examination_powers(visits: PageVisits) -> FloatArray:
    """Lists how fast each visitor stops looking, [R, 1]: on a small screen a little sooner."""
    return _DEVICE_POWERS[visits.devices][:, None]


def examination_probability(
    positions: IntArray, power: FloatArray | float = _EXAMINATION_POWER
) -> FloatArray:
    """Computes the probability that a user looks at each position (from 0)."""
    return np.asarray((1.0 + positions) ** -power, dtype=np.float32)


def click_probability(
    affinities: FloatArray, positions: IntArray, power: FloatArray | float = _EXAMINATION_POWER
) -> FloatArray:
    """Computes the probability of a click on each item at its position."""
    return examination_probability(positions, power) * _apply_sigmoid(affinities + _CLICK_BIAS)


def order_probability(affinities: FloatArray) -> FloatArray:
    """Computes the probability that a clicked item is ordered."""
    return _apply_sigmoid(0.6 * affinities + _ORDER_BIAS)


def draw_reaction(
    affinities: FloatArray,
    positions: IntArray,
    luck: FloatArray,
    power: FloatArray | float = _EXAMINATION_POWER,
) -> Reaction:
    """Draws reactions, given one uniform draw for each of click, order and cart.

    Args:
        affinities: as from `compute_affinity`, any shape S.
        positions: position of each item, shape S.
        luck: uniform in [0, 1), shape [3, *S]: the same luck gives comparable reactions to different
            orderings.
        power: examination power, broadcast to S.
    """
    is_clicked = luck[0] < click_probability(affinities, positions, power)
    is_ordered = is_clicked & (luck[1] < order_probability(affinities))
    is_carted = is_ordered | (is_clicked & (luck[2] < _CART_GIVEN_NO_ORDER))
    return Reaction(is_clicked, is_carted, is_ordered)


def _apply_sigmoid(value: FloatArray) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-value)), dtype=np.float32)
