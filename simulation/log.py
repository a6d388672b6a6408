"""The days of the log: users act elsewhere, open pages, click and order; every day changes the next.

Shape letters: R requests of a day, K items on a page, U users, I items, T product types.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl

from simulation.catalogue import Catalogue, available
from simulation.choice import Reaction, affinity, react
from simulation.config import SimulationConfig
from simulation.demand import Demand, Household, active_phases, demand_on
from simulation.policy import LoggingPolicy, open_pages
from simulation.population import Population, phase_spans
from simulation.world import Bools, Doubles, Ints, World

DAY_S = 86_400


class Pages(NamedTuple):
    """What was shown in a day and what came of it."""

    users: Ints
    """[R]"""
    seconds: Doubles
    """[R] time of day, seconds."""
    items: Ints
    """[R, K]"""
    reaction: Reaction
    """[R, K] each."""
    delays: Doubles
    """[3, R, K] seconds from page to click, click to cart, cart to order."""


class Elsewhere(NamedTuple):
    """Purchases in other shops in a day; `items` is the closest thing in this catalogue."""

    users: Ints
    items: Ints
    seconds: Doubles


@dataclass
class ShopState:
    """Everything that a day leaves to the next."""

    household: Household
    policy: LoggingPolicy


class SimulatedLog(NamedTuple):
    """The whole log, in indices (not ids), and the state at its end."""

    pages: list[Pages]
    elsewhere: list[Elsewhere]
    state: ShopState


def simulate_log(
    config: SimulationConfig, world: World, catalogue: Catalogue, population: Population, rng: np.random.Generator
) -> SimulatedLog:
    """Lives through `config.num_days` days."""
    spans = phase_spans(population, world)
    num_users, num_types = len(population.user_ids), len(world.types)
    policy = LoggingPolicy.fresh(num_users, catalogue=catalogue, num_types=num_types, rng=rng)
    state = ShopState(Household.empty(num_users, num_types), policy)
    pages: list[Pages] = []
    elsewhere: list[Elsewhere] = []
    for day in range(config.num_days):
        active = active_phases(spans, day, num_users, len(world.phase_days))
        demand = demand_on(population, state.household, active, world)
        elsewhere.append(_buy_elsewhere(config, demand, catalogue, rng))
        pages.append(_open_pages(config, day, demand, state, catalogue, population, rng))
        _remember(pages[-1], elsewhere[-1], state, catalogue, world)
    return SimulatedLog(pages, elsewhere, state)


def _buy_elsewhere(
    config: SimulationConfig, demand: Demand, catalogue: Catalogue, rng: np.random.Generator
) -> Elsewhere:
    bought = rng.random(demand.elsewhere.shape, dtype=np.float32) < config.elsewhere_rate * demand.elsewhere
    users, types = np.nonzero(bought & np.isin(np.arange(bought.shape[1]), catalogue.types))
    by_type = np.argsort(catalogue.types, kind="stable")
    starts = np.searchsorted(catalogue.types[by_type], types)
    ends = np.searchsorted(catalogue.types[by_type], types, side="right")
    items = by_type[rng.integers(starts, ends)] if len(users) else np.empty(0, dtype=np.int64)
    return Elsewhere(users, items, rng.uniform(8 * 3600, 21 * 3600, len(users)))


def _open_pages(
    config: SimulationConfig,
    day: int,
    demand: Demand,
    state: ShopState,
    catalogue: Catalogue,
    population: Population,
    rng: np.random.Generator,
) -> Pages:
    present = population.first_days <= day
    users = np.repeat(np.arange(len(present)), rng.poisson(population.activity * present))
    shown = available(catalogue, day)
    visits = open_pages(users, demand.wants, category_share=config.category_share, rng=rng)
    items = state.policy.draw(
        visits, config.page_size, shown=shown, exploration=config.exploration, catalogue=catalogue, rng=rng
    )
    attraction = affinity(users[:, None], items, demand=demand, population=population, catalogue=catalogue)
    luck = rng.random((3, *items.shape), dtype=np.float32)
    reaction = react(attraction, np.arange(items.shape[1]), luck)
    delays = rng.exponential(1, (3, *items.shape)) * np.array([40, 60, 150])[:, None, None] + 1
    seconds = (6 + 17.5 * rng.beta(3, 2, len(users))) * 3600
    return Pages(users, seconds, items, reaction, np.minimum(delays, 550))


def _remember(pages: Pages, elsewhere: Elsewhere, state: ShopState, catalogue: Catalogue, world: World) -> None:
    state.household.pass_day(world)
    state.policy.pass_day()
    clicked_rows, clicked_slots = np.nonzero(pages.reaction.click)
    state.policy.learn(pages.users[clicked_rows], pages.items[clicked_rows, clicked_slots], catalogue)
    ordered_rows, ordered_slots = np.nonzero(pages.reaction.order)
    ordered = pages.items[ordered_rows, ordered_slots]
    state.household.acquire(pages.users[ordered_rows], catalogue.types[ordered], world)
    state.household.acquire(elsewhere.users, catalogue.types[elsewhere.items], world)


def events_frame(
    log: SimulatedLog, config: SimulationConfig, catalogue: Catalogue, population: Population
) -> pl.DataFrame:
    """The log as contract EVENTS, sorted by time."""
    days: list[pl.DataFrame] = []
    first_request = 0
    for day, pages in enumerate(log.pages):
        days.append(_day_events(pages, day, first_request))
        first_request += len(pages.users)
    indexed = pl.concat(days)
    user_ids = pl.Series(population.user_ids, dtype=pl.String)
    item = catalogue.items.select("item_id", "price")
    requests = pl.format("r{}", pl.col("request").cast(pl.String).str.zfill(8))
    return indexed.select(
        user_id=user_ids.gather(indexed["user"]),
        timestamp=pl.lit(config.start) + pl.duration(microseconds=pl.col("us")),
        item_id=item["item_id"].gather(indexed["item"]),
        event_type=pl.col("event_type"),
        price=item["price"].gather(indexed["item"]),
        quantity=pl.when(pl.col("event_type") == "order").then(pl.lit(1, dtype=pl.Int32)),
        request_id=requests,
        position=pl.col("position").cast(pl.Int32),
        arm=pl.lit(None, dtype=pl.String),
    ).sort("timestamp", "user_id", "item_id")


def _day_events(pages: Pages, day: int, first_request: int) -> pl.DataFrame:
    clicked = pages.seconds[:, None] + pages.delays[0]
    carted = clicked + pages.delays[1]
    shown = np.ones(pages.items.shape, dtype=np.bool_)
    at_page = np.broadcast_to(pages.seconds[:, None], pages.items.shape)
    kinds = (
        ("impression", shown, at_page),
        ("click", pages.reaction.click, clicked),
        ("cart", pages.reaction.cart, carted),
        ("order", pages.reaction.order, carted + pages.delays[2]),
    )
    return pl.concat([_kind_events(pages, day, first_request, *kind) for kind in kinds])


def _kind_events(
    pages: Pages, day: int, first_request: int, event_type: str, happened: Bools, seconds: Doubles
) -> pl.DataFrame:
    rows, slots = np.nonzero(happened)
    return pl.DataFrame(
        {
            "user": pages.users[rows],
            "item": pages.items[rows, slots],
            "us": np.round((day * DAY_S + seconds[rows, slots]) * 1e6).astype(np.int64),
            "request": first_request + rows,
            "position": slots,
        }
    ).with_columns(event_type=pl.lit(event_type))
