"""Simulated visitors: they ask for a ranking and react to the one they get.

They know nothing of rankers, arms or models. A reaction depends on the user's needs, the item, its position, and luck
drawn per request and candidate before anything is ranked (common random numbers), so the same item at the same position
gets the same answer whichever arm put it there, and arms can be compared request by request.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from contracts.artifacts import read_lineage, read_table
from contracts.errors import UserError
from contracts.tables import ITEMS, OUTCOMES
from simulation.catalogue import Catalogue, available
from simulation.choice import affinity, react
from simulation.config import SimulationConfig, TrafficConfig
from simulation.demand import Demand, Household, active_phases, demand_on
from simulation.log import DAY_S
from simulation.policy import LoggingPolicy, Visits, open_pages
from simulation.population import Population, phase_spans
from simulation.shop import TRUTH_FOLDER
from simulation.world import Floats, load_world

_ID_PREFIX = "t"
_STREAMS = ("times", "visitors", "candidates", "luck")


class TrafficRequest(NamedTuple):
    """One visit that asks for a ranking."""

    request_id: str
    user_id: str
    candidate_item_ids: tuple[str, ...]
    timestamp: datetime


class TrafficSimulator:
    """Visitors of a simulated shop after the end of its log."""

    def __init__(self, shop: Path, config: TrafficConfig) -> None:
        """Opens the shop that `simulation.shop.write_shop` wrote.

        Raises:
            UserError: `shop` is not a simulated shop.
        """
        if not (shop / TRUTH_FOLDER / "world.npz").is_file():
            raise UserError(f"{shop} is not a simulated shop: traffic can only be simulated for the embedded one.")
        self._config = config
        self._shop_config = SimulationConfig.model_validate(read_lineage(shop).config)
        self._catalogue, self._population, self._household, self._policy = _read_world(shop)

    def requests(self) -> Iterator[TrafficRequest]:
        """The visits in order of time; the same each time."""
        item_ids, user_ids = self._item_ids, self._population.user_ids
        visits, candidates = self._visits, self._candidates
        for number, seconds in enumerate(self._seconds):
            yield TrafficRequest(
                request_id=f"{_ID_PREFIX}{number:08d}",
                user_id=user_ids[visits.users[number]],
                candidate_item_ids=tuple(item_ids[candidates[number]]),
                timestamp=self._shop_config.start + timedelta(days=self._shop_config.num_days, seconds=float(seconds)),
            )

    def react(self, request: TrafficRequest, ranked_item_ids: Sequence[str]) -> pl.DataFrame:
        """What the visitor does with a ranking, best first: rows of contract OUTCOMES.

        Raises:
            UserError: an item was not among the request's candidates, or stands twice in the ranking.
        """
        slots = {item_id: slot for slot, item_id in enumerate(request.candidate_item_ids)}
        unknown = sorted(set(ranked_item_ids) - slots.keys())
        if unknown or len(set(ranked_item_ids)) != len(ranked_item_ids):
            raise UserError(f"a ranking of {request.request_id} must hold its candidates once each; strange: {unknown}")
        ranked = np.array([slots[item_id] for item_id in ranked_item_ids], dtype=np.int64)
        luck = self._stream("luck", _number(request)).random((3, len(slots)), dtype=np.float32)
        reaction = react(self.true_affinity(request)[ranked], np.arange(len(ranked)), luck[:, ranked])
        prices = self._prices[self._candidates[_number(request)][ranked]]
        columns = {
            "request_id": request.request_id,
            "item_id": list(ranked_item_ids),
            "user_id": request.user_id,
            "timestamp": request.timestamp,
            "click": reaction.click,
            "order": reaction.order,
            "revenue": np.where(reaction.order, prices, 0.0),
        }
        return pl.DataFrame(columns, schema=OUTCOMES.schema)

    def true_affinity(self, request: TrafficRequest) -> Floats:
        """[C] what really attracts the visitor to each candidate: the oracle of evaluations, never an input."""
        number = _number(request)
        users = np.full(len(request.candidate_item_ids), self._visits.users[number])
        return affinity(
            users, self._candidates[number], demand=self._demand, population=self._population, catalogue=self._catalogue
        )

    def _stream(self, purpose: str, number: int = 0) -> np.random.Generator:
        key = _STREAMS.index(purpose), number
        return np.random.default_rng(np.random.SeedSequence(self._config.seed, spawn_key=key))

    @cached_property
    def _item_ids(self) -> npt.NDArray[np.str_]:
        return self._catalogue.items["item_id"].to_numpy().astype(np.str_)

    @cached_property
    def _prices(self) -> npt.NDArray[np.float64]:
        return self._catalogue.items["price"].to_numpy()

    @cached_property
    def _demand(self) -> Demand:
        """Wants as of the log's end; they hold for the days of the traffic."""
        world = load_world()
        spans = phase_spans(self._population, world)
        num_users = len(self._population.user_ids)
        active = active_phases(spans, self._shop_config.num_days, num_users, len(world.phase_days))
        return demand_on(self._population, self._household, active, world)

    @cached_property
    def _seconds(self) -> npt.NDArray[np.float64]:
        rng = self._stream("times")
        return np.sort(rng.uniform(0, self._config.num_days * DAY_S, self._config.num_requests))

    @cached_property
    def _visits(self) -> Visits:
        rng = self._stream("visitors")
        share = self._population.activity / self._population.activity.sum(dtype=np.float64)
        users = rng.choice(len(share), size=self._config.num_requests, p=share / share.sum())
        return open_pages(users, self._demand.wants, category_share=self._shop_config.category_share, rng=rng)

    @cached_property
    def _candidates(self) -> npt.NDArray[np.int64]:
        """[requests, C] item indices, shuffled, so that their order tells nothing."""
        rng = self._stream("candidates")
        drawn = self._policy.draw(
            self._visits,
            self._config.num_candidates,
            shown=available(self._catalogue, self._shop_config.num_days),
            exploration=1 - self._config.policy_share,
            catalogue=self._catalogue,
            rng=rng,
        )
        return rng.permuted(drawn, axis=1)


def _number(request: TrafficRequest) -> int:
    return int(request.request_id.removeprefix(_ID_PREFIX))


def _read_world(shop: Path) -> tuple[Catalogue, Population, Household, LoggingPolicy]:
    with np.load(shop / TRUTH_FOLDER / "world.npz", allow_pickle=False) as stored:
        arrays = dict(stored)
    items = read_table(shop / "items.parquet", ITEMS)
    catalogue = {name: arrays[f"catalogue_{name}"] for name in Catalogue._fields if name != "items"}
    population = {name: arrays[f"population_{name}"] for name in Population._fields if name != "user_ids"}
    return (
        Catalogue(items=items, **catalogue),
        Population(user_ids=tuple(arrays["population_user_ids"].tolist()), **population),
        Household(arrays["supplied"], arrays["called_for"]),
        LoggingPolicy(arrays["clicks"], arrays["recent"]),
    )
