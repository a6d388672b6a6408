"""Requests of visitors after the log: what the shop's retrieval gives a ranker to choose from."""

from collections.abc import Callable, Sequence

import numpy as np

from simulation.config import LivingShopConfig, TrafficConfig
from simulation.daily_demand import DailyDemand
from simulation.page_visits import PageVisits, describe_contexts
from simulation.simulate_log import ShopState
from simulation.simulated_shop import SimulatedShop
from simulation.true_outcomes import RequestBatch
from simulation.user_choice import compute_affinity

CreateGenerator = Callable[[str], np.random.Generator]
"""Makes the generator of a purpose: `candidates` and `shuffle` here."""


def draw_request_batch(
    visits: PageVisits,
    demand: DailyDemand,
    *,
    shop: SimulatedShop,
    state: ShopState,
    day: int,
    request_ids: Sequence[str],
    config: TrafficConfig | LivingShopConfig,
    create_generator: CreateGenerator,
) -> RequestBatch:
    """Draws candidates for visits of a day, by the policy that filled the log's pages."""
    policy = state.policy
    drawn = policy.draw_page_items(
        visits,
        config.num_candidates,
        is_available=shop.catalogue.days <= day,
        exploration=1 - config.policy_share,
        shop=shop,
        rng=create_generator("candidates"),
    )
    # Shuffled, so that their order tells nothing.
    candidates = create_generator("shuffle").permuted(drawn.items, axis=1)
    return RequestBatch(
        request_ids=np.array(request_ids, dtype=np.str_),
        visits=visits,
        candidates=candidates,
        candidate_ids=shop.item_ids[candidates],
        affinities=compute_affinity(visits, candidates, demand, shop),
        prices=shop.item_prices[candidates],
        user_pages=policy.pages[visits.users],
        item_impressions=policy.impressions[candidates],
        item_ages=day - shop.catalogue.days[candidates],
    )


def list_request_contexts(visits: PageVisits, shop: SimulatedShop) -> list[dict[str, str]]:
    """Lists the context of each visit as a request tells it: only what it has."""
    rows = describe_contexts(visits, shop.world, shop.catalogue.items["item_id"]).to_dicts()
    return [{name: value for name, value in row.items() if value is not None} for row in rows]
