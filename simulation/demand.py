"""What every user wants today: lasting interests, the phases of the needs, and what earlier purchases call for.

Shape letters: U users, T product types, P phases, V selling points. Nothing here knows how items are ranked.
"""

from typing import NamedTuple

import numpy as np
import polars as pl

from simulation.population import Population
from simulation.world import Bools, Floats, Ints, World

_FADE_PER_DAY = np.float32(0.5 ** (1 / 12))
"""What a purchase calls for is forgotten by half in twelve days."""
_CONSUMED_PER_DAY = np.float32(0.5 ** (1 / 8))
"""A consumable is wanted again, by half, after eight days."""


class Demand(NamedTuple):
    """Wants of one day."""

    wants: Floats
    """[U, T] wanted on the platform; 0 = not at all, 3 = very much."""
    elsewhere: Floats
    """[U, T] wanted in other shops."""
    prefers: Floats
    """[U, V] selling points that matter now."""


class Household:
    """What the users have acquired, here or elsewhere, and what that makes them want."""

    def __init__(self, supplied: Floats, called_for: Floats) -> None:
        self.supplied = supplied
        """[U, T] in [0, 1]: 1 = has it, wants no more."""
        self.called_for = called_for
        """[U, T] wanted because of an earlier purchase."""

    @classmethod
    def empty(cls, num_users: int, num_types: int) -> "Household":
        """A household that owns nothing yet."""
        shape = num_users, num_types
        return cls(np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32))

    def pass_day(self, world: World) -> None:
        """Lets a day go by."""
        self.called_for *= _FADE_PER_DAY
        self.supplied *= np.where(world.consumable, _CONSUMED_PER_DAY, np.float32(1))

    def acquire(self, users: Ints, types: Ints, world: World) -> None:
        """Notes purchases, wherever they happened."""
        self.supplied[users, types] = 1
        np.maximum.at(self.called_for, users, world.follows[types])


def active_phases(spans: pl.DataFrame, day: float, num_users: int, num_phases: int) -> Bools:
    """[U, P] the phases each user is in on `day`; `spans` from `population.phase_spans`."""
    now = spans.filter((pl.col("start_day") <= day) & (pl.col("end_day") > day))
    active = np.zeros((num_users, num_phases), dtype=np.bool_)
    active[now["user"].to_numpy(), now["phase"].to_numpy()] = True
    return active


def demand_on(population: Population, household: Household, active: Bools, world: World) -> Demand:
    """The wants of users in the phases `active` [U, P], given what they own."""
    phases = active.astype(np.float32)
    needed = phases @ (world.phase_wants * (1 - world.phase_elsewhere))
    elsewhere = phases @ (world.phase_wants * world.phase_elsewhere)
    lacking = 1 - household.supplied
    return Demand(
        wants=(population.interests + needed + household.called_for) * lacking,
        elsewhere=elsewhere * lacking,
        prefers=np.minimum(phases @ world.phase_prefers, 1),
    )
