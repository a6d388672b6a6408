"""What does not change from day to day: the world, the catalogue and the population of one shop."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from contracts.array_types import DoubleArray, FloatArray
from simulation.catalogue import ShopCatalogue
from simulation.config import SimulationConfig
from simulation.population import Population
from simulation.search_box import match_queries
from simulation.shop_world import ShopWorld


@dataclass(frozen=True)
class SimulatedShop:
    """One shop."""

    config: SimulationConfig
    world: ShopWorld
    catalogue: ShopCatalogue
    population: Population

    @cached_property
    def query_match(self) -> FloatArray:
        """[Q, I] words that each query shares with each item."""
        return match_queries(self.world, self.catalogue.items)

    @cached_property
    def item_ids(self) -> npt.NDArray[np.str_]:
        """[I] id of each item."""
        return self.catalogue.items["item_id"].to_numpy().astype(np.str_)

    @cached_property
    def item_prices(self) -> DoubleArray:
        """[I] in the shop's currency."""
        return self.catalogue.items["price"].to_numpy()
