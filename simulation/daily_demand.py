"""What every user wants today: lasting interests, phases of needs, and what earlier purchases call for.

Shape letters: U users, T product types, P phases, V selling points. Nothing here knows how items are ranked.
"""

from typing import NamedTuple

import numpy as np
import polars as pl

from contracts.array_types import BoolArray, FloatArray, IntArray
from simulation.population import Population
from simulation.shop_world import ShopWorld

_FADE_PER_DAY = np.float32(0.5 ** (1 / 12))
"""What a purchase calls for is forgotten by half in twelve days."""
_CONSUMED_PER_DAY = np.float32(0.5 ** (1 / 8))
"""A consumable is wanted again, by half, after eight days."""


class DailyDemand(NamedTuple):
    """Wants of one day."""

    wants: FloatArray
    """[U, T] wanted on the platform; 0 = not at all, 3 = very much."""
    elsewhere: FloatArray
    """[U, T] wanted in other shops."""
    prefers: FloatArray
    """[U, V] selling points that matter now."""
    phases: BoolArray
    """[U, P] phases of needs that the users are in."""


class Household:
    """What the users have acquired, here or elsewhere, and what that makes them want."""

    def __init__(self, supplied: FloatArray, called_for: FloatArray) -> None:
        self.supplied = supplied
        """[U, T] in [0, 1]: 1 = has it, wants no more."""
        self.called_for = called_for
        """[U, T] wanted because of an earlier purchase."""

    @classmethod
    def create_empty(cls, num_users: int, num_types: int) -> "Household":
        """Creates a household that owns nothing yet."""
        shape = num_users, num_types
        return cls(np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32))

    def pass_day(self, world: ShopWorld) -> None:
        """Lets a day go by."""
        self.called_for *= _FADE_PER_DAY
        self.supplied *= np.where(world.consumable, _CONSUMED_PER_DAY, np.float32(1))

    def record_purchases(self, users: IntArray, types: IntArray, world: ShopWorld) -> None:
        """Notes purchases, wherever they happened."""
        self.supplied[users, types] = 1
        np.maximum.at(self.called_for, users, world.follows[types])


def find_active_phases(spans: pl.DataFrame, day: float, num_users: int, num_phases: int) -> BoolArray:
    """Finds the phases each user is in on `day`, [U, P]; `spans` from `list_phase_spans`."""
    current_spans = spans.filter((pl.col("start_day") <= day) & (pl.col("end_day") > day))
    is_active = np.zeros((num_users, num_phases), dtype=np.bool_)
    is_active[current_spans["user"].to_numpy(), current_spans["phase"].to_numpy()] = True
    return is_active


def compute_daily_demand(
    population: Population, household: Household, is_active: BoolArray, world: ShopWorld
) -> DailyDemand:
    """Computes what users want in the phases of `is_active` [U, P], given what they own."""
    active_phases = is_active.astype(np.float32)
    needed_types = active_phases @ (world.phase_wants * (1 - world.phase_elsewhere))
    needed_elsewhere = active_phases @ (world.phase_wants * world.phase_elsewhere)
    lacking_share = 1 - household.supplied
    return DailyDemand(
        wants=(population.interests + needed_types + household.called_for) * lacking_share,
        elsewhere=needed_elsewhere * lacking_share,
        prefers=np.minimum(active_phases @ world.phase_prefers, 1),
        phases=is_active,
    )
