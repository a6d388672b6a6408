"""The logging policy: what the shop showed before there was a ranker. It sees the log, never the needs.

A page is drawn without replacement from a mixture of trailing popularity, chance and what the page is about.
On the home page these are the types that the user clicked lately, on a category page the category and its
department, on the page of an item its type, and in a search the items that share words with the query. In the
order drawn it is shown, so likely items tend to stand higher.

Shape letters: R visits, I items, A available items, K items on a page, U users, T product types.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from contracts.array_types import BoolArray, DoubleArray, FloatArray, IntArray
from simulation.catalogue import ShopCatalogue
from simulation.daily_demand import DailyDemand
from simulation.page_visits import CATEGORY, SEARCH, SIMILAR, PageVisits, choose_pages
from simulation.simulated_shop import SimulatedShop

_FADE_PER_DAY = np.float32(0.5 ** (1 / 10))
_POPULARITY_TAIL = 1.1
"""Exponent of the Pareto law by which clicks are spread before the log: near one, few items have most."""
_USUAL_CTR = 0.05
_UNKNOWN_APPEAL = np.float32(0.1)
"""Clicks that an item without any counts as having."""
_TARGETED_SHARE = np.float32(0.75)
_DEPARTMENT_SHARE = np.float32(0.3)
_SEED_FACTOR = np.float32(1e-4)
"""An item is shown beside itself only where there is nothing else."""
_MATCH_POWER = 4
"""Who shares two rare words with the query stands far above who shares one common word."""
_BLOCK_CELLS = 4_000_000
"""Weights computed at a time: they bound the memory."""


class DrawnPages(NamedTuple):
    """Pages as the policy filled them, best first."""

    items: IntArray
    """[R, K]"""
    propensities: FloatArray
    """[R, K] probability with which the item was drawn at its position, given those drawn before it."""


class LoggingPolicy:
    """Trailing statistics of the log, kept as it grows."""

    def __init__(
        self, *, clicks: FloatArray, recent: FloatArray, impressions: IntArray, pages: IntArray
    ) -> None:
        self.clicks = clicks
        """[I] fading number of clicks."""
        self.recent = recent
        """[U, T] fading number of clicks on each type."""
        self.impressions = impressions
        """[I] times shown so far; the policy does not read it, evaluations do."""
        self.pages = pages
        """[U] pages opened so far; the policy does not read it, evaluations do."""

    @classmethod
    def start_policy(cls, shop: SimulatedShop, rng: np.random.Generator) -> "LoggingPolicy":
        """Starts a policy before the log's first day; older items have a heavy-tailed popularity."""
        catalogue, population = shop.catalogue, shop.population
        num_users = len(population.user_ids)
        # As many clicks as a shop of this size has had in the time that is remembered.
        daily_pages = population.activity[population.first_days <= 0].sum()
        num_clicks = _USUAL_CTR * shop.config.page_size * daily_pages / (1 - _FADE_PER_DAY)
        # A few items have most of the clicks; capped, so that they do not crowd out all others.
        popularity = np.minimum(rng.pareto(_POPULARITY_TAIL, len(catalogue.types)), 200)
        popularity *= catalogue.days <= 0
        clicks = popularity * num_clicks / max(popularity.sum(), 1e-12)
        return cls(
            clicks=clicks.astype(np.float32),
            recent=np.zeros((num_users, len(shop.world.types)), dtype=np.float32),
            impressions=np.zeros(len(catalogue.types), dtype=np.int64),
            pages=np.zeros(num_users, dtype=np.int64),
        )

    def pass_day(self) -> None:
        """Lets a day go by."""
        self.clicks *= _FADE_PER_DAY
        self.recent *= _FADE_PER_DAY

    def count_pages(self, users: IntArray, items: IntArray) -> None:
        """Counts what was shown: `users` [R], `items` [R, K], -1 where a place is empty."""
        np.add.at(self.pages, users, 1)
        self.impressions += np.bincount(items[items >= 0], minlength=len(self.impressions))

    def count_clicks(self, users: IntArray, items: IntArray, catalogue: ShopCatalogue) -> None:
        """Counts clicks."""
        np.add.at(self.clicks, items, np.float32(1))
        np.add.at(self.recent, (users, catalogue.types[items]), np.float32(1))

    def open_pages(
        self,
        users: IntArray,
        demand: DailyDemand,
        *,
        is_available: BoolArray,
        shop: SimulatedShop,
        rng: np.random.Generator,
    ) -> PageVisits:
        """Draws the page that each of `users` [R] opens; a `similar` page is about an item that is wanted."""
        visits = choose_pages(users, demand, shop.population, shop.world, rng)
        items = np.flatnonzero(is_available)
        items = items[np.argsort(shop.catalogue.types[items], kind="stable")]
        types = shop.catalogue.types[items]
        cumulated_appeal = np.cumsum(self.clicks[items] + _UNKNOWN_APPEAL, dtype=np.float64)
        # Items of a type lie side by side: a point in their stretch of the sum picks one by its appeal.
        ends = np.append(0, cumulated_appeal)
        firsts, lasts = (np.searchsorted(types, visits.intents, side) for side in ("left", "right"))
        points = ends[firsts] + rng.random(len(users)) * (ends[lasts] - ends[firsts])
        picks = np.minimum(np.searchsorted(cumulated_appeal, points, side="right"), lasts - 1)
        has_seed = (visits.scenes == SIMILAR) & (firsts < lasts)
        # Where the shop has no such item, there is no page of one to open.
        scenes = np.where((visits.scenes == SIMILAR) & ~has_seed, CATEGORY, visits.scenes)
        return visits._replace(scenes=scenes, seeds=np.where(has_seed, np.append(items, -1)[picks], -1))

    def draw_page_items(
        self,
        visits: PageVisits,
        size: int,
        *,
        is_available: BoolArray,
        exploration: float,
        shop: SimulatedShop,
        rng: np.random.Generator,
    ) -> DrawnPages:
        """Draws distinct items for each visit, less than `size` where fewer are available."""
        available_items = np.flatnonzero(is_available)
        size = min(size, len(available_items))
        num_visits = len(visits.users)
        items = np.empty((num_visits, size), dtype=np.int64)
        propensities = np.empty((num_visits, size), dtype=np.float32)
        for rows in _list_blocks(num_visits, len(available_items)) if size else ():
            weights = self._weigh_items(visits.select_visits(rows), available_items, exploration, shop)
            columns = draw_without_replacement(weights, size, rng)
            items[rows] = available_items[columns]
            propensities[rows] = compute_draw_propensities(weights, columns)
        return DrawnPages(items, propensities)

    def _weigh_items(
        self, visits: PageVisits, available_items: IntArray, exploration: float, shop: SimulatedShop
    ) -> FloatArray:
        """Computes weights by which each available item is drawn first, [R, A]; a row sums to about 1."""
        popularity_weights = _normalize_weights(self.clicks[available_items] + _UNKNOWN_APPEAL)
        exploration_share = np.float32(exploration)
        weights = self._target_items(visits, available_items, shop)
        weights *= (1 - exploration_share) * _TARGETED_SHARE
        weights += (1 - exploration_share) * (1 - _TARGETED_SHARE) * popularity_weights
        weights += exploration_share / len(available_items)
        # The item that the page is about stands on it already.
        rows = np.flatnonzero(visits.seeds >= 0)
        weights[rows, np.searchsorted(available_items, visits.seeds[rows])] *= _SEED_FACTOR
        return weights

    def _target_items(self, visits: PageVisits, available_items: IntArray, shop: SimulatedShop) -> FloatArray:
        """Weighs items by what the page is about, [R, A]; a row sums to 1, or 0 where nothing fits."""
        item_appeal = self.clicks[available_items] + _UNKNOWN_APPEAL
        types = shop.catalogue.types[available_items]
        weights = np.empty((len(visits.users), len(available_items)), dtype=np.float32)
        is_search = visits.scenes == SEARCH
        type_weights = self._weigh_types(visits.select_visits(~is_search), types, item_appeal, shop.catalogue)
        weights[~is_search] = type_weights[:, types] * item_appeal
        matches = shop.query_match[visits.queries[is_search]][:, available_items]
        weights[is_search] = _normalize_weights(matches**_MATCH_POWER * item_appeal)
        return weights

    def _weigh_types(
        self, visits: PageVisits, types: IntArray, item_appeal: FloatArray, catalogue: ShopCatalogue
    ) -> FloatArray:
        """Computes the factor of a type's items on home and category pages: [R, T]."""
        num_types = self.recent.shape[1]
        type_appeal = np.bincount(types, weights=item_appeal, minlength=num_types).astype(np.float32)
        type_sizes = np.maximum(np.bincount(types, minlength=num_types), 1).astype(np.float32)
        opened_types = visits.intents[:, None]
        is_on_page = opened_types == np.arange(num_types)
        is_in_department = catalogue.departments[opened_types] == catalogue.departments
        recent = np.asarray(self.recent[visits.users] / type_sizes, dtype=np.float32)
        category_weights = (1 - _DEPARTMENT_SHARE) * _normalize_weights(is_on_page, type_appeal)
        category_weights += _DEPARTMENT_SHARE * _normalize_weights(is_in_department, type_appeal)
        is_category = np.isin(visits.scenes, (CATEGORY, SIMILAR))[:, None]
        return np.where(is_category, category_weights, _normalize_weights(recent, type_appeal))


