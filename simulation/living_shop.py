"""A written shop lives on: each day its visitors ask for rankings, and what they get changes tomorrow.

shop = LivingShop.open_shop(folder, LivingShopConfig())
while shop.day < last_day:
    day = shop.open_day()
    rankings = {request.request_id: rank(request) for request in day.requests}
    result = shop.close_day(day, locate_slots(day.batch, rankings, page_size))
    shop.save_state(state_file)

`open_day` and `list_page_reactions` change nothing, so a loop that was killed goes on from its last save.
Visits, candidates' luck and reactions' luck are drawn from the seed, the day, the request and the item, never
from what was ranked. So two rankers with the same seed meet the same people, and only what these bought and
clicked differs.

Shape letters: R requests of a day, C candidates, K places of a page, U users, I items.
"""

import json
import os
from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from contracts.array_types import BoolArray, DoubleArray, FloatArray, IntArray
from contracts.artifacts import read_lineage
from contracts.errors import UserError
from simulation.config import LivingShopConfig
from simulation.daily_demand import DailyDemand, compute_daily_demand, find_active_phases
from simulation.later_days.page_reactions import PageReactions, draw_page_reactions
from simulation.later_days.pending_acts import PendingActs
from simulation.page_visits import PageVisits
from simulation.population import list_phase_spans
from simulation.request_batches import draw_request_batch, list_request_contexts
from simulation.simulate_log import (
    DayPages,
    ShopState,
    buy_elsewhere,
    draw_day_seconds,
    list_page_events,
    name_request,
    update_state,
)
from simulation.simulated_shop import SimulatedShop
from simulation.simulated_traffic import TrafficRequest
from simulation.true_outcomes import RequestBatch, locate_slots
from simulation.write_shop import read_shop_state

_STREAMS = ("visits", "pages", "candidates", "shuffle", "elsewhere", "times", "bots")
_BOT_ACTIVITY = 10
"""A bot opens so many times the pages of the user whose place it takes."""


class LivingDay(NamedTuple):
    """A day that has been opened."""

    day: int
    """Days since the start of the log."""
    requests: tuple[TrafficRequest, ...]
    """R visits in order of time, each with its candidates in an order that tells nothing."""
    batch: RequestBatch
    """The same requests, for `simulation.true_outcomes`."""
    is_bot: BoolArray
    """[R] does a bot ask? Leave these out of evaluations."""
    arrivals: pl.DataFrame
    """Late orders and returns of earlier pages that come on this day: the columns of EVENTS."""
    seconds: DoubleArray
    """[R] time of day."""
    demand: DailyDemand


class DayResult(NamedTuple):
    """What came of a day."""

    events: pl.DataFrame
    """Contract EVENTS: impressions, clicks, carts, and orders that came at once."""
    num_clicks: int
    """Those of bots too."""
    num_orders: int
    """Orders placed on this day's pages, late ones too."""
    gmv: float
    """Of these orders, before returns."""


