"""The days of the log: users act elsewhere, open pages, click and order. Every day changes the next.

Shape letters: R requests of a day, K items on a page, U users, I items, T product types.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from contracts.array_types import DoubleArray, IntArray
from contracts.tables import EVENTS
from simulation.catalogue import ShopCatalogue
from simulation.daily_demand import DailyDemand, Household, compute_daily_demand, find_active_phases
from simulation.logging_policy import DrawnPages, LoggingPolicy
from simulation.page_visits import PageVisits, describe_contexts
from simulation.population import list_phase_spans
from simulation.simulated_shop import SimulatedShop
from simulation.user_choice import Reaction, compute_affinity, draw_reaction, list_examination_powers

DAY_S = 86_400
MEAN_ACT_DELAYS_S = np.array([40, 60, 150])
"""Seconds from page to click, from there to the cart, from there to the order."""
MAX_ACT_DELAY_S = 550
_ELSEWHERE_RATE = 0.015
"""Purchases a day in other shops, for a type wanted with weight 1 and bought only elsewhere."""


class DayPages(NamedTuple):
    """What was shown in a day and what came of it."""

    visits: PageVisits
    """R of them."""
    seconds: DoubleArray
    """[R] time of day, seconds."""
    shown: DrawnPages
    """[R, K] each; item -1 is an empty place, propensity NaN is not known."""
    reaction: Reaction
    """[R, K] each."""
    delays: DoubleArray
    """[3, R, K] seconds from page to click, click to cart, cart to order."""


class ElsewherePurchases(NamedTuple):
    """Purchases in other shops in a day; `items` is the closest thing in this catalogue."""

    users: IntArray
    items: IntArray
    seconds: DoubleArray


@dataclass
class ShopState:
    """Everything that a day leaves to the next."""

    household: Household
    policy: LoggingPolicy

    def list_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Lists all that is in it, by name, for `from_arrays`."""
        return {**vars(self.household), **vars(self.policy)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> "ShopState":
        """Makes the state that `list_arrays` listed; other names are left out."""
        household = {name: arrays[name] for name in ("supplied", "called_for")}
        policy = {name: arrays[name] for name in ("clicks", "recent", "impressions", "pages")}
        return cls(Household(**household), LoggingPolicy(**policy))


class SimulatedLog(NamedTuple):
    """The whole log, in indices (not ids), and the state at its end."""

    pages: list[DayPages]
    elsewhere: list[ElsewherePurchases]
    state: ShopState


def simulate_log(shop: SimulatedShop, rng: np.random.Generator) -> SimulatedLog:
    """Lives through the days of the log."""
    config, world, catalogue, population = shop.config, shop.world, shop.catalogue, shop.population
    phase_spans = list_phase_spans(population, world)
    num_users, num_types = len(population.user_ids), len(world.types)
    policy = LoggingPolicy.start_policy(shop, rng)
    state = ShopState(Household.create_empty(num_users, num_types), policy)
    all_pages: list[DayPages] = []
    all_elsewhere: list[ElsewherePurchases] = []
    for day in range(config.num_days):
        is_active = find_active_phases(phase_spans, day, num_users, len(world.phase_days))
        demand = compute_daily_demand(population, state.household, is_active, world)
        all_elsewhere.append(buy_elsewhere(demand, catalogue, rng))
        all_pages.append(_open_day_pages(shop, day, demand, state.policy, rng))
        # What was shown and bought today is known to policy and household from tomorrow on.
        update_state(state, all_pages[-1], all_elsewhere[-1], shop)
    return SimulatedLog(all_pages, all_elsewhere, state)


def buy_elsewhere(
    demand: DailyDemand, catalogue: ShopCatalogue, rng: np.random.Generator, before_day: float = np.inf
) -> ElsewherePurchases:
    """Draws a day's purchases in other shops, told as items that this one has or had before `before_day`."""
    is_bought = rng.random(demand.elsewhere.shape, dtype=np.float32) < _ELSEWHERE_RATE * demand.elsewhere
    listed_items = np.flatnonzero(catalogue.days < before_day)
    listed_types = catalogue.types[listed_items]
    users, types = np.nonzero(is_bought & np.isin(np.arange(is_bought.shape[1]), listed_types))
    # Any item of the bought type stands for what was bought in the other shop.
    order = np.argsort(listed_types, kind="stable")
    type_starts = np.searchsorted(listed_types[order], types)
    type_ends = np.searchsorted(listed_types[order], types, side="right")
    picks = rng.integers(type_starts, type_ends) if len(users) else np.empty(0, dtype=np.int64)
    return ElsewherePurchases(users, listed_items[order[picks]], rng.uniform(8 * 3600, 21 * 3600, len(users)))


def _open_day_pages(
    shop: SimulatedShop, day: int, demand: DailyDemand, policy: LoggingPolicy, rng: np.random.Generator
) -> DayPages:
    config, catalogue, population = shop.config, shop.catalogue, shop.population
    is_present = population.first_days <= day
    users = np.repeat(np.arange(len(is_present)), rng.poisson(population.activity * is_present))
    is_available = catalogue.days <= day
    visits = policy.open_pages(users, demand, is_available=is_available, shop=shop, rng=rng)
    shown = policy.draw_page_items(
        visits,
        config.page_size,
        is_available=is_available,
        exploration=config.exploration,
        shop=shop,
        rng=rng,
    )
    page_shape = shown.items.shape
    affinities = compute_affinity(visits, shown.items, demand, shop)
    uniform_luck = rng.random((3, *page_shape), dtype=np.float32)
    powers = list_examination_powers(visits)
    reaction = draw_reaction(affinities, np.arange(page_shape[1]), uniform_luck, powers)
    delays = draw_act_delays(page_shape, rng)
    return DayPages(visits, draw_day_seconds(len(users), rng), shown, reaction, delays)


def draw_act_delays(page_shape: tuple[int, ...], rng: np.random.Generator) -> DoubleArray:
    """Draws the seconds from page to click, click to cart, cart to order: [3, *page_shape]."""
    mean_seconds = MEAN_ACT_DELAYS_S.reshape(3, *(1 for _ in page_shape))
    delays = rng.exponential(1, (3, *page_shape)) * mean_seconds + 1
    return np.asarray(np.minimum(delays, MAX_ACT_DELAY_S))


def draw_day_seconds(num_visits: int, rng: np.random.Generator) -> DoubleArray:
    """Draws times of day [R]: between 6:00 and 23:30, so that an order falls on the same day."""
    return np.asarray((6 + 17.5 * rng.beta(3, 2, num_visits)) * 3600)


def update_state(
    state: ShopState, pages: DayPages, elsewhere: ElsewherePurchases, shop: SimulatedShop
) -> None:
    """Lets what was shown, clicked and bought in a day be known to policy and household."""
    world, catalogue = shop.world, shop.catalogue
    state.household.pass_day(world)
    state.policy.pass_day()
    users, items = pages.visits.users, pages.shown.items
    state.policy.count_pages(users, items)
    clicked_rows, clicked_slots = np.nonzero(pages.reaction.click)
    state.policy.count_clicks(users[clicked_rows], items[clicked_rows, clicked_slots], catalogue)
    ordered_rows, ordered_slots = np.nonzero(pages.reaction.order)
    ordered_types = catalogue.types[items[ordered_rows, ordered_slots]]
    state.household.record_purchases(users[ordered_rows], ordered_types, world)
    state.household.record_purchases(elsewhere.users, catalogue.types[elsewhere.items], world)


def build_event_table(log: SimulatedLog, shop: SimulatedShop) -> pl.DataFrame:
    """Builds the log as contract EVENTS, sorted by time.

    Impressions tell the context of their request, and their propensity. Other events name the request.
    """
    first_requests = np.cumsum([0, *(len(pages.visits.users) for pages in log.pages)])
    day_frames = [
        list_page_events(pages, shop, day=day, first_request=first)
        for day, (pages, first) in enumerate(zip(log.pages, first_requests, strict=False))
    ]
    # Ids are made day by day: the log of a large shop has many of them.
    return pl.concat(day_frames).sort("timestamp", "user_id", "item_id")


def list_page_events(pages: DayPages, shop: SimulatedShop, *, day: int, first_request: int) -> pl.DataFrame:
    """Lists what happened on a day's pages as contract EVENTS; requests are numbered from `first_request`."""
    indexed_events = _index_page_events(pages, day)
    user_ids = pl.Series(shop.population.user_ids, dtype=pl.String)
    items = shop.catalogue.items.select("item_id", "price")
    is_impression = pl.col("event_type") == "impression"
    contexts = describe_contexts(pages.visits, shop.world, items["item_id"])[indexed_events["row"]]
    events = indexed_events.select(
        user_id=user_ids.gather(indexed_events["user"]),
        timestamp=pl.lit(shop.config.start) + pl.duration(microseconds=pl.col("us")),
        item_id=items["item_id"].gather(indexed_events["item"]),
        event_type=pl.col("event_type"),
        price=items["price"].gather(indexed_events["item"]),
        quantity=pl.when(pl.col("event_type") == "order").then(1),
        request_id=name_requests(pl.col("row") + first_request),
        position=pl.col("position"),
        **{name: pl.when(is_impression).then(contexts[name]) for name in contexts.columns},
        propensity=pl.when(is_impression).then(pl.col("propensity").fill_nan(None)),
    )
    return select_event_columns(events)


def select_event_columns(events: pl.DataFrame) -> pl.DataFrame:
    """Selects the columns of EVENTS; those that the shop knows nothing of, such as the arm, are null."""
    return events.select(
        pl.col(name).cast(dtype) if name in events.columns else pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in EVENTS.schema.items()
    )


def name_requests(numbers: pl.Expr) -> pl.Expr:
    """Names requests by their number in the shop's life."""
    return pl.format("r{}", numbers.cast(pl.String).str.zfill(8))


def name_request(number: int) -> str:
    """Names one request as `name_requests` does."""
    return f"r{number:08d}"


def _index_page_events(pages: DayPages, day: int) -> pl.DataFrame:
    click_seconds = pages.seconds[:, None] + pages.delays[0]
    cart_seconds = click_seconds + pages.delays[1]
    items, propensities = pages.shown
    event_kinds = {
        "impression": (items >= 0, np.broadcast_to(pages.seconds[:, None], items.shape)),
        "click": (pages.reaction.click, click_seconds),
        "cart": (pages.reaction.cart, cart_seconds),
        "order": (pages.reaction.order, cart_seconds + pages.delays[2]),
    }
    kind_frames = []
    for event_type, (has_happened, seconds) in event_kinds.items():
        rows, slots = np.nonzero(has_happened)
        columns = {
            "row": rows,
            "user": pages.visits.users[rows],
            "item": items[rows, slots],
            "us": np.round((day * DAY_S + seconds[rows, slots]) * 1e6).astype(np.int64),
            "position": slots,
            "propensity": propensities[rows, slots],
        }
        kind_frames.append(pl.DataFrame(columns).with_columns(event_type=pl.lit(event_type)))
    return pl.concat(kind_frames)
