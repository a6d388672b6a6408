"""Users: how often they come, what they like, and the life situations they go through."""

from typing import Final, NamedTuple

import numpy as np
import polars as pl

from contracts.array_types import DoubleArray, FloatArray, IntArray
from simulation.config import SimulationConfig
from simulation.shop_world import ShopWorld

DEVICES: Final = ("phone", "desktop", "tablet")
DEVICE_SHARES: Final = (0.6, 0.3, 0.1)
"""Share of the users whose usual device it is."""

EPISODE_LEAD_DAYS: Final = 60
"""Needs may have begun so many days before the first day."""
NEW_USER_SPAN: Final = 0.9
"""New users come in this share of the log's days."""


class Episodes(NamedTuple):
    """Life situations of users (E of them)."""

    users: IntArray
    """[E]"""
    needs: IntArray
    """[E]"""
    days: FloatArray
    """[E] day of the log on which it begins."""


class Population(NamedTuple):
    """Lasting traits of the users (U users, E episodes, B brands, T product types)."""

    user_ids: tuple[str, ...]
    first_days: FloatArray
    """[U] day of the log on which a user first comes; 0 or before for those who knew the shop."""
    activity: FloatArray
    """[U] mean requests a day."""
    budget: FloatArray
    """[U] preferred price level, in about [-1, 1]."""
    brand_taste: FloatArray
    """[U, B] liking of each brand, standard normal."""
    interests: FloatArray
    """[U, T] what is wanted a little, always."""
    devices: IntArray
    """[U] usual device, index into `DEVICES`."""
    episode_users: IntArray
    """[E] user of each episode: one user in one life situation."""
    episode_needs: IntArray
    """[E] its need."""
    episode_days: FloatArray
    """[E] day of the log on which it begins; negative for those under way."""

    def append(self, other: "Population") -> "Population":
        """Appends the users of another population, which has no episodes."""
        traits = {
            name: np.concatenate([value, getattr(other, name)])
            for name, value in self._asdict().items()
            if name != "user_ids" and not name.startswith("episode_")
        }
        return self._replace(user_ids=self.user_ids + other.user_ids, **traits)

    def add_episodes(self, episodes: Episodes, num_needs: int) -> "Population":
        """Adds episodes; a user has each need once at most, and keeps the one that is listed first."""
        users = np.concatenate([self.episode_users, episodes.users])
        needs = np.concatenate([self.episode_needs, episodes.needs])
        days = np.concatenate([self.episode_days, episodes.days])
        _, kept_episodes = np.unique(users * num_needs + needs, return_index=True)
        return self._replace(
            episode_users=users[kept_episodes],
            episode_needs=needs[kept_episodes],
            episode_days=days[kept_episodes],
        )


def draw_population(config: SimulationConfig, world: ShopWorld, rng: np.random.Generator) -> Population:
    """Draws `config.num_users` users and their episodes."""
    num_users = config.num_users
    is_new = rng.random(num_users) < config.new_user_share
    first_days = np.where(is_new, rng.uniform(0, config.num_days * NEW_USER_SPAN, num_users), 0)
    population = draw_traits(config, world, rng, first_days=first_days, first_number=0)
    # Some needs are under way on the first day, as in a shop that has been open for long.
    first_starts = np.full(num_users, -EPISODE_LEAD_DAYS, dtype=np.float64)
    episodes = draw_episodes(config, world, rng, first_starts=first_starts, last_start=config.num_days)
    return population.add_episodes(episodes, num_needs=len(world.need_ids))


def draw_traits(
    config: SimulationConfig,
    world: ShopWorld,
    rng: np.random.Generator,
    *,
    first_days: DoubleArray,
    first_number: int,
) -> Population:
    """Draws users without episodes, one for each of `first_days` [U]; ids count from `first_number`."""
    num_users = len(first_days)
    activity_spread = rng.lognormal(mean=-0.405, sigma=0.9, size=num_users)  # mean 1
    num_brands = sum(len(department.brands) for department in world.departments)
    return Population(
        user_ids=tuple(f"u{first_number + number:06d}" for number in range(num_users)),
        first_days=first_days.astype(np.float32),
        activity=(config.requests_per_user_day * np.minimum(activity_spread, 12)).astype(np.float32),
        budget=np.clip(rng.normal(0, 0.5, num_users), -1, 1).astype(np.float32),
        brand_taste=rng.standard_normal((num_users, num_brands), dtype=np.float32),
        interests=_draw_interests(num_users, world, rng),
        devices=rng.choice(len(DEVICES), size=num_users, p=DEVICE_SHARES),
        episode_users=np.empty(0, dtype=np.int64),
        episode_needs=np.empty(0, dtype=np.int64),
        episode_days=np.empty(0, dtype=np.float32),
    )


def _draw_interests(num_users: int, world: ShopWorld, rng: np.random.Generator) -> FloatArray:
    """A few departments each; weak, so that what is wanted now comes from the needs."""
    department_shares = rng.dirichlet(np.full(len(world.departments), 0.3), num_users).astype(np.float32)
    type_departments = np.array([kind.department for kind in world.types])
    return np.asarray(0.5 * department_shares[:, type_departments], dtype=np.float32)


def draw_episodes(
    config: SimulationConfig,
    world: ShopWorld,
    rng: np.random.Generator,
    *,
    first_starts: DoubleArray,
    last_start: float,
) -> Episodes:
    """Draws episodes that begin between a user's `first_starts` [U] and `last_start`, in days of the log.

    The rate is that by which `needs_per_user` begin around and during the log.
    """
    daily_rate = config.needs_per_user / (EPISODE_LEAD_DAYS + config.num_days)
    num_episodes = rng.poisson(daily_rate * (last_start - first_starts))
    episode_users = np.repeat(np.arange(len(first_starts)), num_episodes)
    episode_days = rng.uniform(first_starts[episode_users], last_start)
    episode_months = ((config.start.month - 1 + np.floor_divide(episode_days, 30.4)) % 12).astype(np.int64)
    likelihood = world.need_weights[:, None] * world.month_factors
    cumulated_likelihood = np.cumsum(likelihood / likelihood.sum(axis=0), axis=0)[:, episode_months]
    episode_needs = np.minimum(
        (rng.random(len(episode_users)) > cumulated_likelihood).sum(axis=0), len(world.need_ids) - 1
    )
    return Episodes(episode_users, episode_needs, episode_days.astype(np.float32))


def list_phase_spans(population: Population, world: ShopWorld) -> pl.DataFrame:
    """One row per episode and phase: user, need, phase (indices), start_day, end_day."""
    num_phases = np.diff(world.first_phase)[population.episode_needs]
    span_episodes = np.repeat(np.arange(len(num_phases)), num_phases)
    phase_rank = np.arange(len(span_episodes)) - np.repeat(np.cumsum(num_phases) - num_phases, num_phases)
    span_needs = population.episode_needs[span_episodes]
    span_phases = world.first_phase[span_needs] + phase_rank
    ends_within_need = np.cumsum(world.phase_days)
    before_need = (ends_within_need - world.phase_days)[world.first_phase[span_needs]]
    span_ends = population.episode_days[span_episodes] + ends_within_need[span_phases] - before_need
    return pl.DataFrame(
        {
            "user": population.episode_users[span_episodes],
            "need": span_needs,
            "phase": span_phases,
            "start_day": span_ends - world.phase_days[span_phases],
            "end_day": span_ends,
        }
    )