class LivingShop:
    """A shop after its log, one day at a time."""

    def __init__(
        self, shop: SimulatedShop, state: ShopState, config: LivingShopConfig, *, shop_digest: str, day: int
    ) -> None:
        self._shop, self._state, self._config = shop, state, config
        self._shop_digest = shop_digest
        self._pending = PendingActs.create_empty()
        self._day = day

    @classmethod
    def open_shop(cls, folder: Path, config: LivingShopConfig) -> "LivingShop":
        """Opens the shop that `simulation.write_shop.write_shop` wrote, on the day after its log.

        Raises:
            UserError: `folder` is not a simulated shop.
        """
        shop, state = read_shop_state(folder)
        return cls(shop, state, config, shop_digest=read_lineage(folder).digest, day=shop.config.num_days)

    @classmethod
    def resume_shop(cls, folder: Path, config: LivingShopConfig, state_file: Path) -> "LivingShop":
        """Opens a shop in the state that `save_state` saved.

        Raises:
            UserError: the state is of another shop, or of another configuration.
        """
        living_shop = cls.open_shop(folder, config)
        with np.load(state_file, allow_pickle=False) as stored:
            arrays = dict(stored)
        if str(arrays["origin"]) != living_shop._describe_origin():
            raise UserError(
                f"{state_file} is the state of another shop or configuration than {folder}; "
                "remove it, or give the shop and configuration that it was saved with"
            )
        living_shop._state = ShopState.from_arrays(arrays)
        living_shop._pending = PendingActs(*(arrays[f"pending_{name}"] for name in PendingActs._fields))
        living_shop._day = int(arrays["day"])
        return living_shop

    def save_state(self, state_file: Path) -> None:
        """Saves all that the next day needs. The file appears whole or not at all."""
        temporary_file = state_file.with_name(f".{state_file.name}.{os.getpid()}.tmp.npz")
        arrays = {f"pending_{name}": column for name, column in self._pending._asdict().items()}
        arrays |= self._state.list_arrays()
        arrays |= {"day": np.array(self._day), "origin": np.array(self._describe_origin())}
        np.savez_compressed(temporary_file, allow_pickle=False, **arrays)
        temporary_file.replace(state_file)

    def _describe_origin(self) -> str:
        return json.dumps({"shop": self._shop_digest, "config": self._config.model_dump(mode="json")})

    @property
    def day(self) -> int:
        """The day that opens next, in days since the start of the log."""
        return self._day

    @property
    def last_day(self) -> int:
        """The first day that can't be opened: the reserve of items, users and needs ends before it."""
        return self._shop.config.num_days + self._shop.config.reserve_days

    @cached_property
    def is_bot(self) -> BoolArray:
        """[U] which users are bots."""
        rng = self._create_generator("bots")
        return rng.random(len(self._shop.population.user_ids)) < self._config.bot_user_share

    def read_items(self) -> pl.DataFrame:
        """Reads the catalogue as of the next day, contract ITEMS: what comes later is not in it."""
        return self._shop.catalogue.items.filter(pl.Series(self._is_available))

    def open_day(self) -> LivingDay:
        """Opens the next day: who comes, what they could be shown, and what arrives from earlier days.

        Raises:
            UserError: the reserve is used up.
        """
        if self._day >= self.last_day:
            raise UserError(
                f"the shop has lived through its reserve of {self._shop.config.reserve_days} days; "
                "write one with a higher reserve_days"
            )
        demand = self._compute_demand()
        visits, seconds = self._draw_visits(demand)
        batch = draw_request_batch(
            visits,
            demand,
            shop=self._shop,
            state=self._state,
            day=self._day,
            request_ids=[name_request(self._first_request + row) for row in range(len(visits.users))],
            config=self._config,
            create_generator=self._create_generator,
        )
        return LivingDay(
            day=self._day,
            requests=self._list_requests(batch, seconds),
            batch=batch,
            is_bot=self.is_bot[visits.users],
            arrivals=self._pending.select_acts(self._is_due).list_events(self._shop),
            seconds=seconds,
            demand=demand,
        )

    def list_page_reactions(self, day: LivingDay, request_id: str, shown_ids: Sequence[str]) -> pl.DataFrame:
        """Lists what a visitor does with a page at once: clicks, carts and orders, contract EVENTS.

        For a live server, which must log them before the day is closed; `close_day` finds the same.

        Raises:
            UserError: the request is not of this day, an item was not among its candidates, or an item
                stands twice in the page.
        """
        rows = np.flatnonzero(day.batch.request_ids == request_id)
        if len(rows) == 0:
            raise UserError(f"{request_id} is no request of day {day.day}")
        batch = day.batch.select_requests(rows)
        slots = locate_slots(batch, {request_id: shown_ids}, len(shown_ids))
        reactions = self._react(day, slots, rows)
        events = self._list_events(reactions.pages, first_request=self._first_request + int(rows[0]))
        return events.filter(pl.col("event_type") != "impression")

    def close_day(
        self, day: LivingDay, shown_slots: IntArray, propensities: FloatArray | None = None
    ) -> DayResult:
        """Lets the day's visitors react to what they were shown, and goes on to the next day.

        Args:
            day: from `open_day`.
            shown_slots: [R, K] candidates shown, best first, as columns of `day.batch.candidate_ids`
                (`locate_slots`); -1 leaves a place empty.
            propensities: [R, K] with which they were shown, for the log.
        """
        if day.day != self._day:
            raise ValueError(f"day {day.day} is not open; the next is {self._day}")
        reactions = self._react(day, shown_slots, np.arange(len(day.requests)), propensities)
        pages, later_acts = reactions.pages, reactions.later_acts
        late_orders = later_acts.select_acts(~later_acts.is_return)
        ordered_items = np.concatenate([pages.shown.items[pages.reaction.order], late_orders.items])
        result = DayResult(
            events=self._list_events(pages, first_request=self._first_request),
            num_clicks=int(pages.reaction.click.sum()),
            num_orders=reactions.num_orders,
            gmv=float(self._shop.item_prices[ordered_items].sum()),
        )
        self._pass_day(day, pages, later_acts)
        return result

    def _pass_day(self, day: LivingDay, pages: DayPages, later_acts: PendingActs) -> None:
        world, catalogue, household = self._shop.world, self._shop.catalogue, self._state.household
        rng = self._create_generator("elsewhere")
        elsewhere = buy_elsewhere(day.demand, catalogue, rng, before_day=self._day)
        update_state(self._state, pages, elsewhere, self._shop)
        due_acts = self._pending.select_acts(self._is_due)
        orders, returns = due_acts.select_acts(~due_acts.is_return), due_acts.select_acts(due_acts.is_return)
        household.record_purchases(orders.users, catalogue.types[orders.items], world)
        # What was sent back is wanted again.
        household.supplied[returns.users, catalogue.types[returns.items]] = 0
        self._pending = self._pending.select_acts(~self._is_due).append(later_acts)
        self._day += 1

    def _react(
        self, day: LivingDay, shown_slots: IntArray, rows: IntArray, propensities: FloatArray | None = None
    ) -> PageReactions:
        """Draws what the visitors of some `rows` of the day do with the pages that they are shown."""
        return draw_page_reactions(
            day.batch.select_requests(rows),
            shown_slots,
            propensities,
            day=day.day,
            seconds=day.seconds[rows],
            request_numbers=self._first_request + rows,
            is_bot=day.is_bot[rows],
            config=self._config,
        )

    def _list_events(self, pages: DayPages, first_request: int) -> pl.DataFrame:
        events = list_page_events(pages, self._shop, day=self._day, first_request=first_request)
        return events.sort("timestamp", "user_id", "item_id")

    def _compute_demand(self) -> DailyDemand:
        population, world = self._shop.population, self._shop.world
        num_users, num_phases = len(population.user_ids), len(world.phase_days)
        is_active = find_active_phases(self._phase_spans, self._day, num_users, num_phases)
        return compute_daily_demand(population, self._state.household, is_active, world)

    def _draw_visits(self, demand: DailyDemand) -> tuple[PageVisits, DoubleArray]:
        population = self._shop.population
        activity = population.activity * np.where(self.is_bot, _BOT_ACTIVITY, 1)
        is_present = population.first_days <= self._day
        num_pages = self._create_generator("visits").poisson(activity * is_present)
        times = self._create_generator("times")
        users = times.permutation(np.repeat(np.arange(len(num_pages)), num_pages))
        seconds = np.sort(draw_day_seconds(len(users), times))
        visits = self._state.policy.open_pages(
            users,
            demand,
            is_available=self._is_available,
            shop=self._shop,
            rng=self._create_generator("pages"),
        )
        return visits, seconds

    def _list_requests(self, batch: RequestBatch, seconds: DoubleArray) -> tuple[TrafficRequest, ...]:
        midnight = self._shop.config.start + timedelta(days=self._day)
        contexts = list_request_contexts(batch.visits, self._shop)
        return tuple(
            TrafficRequest(
                request_id=request_id,
                user_id=self._shop.population.user_ids[user],
                candidate_item_ids=tuple(candidate_ids),
                timestamp=midnight + timedelta(seconds=float(second)),
                context=context,
            )
            for request_id, user, candidate_ids, second, context in zip(
                batch.request_ids.tolist(),
                batch.visits.users.tolist(),
                batch.candidate_ids.tolist(),
                seconds,
                contexts,
                strict=True,
            )
        )

    @property
    def _first_request(self) -> int:
        """Number of the day's first request: every page opened so far was one."""
        return int(self._state.policy.pages.sum())

    @property
    def _is_available(self) -> BoolArray:
        return self._shop.catalogue.days <= self._day

    @property
    def _is_due(self) -> BoolArray:
        return self._pending.due_days < self._day + 1

    @cached_property
    def _phase_spans(self) -> pl.DataFrame:
        return list_phase_spans(self._shop.population, self._shop.world)

    def _create_generator(self, purpose: str) -> np.random.Generator:
        # Bots are drawn once, everything else anew each day.
        key = _STREAMS.index(purpose), 0 if purpose == "bots" else self._day
        return np.random.default_rng(np.random.SeedSequence(self._config.seed, spawn_key=key))
