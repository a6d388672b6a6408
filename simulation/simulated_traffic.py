"""Simulated visitors: they ask for a ranking and react to the one they get.

They know nothing of rankers, arms or models. A reaction depends on the user's needs, the item, its
position, and luck drawn per request and candidate before anything is ranked (common random numbers), so
the same item at the same position gets the same answer whichever arm put it there, and arms can be
compared request by request.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from contracts.array_types import DoubleArray, FloatArray
from contracts.tables import OUTCOMES
from simulation.config import TrafficConfig
from simulation.daily_demand import DailyDemand, compute_daily_demand, find_active_phases
from simulation.page_visits import PageVisits
from simulation.population import list_phase_spans
from simulation.request_batches import draw_request_batch, list_request_contexts
from simulation.simulate_log import DAY_S
from simulation.true_outcomes import RequestBatch, check_ranking
from simulation.user_choice import draw_reaction, list_examination_powers
from simulation.write_shop import read_shop_state

_ID_PREFIX = "t"
_STREAMS = ("times", "visitors", "candidates", "luck", "shuffle")


class TrafficRequest(NamedTuple):
    """One visit that asks for a ranking."""

    request_id: str
    user_id: str
    candidate_item_ids: tuple[str, ...]
    timestamp: datetime
    context: Mapping[str, str]
    """Columns of `REQUEST_CONTEXT` that the page has."""


class TrafficSimulator:
    """Visitors of a simulated shop after the end of its log."""

    def __init__(self, shop: Path, config: TrafficConfig) -> None:
        """Opens the shop that `simulation.write_shop.write_shop` wrote.

        Raises:
            UserError: `shop` is not a simulated shop.
        """
        self._config = config
        self._shop, self._state = read_shop_state(shop)

    def iter_requests(self) -> Iterator[TrafficRequest]:
        """Yields the visits in order of time; the same each time."""
        batch, user_ids = self.batch, self._shop.population.user_ids
        shop_config = self._shop.config
        log_end = shop_config.start + timedelta(days=shop_config.num_days)
        contexts = list_request_contexts(batch.visits, self._shop)
        for number, seconds in enumerate(self._visit_seconds):
            yield TrafficRequest(
                request_id=str(batch.request_ids[number]),
                user_id=user_ids[batch.visits.users[number]],
                candidate_item_ids=tuple(batch.candidate_ids[number].tolist()),
                timestamp=log_end + timedelta(seconds=float(seconds)),
                context=contexts[number],
            )

    def simulate_reaction(self, request: TrafficRequest, ranked_item_ids: Sequence[str]) -> pl.DataFrame:
        """Simulates what the visitor does with a ranking, best first: rows of contract OUTCOMES.

        Raises:
            UserError: an item was not among the request's candidates, or stands twice in the ranking.
        """
        slot_of_item = {item_id: slot for slot, item_id in enumerate(request.candidate_item_ids)}
        check_ranking(request.request_id, ranked_item_ids, slot_of_item)
        ranked_slots = np.array([slot_of_item[item_id] for item_id in ranked_item_ids], dtype=np.int64)
        number = _parse_request_number(request)
        # One draw for each candidate, whatever is ranked: the arms share their luck.
        luck = self._create_generator("luck", number).random((3, len(slot_of_item)), dtype=np.float32)
        affinities = self.batch.affinities[number][ranked_slots]
        power = list_examination_powers(self.batch.visits)[number]
        reaction = draw_reaction(affinities, np.arange(len(ranked_slots)), luck[:, ranked_slots], power)
        ranked_prices = self.batch.prices[number][ranked_slots]
        columns = {
            "request_id": request.request_id,
            "item_id": list(ranked_item_ids),
            "user_id": request.user_id,
            "timestamp": request.timestamp,
            "click": reaction.click,
            "order": reaction.order,
            "revenue": np.where(reaction.order, ranked_prices, 0.0),
            "orders_without_price": 0,
        }
        return pl.DataFrame(columns, schema=OUTCOMES.schema)

    def compute_true_affinity(self, request: TrafficRequest) -> FloatArray:
        """Computes what really attracts the visitor to each candidate, [C]: the oracle of evaluations."""
        return np.asarray(self.batch.affinities[_parse_request_number(request)])

    @cached_property
    def batch(self) -> RequestBatch:
        """All requests, in the order of `iter_requests`, for `simulation.true_outcomes`."""
        return draw_request_batch(
            self._page_visits,
            self._final_demand,
            shop=self._shop,
            state=self._state,
            day=self._shop.config.num_days,
            request_ids=[f"{_ID_PREFIX}{number:08d}" for number in range(self._config.num_requests)],
            config=self._config,
            create_generator=self._create_generator,
        )

    def _create_generator(self, purpose: str, number: int = 0) -> np.random.Generator:
        key = _STREAMS.index(purpose), number
        return np.random.default_rng(np.random.SeedSequence(self._config.seed, spawn_key=key))

    @cached_property
    def _final_demand(self) -> DailyDemand:
        """Wants as of the log's end; they hold for the days of the traffic."""
        world, population = self._shop.world, self._shop.population
        phase_spans = list_phase_spans(population, world)
        num_users, num_phases = len(population.user_ids), len(world.phase_days)
        is_active = find_active_phases(phase_spans, self._shop.config.num_days, num_users, num_phases)
        return compute_daily_demand(population, self._state.household, is_active, world)

    @cached_property
    def _visit_seconds(self) -> DoubleArray:
        rng = self._create_generator("times")
        return np.sort(rng.uniform(0, self._config.num_days * DAY_S, self._config.num_requests))

    @cached_property
    def _page_visits(self) -> PageVisits:
        rng = self._create_generator("visitors")
        population = self._shop.population
        user_shares = population.activity.astype(np.float64) * (
            population.first_days <= self._shop.config.num_days
        )
        users = rng.choice(
            len(user_shares), size=self._config.num_requests, p=user_shares / user_shares.sum()
        )
        return self._state.policy.open_pages(
            users,
            self._final_demand,
            is_available=self._shop.catalogue.days <= self._shop.config.num_days,
            shop=self._shop,
            rng=rng,
        )


def _parse_request_number(request: TrafficRequest) -> int:
    return int(request.request_id.removeprefix(_ID_PREFIX))
