"""Which page a user opens, what they look for there, and on which device.

Shape letters: R visits, U users, T product types, P phases, Q queries, X = T + P + 1 intents.
"""

from typing import Final, NamedTuple

import numpy as np
import polars as pl

from contracts.array_types import BoolArray, FloatArray, IntArray
from contracts.tables import REQUEST_CONTEXT
from simulation.daily_demand import DailyDemand
from simulation.population import DEVICES, Population
from simulation.shop_world import ShopWorld

PAGE_SCENES: Final = ("home", "category", "search", "similar")
"""The scenes that the shop has."""
HOME, CATEGORY, SEARCH, SIMILAR = range(4)
NO_INTENT: Final = -1
"""Intent of a visit that looks for nothing in particular; it indexes the last row of `ShopWorld.focus`."""
SCENE_SHARES: Final = (0.43, 0.27, 0.23, 0.07)
"""Share of the pages in each scene: nearly half of the visitors look for nothing in particular."""
_USUAL_DEVICE_SHARE = 0.85
"""Share of the visits on the user's usual device; the others are on any."""
_SITUATION_SHARE = 0.35
"""Share of the searches that name the situation, where the wanted type belongs to one."""


class PageVisits(NamedTuple):
    """Pages being opened (R of them)."""

    users: IntArray
    """[R]"""
    scenes: IntArray
    """[R] index into `PAGE_SCENES`."""
    intents: IntArray
    """[R] product type looked for, or number of types + phase of the situation named, or `NO_INTENT`."""
    queries: IntArray
    """[R] query typed, -1 where the page is no search."""
    endings: IntArray
    """[R] what was added to the query."""
    devices: IntArray
    """[R] index into `DEVICES`."""
    seeds: IntArray
    """[R] item that the page is about, -1 where it is about none."""

    def select_visits(self, rows: IntArray | BoolArray | slice) -> "PageVisits":
        """Selects some of the visits."""
        return PageVisits(*(column[rows] for column in self))


def choose_pages(
    users: IntArray, demand: DailyDemand, population: Population, world: ShopWorld, rng: np.random.Generator
) -> PageVisits:
    """Draws the page that each of `users` [R] opens, without the seed items of `similar` pages.

    All pages but the home page are opened for something wanted. A searcher names the product, or the life
    situation that they want it for.
    """
    wanted_types = _draw_columns(np.square(demand.wants[users]), rng)
    scenes = rng.choice(len(PAGE_SCENES), size=len(users), p=SCENE_SHARES)
    intents = np.where(scenes == HOME, NO_INTENT, wanted_types)
    is_situation, phases = _draw_situations(users, wanted_types, demand, world, rng)
    intents = np.where((scenes == SEARCH) & is_situation, len(world.types) + phases, intents)
    luck = rng.random((2, len(users)))
    first_phrases = world.query_starts[intents]
    num_phrases = world.query_starts[intents + 1] - first_phrases
    queries = first_phrases + (luck[0] * num_phrases).astype(np.int64)
    # Who describes a situation adds nothing; the first ending is none.
    endings = np.where(is_situation, 0, (luck[1] * len(world.query_endings)).astype(np.int64))
    is_usual = rng.random(len(users)) < _USUAL_DEVICE_SHARE
    any_device = rng.integers(len(DEVICES), size=len(users))
    return PageVisits(
        users=users,
        scenes=scenes,
        intents=intents,
        queries=np.where(scenes == SEARCH, queries, -1),
        endings=np.where(scenes == SEARCH, endings, 0),
        devices=np.where(is_usual, population.devices[users], any_device),
        seeds=np.full(len(users), -1),
    )


def _draw_situations(
    users: IntArray, wanted_types: IntArray, demand: DailyDemand, world: ShopWorld, rng: np.random.Generator
) -> tuple[BoolArray, IntArray]:
    """Draws whether a searcher names a situation, and which phase they are in: [R] each."""
    phase_weights = demand.phases[users] * world.phase_wants[:, wanted_types].T
    phases = _draw_columns(phase_weights, rng)
    return (rng.random(len(users)) < _SITUATION_SHARE) & phase_weights.any(axis=1), phases


def _draw_columns(weights: FloatArray, rng: np.random.Generator) -> IntArray:
    """Draws one column a row by weight: [R]."""
    cumulated_weights = np.cumsum(weights, axis=1)
    thresholds = rng.random((len(weights), 1)) * cumulated_weights[:, -1:]
    # Rounding may let the last cumulated weight stay below the draw.
    columns = (cumulated_weights <= thresholds).sum(axis=1)
    return np.asarray(np.minimum(columns, weights.shape[1] - 1), dtype=np.int64)


def describe_contexts(visits: PageVisits, world: ShopWorld, item_ids: pl.Series) -> pl.DataFrame:
    """Tells the visits' contexts as a log does: the columns `REQUEST_CONTEXT`, one row a visit.

    `item_ids` [I] name the seed items.
    """
    categories = pl.Series([kind.category for kind in world.types])
    is_category = visits.scenes == CATEGORY
    is_search = visits.scenes == SEARCH
    indices = pl.DataFrame(
        {
            "type": np.where(is_category, visits.intents, 0),
            "query": np.where(is_search, visits.queries, 0),
            "ending": visits.endings,
            "seed": np.maximum(visits.seeds, 0),
        }
    )
    phrases = pl.Series(world.queries).gather(indices["query"])
    endings = pl.Series(world.query_endings).gather(indices["ending"])
    frame = pl.DataFrame(
        {
            "scene": pl.Series(PAGE_SCENES).gather(visits.scenes),
            "page_category": categories.gather(indices["type"]),
            # What is added stands before or after the phrase.
            "query": endings.str.split("{}").list.first() + phrases + endings.str.split("{}").list.last(),
            "device": pl.Series(DEVICES).gather(visits.devices),
            "is_category": is_category,
            "is_search": is_search,
            "seed_item_id": item_ids.gather(indices["seed"]),
            "has_seed": visits.seeds >= 0,
        }
    )
    return frame.select(
        "scene",
        pl.when("is_category").then("page_category").alias("page_category"),
        pl.when("is_search").then("query").alias("query"),
        pl.when("has_seed").then("seed_item_id").alias("seed_item_id"),
        "device",
    ).select(pl.col(column.name).cast(column.dtype) for column in REQUEST_CONTEXT)
