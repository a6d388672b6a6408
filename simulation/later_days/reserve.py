"""Items, users and episodes of needs that come after the log: drawn in reserve, so that the shop can live on.

They come at the rate at which new ones come during the log. The log does not depend on them.
"""

import numpy as np

from simulation.catalogue import ShopCatalogue, draw_items
from simulation.config import SimulationConfig
from simulation.daily_demand import Household
from simulation.logging_policy import LoggingPolicy
from simulation.population import (
    EPISODE_LEAD_DAYS,
    NEW_USER_SPAN,
    Population,
    draw_episodes,
    draw_traits,
)
from simulation.shop_world import ShopWorld
from simulation.simulate_log import ShopState
from simulation.simulated_shop import SimulatedShop


def extend_shop(shop: SimulatedShop, rng: np.random.Generator) -> SimulatedShop:
    """Adds `reserve_days` of new items, new users and new episodes behind those of the log."""
    return SimulatedShop(
        shop.config,
        shop.world,
        _extend_catalogue(shop.catalogue, shop.config, shop.world, rng),
        _extend_population(shop.population, shop.config, shop.world, rng),
    )


def extend_state(state: ShopState, shop: SimulatedShop) -> ShopState:
    """Makes room in a log's last state for the reserve of `shop`: nothing is known of it yet."""
    num_users, num_items = len(shop.population.user_ids), len(shop.catalogue.types)
    household, policy = state.household, state.policy
    return ShopState(
        Household(_pad_rows(household.supplied, num_users), _pad_rows(household.called_for, num_users)),
        LoggingPolicy(
            clicks=_pad_rows(policy.clicks, num_items),
            recent=_pad_rows(policy.recent, num_users),
            impressions=_pad_rows(policy.impressions, num_items),
            pages=_pad_rows(policy.pages, num_users),
        ),
    )


def _pad_rows(values: np.ndarray, num_rows: int) -> np.ndarray:
    padding = np.zeros((num_rows - len(values), *values.shape[1:]), dtype=values.dtype)
    return np.concatenate([values, padding])


def _extend_catalogue(
    catalogue: ShopCatalogue, config: SimulationConfig, world: ShopWorld, rng: np.random.Generator
) -> ShopCatalogue:
    num_new = round(config.new_item_share * config.num_items * config.reserve_days / config.num_days)
    # Types that sell many items get many new ones.
    types = rng.choice(catalogue.types, size=num_new)
    first_days = rng.uniform(config.num_days, config.num_days + config.reserve_days, num_new)
    return catalogue.append(
        draw_items(config, world, rng, types=types, first_days=first_days, first_number=config.num_items)
    )


def _extend_population(
    population: Population, config: SimulationConfig, world: ShopWorld, rng: np.random.Generator
) -> Population:
    daily_users = config.new_user_share * config.num_users / (NEW_USER_SPAN * config.num_days)
    num_new = round(daily_users * config.reserve_days)
    first_days = rng.uniform(config.num_days, config.num_days + config.reserve_days, num_new)
    new_users = draw_traits(config, world, rng, first_days=first_days, first_number=config.num_users)
    # Episodes of known users begin after the log; those of new users may be under way.
    log_end, reserve_end = config.num_days, config.num_days + config.reserve_days
    known_starts = np.full(config.num_users, log_end, dtype=np.float64)
    new_starts = np.full(num_new, log_end - EPISODE_LEAD_DAYS, dtype=np.float64)
    first_starts = np.concatenate([known_starts, new_starts])
    return population.append(new_users).add_episodes(
        draw_episodes(config, world, rng, first_starts=first_starts, last_start=reserve_end),
        num_needs=len(world.need_ids),
    )
