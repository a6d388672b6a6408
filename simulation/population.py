"""Users: how often they come, what they like, and the life situations they go through."""

from typing import NamedTuple

import numpy as np
import polars as pl

from simulation.config import SimulationConfig
from simulation.world import Floats, Ints, World


class Population(NamedTuple):
    """Lasting traits of the users (U users, E episodes, B brands, T product types)."""

    user_ids: tuple[str, ...]
    first_days: Floats
    """[U] day of the log on which a user first comes; 0 or before for those who knew the shop."""
    activity: Floats
    """[U] mean requests a day."""
    budget: Floats
    """[U] preferred price level, in about [-1, 1]."""
    brand_taste: Floats
    """[U, B] liking of each brand, standard normal."""
    interests: Floats
    """[U, T] what is wanted a little, always."""
    episode_users: Ints
    """[E] user of each episode: one user in one life situation."""
    episode_needs: Ints
    """[E] its need."""
    episode_days: Floats
    """[E] day of the log on which it begins; negative for those under way."""


def make_population(config: SimulationConfig, world: World, rng: np.random.Generator) -> Population:
    """Draws `config.num_users` users and their episodes."""
    num_users = config.num_users
    is_new = rng.random(num_users) < config.new_user_share
    spread = rng.lognormal(mean=-0.405, sigma=0.9, size=num_users)  # mean 1
    num_brands = sum(len(department.brands) for department in world.departments)
    users, needs, days = _draw_episodes(config, world, rng)
    return Population(
        user_ids=tuple(f"u{number:06d}" for number in range(num_users)),
        first_days=np.where(is_new, rng.uniform(0, config.num_days * 0.9, num_users), 0).astype(np.float32),
        activity=(config.requests_per_user_day * np.minimum(spread, 12)).astype(np.float32),
        budget=np.clip(rng.normal(0, 0.5, num_users), -1, 1).astype(np.float32),
        brand_taste=rng.standard_normal((num_users, num_brands), dtype=np.float32),
        interests=_draw_interests(num_users, world, rng),
        episode_users=users,
        episode_needs=needs,
        episode_days=days,
    )


def _draw_interests(num_users: int, world: World, rng: np.random.Generator) -> Floats:
    """A few departments each; weak, so that what is wanted now comes from the needs."""
    shares = rng.dirichlet(np.full(len(world.departments), 0.3), num_users).astype(np.float32)
    department = np.array([kind.department for kind in world.types])
    return np.asarray(0.5 * shares[:, department], dtype=np.float32)


def _draw_episodes(config: SimulationConfig, world: World, rng: np.random.Generator) -> tuple[Ints, Ints, Floats]:
    """Episodes begin from one mean length before the log until its end; a user has each need once at most."""
    lead_days = 60
    users = np.repeat(np.arange(config.num_users), rng.poisson(config.needs_per_user, config.num_users))
    days = rng.uniform(-lead_days, config.num_days, len(users))
    months = ((config.start.month - 1 + np.floor_divide(days, 30.4)) % 12).astype(np.int64)
    likelihood = world.need_weights[:, None] * world.month_factors
    cumulated = np.cumsum(likelihood / likelihood.sum(axis=0), axis=0)[:, months]
    needs = np.minimum((rng.random(len(users)) > cumulated).sum(axis=0), len(world.need_ids) - 1)
    _, first = np.unique(users * len(world.need_ids) + needs, return_index=True)
    return users[first], needs[first], days[first].astype(np.float32)


def phase_spans(population: Population, world: World) -> pl.DataFrame:
    """One row per episode and phase: user, need, phase (indices), start_day, end_day."""
    lengths = np.diff(world.first_phase)[population.episode_needs]
    episodes = np.repeat(np.arange(len(lengths)), lengths)
    nth = np.arange(len(episodes)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    needs = population.episode_needs[episodes]
    phases = world.first_phase[needs] + nth
    ends_within_need = np.cumsum(world.phase_days)
    before_need = (ends_within_need - world.phase_days)[world.first_phase[needs]]
    ends = population.episode_days[episodes] + ends_within_need[phases] - before_need
    return pl.DataFrame(
        {
            "user": population.episode_users[episodes],
            "need": needs,
            "phase": phases,
            "start_day": ends - world.phase_days[phases],
            "end_day": ends,
        }
    )
