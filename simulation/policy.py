"""The logging policy: what the shop showed before there was a ranker. It sees the log, never the needs.

A page is drawn without replacement from a mixture of trailing popularity, chance and, on the home page,
the types a user clicked lately or, on a category page, that category and its department. In that order it is shown, so
likely items tend to stand higher.
"""

from typing import NamedTuple

import numpy as np

from simulation.catalogue import Catalogue
from simulation.world import Bools, Floats, Ints

_FADE_PER_DAY = np.float32(0.5 ** (1 / 10))
_TARGETED_SHARE = 0.75
_DEPARTMENT_SHARE = 0.3
_BLOCK_CELLS = 4_000_000


class Visits(NamedTuple):
    """Pages being opened (R of them)."""

    users: Ints
    """[R]"""
    opened: Ints
    """[R] product type whose category page was opened, -1 for the home page."""


class LoggingPolicy:
    """Trailing statistics of the log, kept as it grows (I items, U users, T types)."""

    def __init__(self, clicks: Floats, recent: Floats) -> None:
        self.clicks = clicks
        """[I] fading number of clicks."""
        self.recent = recent
        """[U, T] fading number of clicks on each type."""

    @classmethod
    def fresh(
        cls, num_users: int, catalogue: Catalogue, *, num_types: int, rng: np.random.Generator
    ) -> "LoggingPolicy":
        """A policy before the log's first day; older items start with a heavy-tailed popularity."""
        clicks = rng.pareto(1.1, len(catalogue.types)) * (catalogue.days <= 0)
        return cls(np.minimum(clicks, 200).astype(np.float32), np.zeros((num_users, num_types), dtype=np.float32))

    def pass_day(self) -> None:
        """Lets a day go by."""
        self.clicks *= _FADE_PER_DAY
        self.recent *= _FADE_PER_DAY

    def learn(self, users: Ints, items: Ints, catalogue: Catalogue) -> None:
        """Counts clicks."""
        np.add.at(self.clicks, items, np.float32(1))
        np.add.at(self.recent, (users, catalogue.types[items]), np.float32(1))

    def draw(
        self,
        visits: Visits,
        size: int,
        *,
        shown: Bools,
        exploration: float,
        catalogue: Catalogue,
        rng: np.random.Generator,
    ) -> Ints:
        """[R, size] items for each visit, best first, distinct; fewer columns when less can be `shown` [I]."""
        size = min(size, int(shown.sum()))
        num_visits = len(visits.users)
        if size == 0 or num_visits == 0:
            return np.empty((num_visits, size), dtype=np.int64)
        block = max(1, _BLOCK_CELLS // len(shown))
        starts = range(0, num_visits, block)
        blocks = [Visits(*(column[start : start + block] for column in visits)) for start in starts]
        weights = (self._weights(some, shown, exploration, catalogue) for some in blocks)
        return np.concatenate([_race(weight, size, rng) for weight in weights])

    def _weights(self, visits: Visits, shown: Bools, exploration: float, catalogue: Catalogue) -> Floats:
        """[R, I] probability of each item to be drawn first."""
        popular = _shares((self.clicks + 0.1) * shown)
        targeted = self._targeted(visits, shown, catalogue)
        known = _TARGETED_SHARE * targeted + (1 - _TARGETED_SHARE) * popular
        return np.asarray(exploration * _shares(shown) + (1 - exploration) * known, dtype=np.float32)

    def _targeted(self, visits: Visits, shown: Bools, catalogue: Catalogue) -> Floats:
        """[R, I] shares by the opened category, on the home page by the types clicked lately."""
        attractive = np.sqrt(1 + self.clicks) * shown
        type_sizes = np.bincount(catalogue.types, weights=shown, minlength=self.recent.shape[1])
        by_type = (self.recent[visits.users] / np.maximum(type_sizes, 1))[:, catalogue.types]
        opened = visits.opened[:, None]
        on_page = opened == catalogue.types
        in_department = catalogue.departments[opened] == catalogue.departments[catalogue.types]
        page = (1 - _DEPARTMENT_SHARE) * _shares(on_page * attractive)
        page = page + _DEPARTMENT_SHARE * _shares(in_department * attractive)
        return np.where(opened >= 0, page, _shares(by_type * attractive))


def _race(weights: Floats, size: int, rng: np.random.Generator) -> Ints:
    """[R, size] columns drawn without replacement by weight, in the order drawn.

    An exponential race, the Gumbel top-k trick without its logarithms (Efraimidis, Spirakis 2006).
    """
    tiny = np.finfo(np.float32).tiny
    keys = weights / np.maximum(rng.standard_exponential(weights.shape, dtype=np.float32), tiny)
    chosen = np.argpartition(-keys, size - 1, axis=1)[:, :size]
    order = np.argsort(-np.take_along_axis(keys, chosen, axis=1), axis=1)
    return np.take_along_axis(chosen, order, axis=1)


def _shares(weights: Floats | Bools) -> Floats:
    total = weights.sum(axis=-1, keepdims=True)
    return np.asarray(weights / np.maximum(total, 1e-12), dtype=np.float32)


def open_pages(users: Ints, wants: Floats, *, category_share: float, rng: np.random.Generator) -> Visits:
    """Lets users open the category page of something they want ([U, T] `wants`), or else the home page."""
    cumulated = np.cumsum(np.square(wants[users]), axis=1)
    drawn = (cumulated < rng.random((len(users), 1)) * cumulated[:, -1:]).sum(axis=1)
    opened = np.minimum(drawn, wants.shape[1] - 1)
    return Visits(users, np.where(rng.random(len(users)) < category_share, opened, -1))
