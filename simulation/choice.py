"""How users react to a page: examined by position, clicked by affinity, ordered by affinity and price.

The examination hypothesis (Richardson et al. 2007; Craswell et al. 2008): P(click) = P(examined | position) x
P(attractive | user, item). Affinity comes from the user's needs and tastes alone, never from a score.
"""

from typing import NamedTuple

import numpy as np

from simulation.catalogue import Catalogue
from simulation.demand import Demand
from simulation.population import Population
from simulation.world import Bools, Floats, Ints

_EXAMINATION_POWER = 0.6
_CLICK_BIAS = -3.1
_ORDER_BIAS = -3.1
_CART_GIVEN_NO_ORDER = 0.15


class Reaction(NamedTuple):
    """What happened to each shown item."""

    click: Bools
    cart: Bools
    order: Bools


def affinity(users: Ints, items: Ints, *, demand: Demand, population: Population, catalogue: Catalogue) -> Floats:
    """Log-odds by which each item attracts each user beside it (arrays of one shape), without the bias."""
    types, variants = catalogue.types[items], catalogue.variants[items]
    want = np.log1p(4 * demand.wants[users, types])
    matches = demand.prefers[users, variants] * np.minimum(want, 1)
    misfit = np.abs(population.budget[users] - catalogue.tiers[items])
    taste = population.brand_taste[users, catalogue.brands[items]]
    value = 1.5 * want + 0.9 * matches + 0.35 * taste - 0.7 * misfit + 0.3 * catalogue.quality[items]
    return np.asarray(value, dtype=np.float32)


def examination(positions: Ints) -> Floats:
    """Probability that a user looks at each position (from 0)."""
    return np.asarray((1.0 + positions) ** -_EXAMINATION_POWER, dtype=np.float32)


def click_probability(affinities: Floats, positions: Ints) -> Floats:
    """Probability of a click on each item at its position."""
    return examination(positions) * _sigmoid(affinities + _CLICK_BIAS)


def order_probability(affinities: Floats) -> Floats:
    """Probability that a clicked item is ordered."""
    return _sigmoid(0.6 * affinities + _ORDER_BIAS)


def react(affinities: Floats, positions: Ints, luck: Floats) -> Reaction:
    """Reactions, given one uniform draw for each of click, order and cart.

    Args:
        affinities: as from `affinity`, any shape S.
        positions: position of each item, shape S.
        luck: uniform in [0, 1), shape [3, *S]: the same luck gives comparable reactions to different orderings.
    """
    click = luck[0] < click_probability(affinities, positions)
    order = click & (luck[1] < order_probability(affinities))
    cart = order | (click & (luck[2] < _CART_GIVEN_NO_ORDER))
    return Reaction(click, cart, order)


def _sigmoid(value: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-value)), dtype=np.float32)