def draw_without_replacement(weights: FloatArray, size: int, rng: np.random.Generator) -> IntArray:
    """Draws columns without replacement by weight, in the order drawn: [R, size].

    An exponential race, the Gumbel top-k trick without its logarithms (Efraimidis, Spirakis 2006).
    """
    smallest_float = np.finfo(np.float32).tiny
    race_keys = rng.standard_exponential(weights.shape, dtype=np.float32)
    np.maximum(race_keys, smallest_float, out=race_keys)
    np.divide(weights, race_keys, out=race_keys)
    first = race_keys.shape[1] - size
    chosen_columns = np.argpartition(race_keys, first, axis=1)[:, first:]
    chosen_order = np.argsort(-np.take_along_axis(race_keys, chosen_columns, axis=1), axis=1)
    return np.take_along_axis(chosen_columns, chosen_order, axis=1)


def compute_draw_propensities(weights: FloatArray, columns: IntArray) -> FloatArray:
    """Computes the exact probability of each draw, given the earlier draws of its row: [R, K].

    In an exponential race the next to arrive is each of the remaining with a probability proportional to
    its weight (Plackett 1975; Luce 1959).
    """
    drawn_weights: DoubleArray = np.take_along_axis(weights, columns, axis=1).astype(np.float64)
    total_weights = weights.sum(axis=1, dtype=np.float64, keepdims=True)
    remaining_weights = total_weights - np.cumsum(drawn_weights, axis=1) + drawn_weights
    # Rounding must not make the last item of a small catalogue likelier than certain.
    return np.asarray(drawn_weights / np.maximum(remaining_weights, drawn_weights), dtype=np.float32)


def _list_blocks(num_visits: int, num_items: int) -> Iterator[slice]:
    block_visits = max(1, _BLOCK_CELLS // num_items)
    for start in range(0, num_visits, block_visits):
        yield slice(start, start + block_visits)


def _normalize_weights(weights: FloatArray | BoolArray, sizes: FloatArray | None = None) -> FloatArray:
    """Divides rows by their sum, where each column counts `sizes` times."""
    total_weights = weights.sum(axis=-1, keepdims=True) if sizes is None else (weights @ sizes)[..., None]
    return np.asarray(weights / np.maximum(total_weights, np.float32(1e-12)), dtype=np.float32)
