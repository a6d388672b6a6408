"""What visitors do with their pages after the log: at once, and days later.

Shape letters: R requests, C candidates of each, K places of a page.
"""

from typing import NamedTuple

import numpy as np

from contracts.array_types import BoolArray, DoubleArray, FloatArray, IntArray
from simulation.config import LivingShopConfig
from simulation.later_days.pending_acts import PendingActs
from simulation.later_days.shared_luck import draw_shared_luck
from simulation.logging_policy import DrawnPages
from simulation.simulate_log import MAX_ACT_DELAY_S, MEAN_ACT_DELAYS_S, DayPages
from simulation.true_outcomes import RequestBatch
from simulation.user_choice import Reaction, draw_reaction, list_examination_powers

_BOT_CLICK_SHARE = 0.8
_LATE_DAYS, _RETURN_DAYS = (1, 4), (2, 14)
"""A late order comes in these days after its page's midnight, a return in these days after its order."""
_NUM_DRAWS = 10
"""Click, order, cart; three delays; late and when; returned and when."""


class PageReactions(NamedTuple):
    """What came of pages."""

    pages: DayPages
    """What happened at once; late orders are no orders there."""
    later_acts: PendingActs
    """Late orders and returns."""
    num_orders: int
    """Orders of both kinds."""


def draw_page_reactions(
    batch: RequestBatch,
    shown_slots: IntArray,
    propensities: FloatArray | None,
    *,
    day: int,
    seconds: DoubleArray,
    request_numbers: IntArray,
    is_bot: BoolArray,
    config: LivingShopConfig,
) -> PageReactions:
    """Draws reactions to pages; the luck of a place goes by its request and item alone.

    Args:
        batch: R requests.
        shown_slots: [R, K] candidates shown, -1 where a place is empty.
        propensities: [R, K] with which they were shown, where known.
        day: since the start of the log.
        seconds: [R] time of day.
        request_numbers: [R] numbers in the shop's life.
        is_bot: [R] does a bot ask?
        config: how often orders come late or go back.
    """
    has_item = shown_slots >= 0
    items = np.where(has_item, np.take_along_axis(batch.candidates, shown_slots, axis=1), -1)
    affinities = np.take_along_axis(batch.affinities, shown_slots, axis=1)
    affinities = np.where(has_item, affinities, -np.inf).astype(np.float32)
    luck = draw_shared_luck(config.seed, request_numbers[:, None], items, num_draws=_NUM_DRAWS)
    powers = list_examination_powers(batch.visits)
    reaction = draw_reaction(affinities, np.arange(items.shape[1]), luck[:3], powers)
    bot_clicks = has_item & (luck[0] < _BOT_CLICK_SHARE)
    reaction = Reaction(
        click=np.where(is_bot[:, None], bot_clicks, reaction.click),
        cart=reaction.cart & ~is_bot[:, None],
        order=reaction.order & ~is_bot[:, None],
    )
    is_late = reaction.order & (luck[6] < config.late_order_share)
    unknown_propensities = np.full(items.shape, np.nan, dtype=np.float32)
    pages = DayPages(
        visits=batch.visits,
        seconds=seconds,
        shown=DrawnPages(items, unknown_propensities if propensities is None else propensities),
        reaction=reaction._replace(order=reaction.order & ~is_late),
        delays=_spread_delays(luck[3:6]),
    )
    rows, slots = np.nonzero(reaction.order)
    placed_orders = PendingActs(
        due_days=day + np.where(is_late[rows, slots], _pick_day(luck[7, rows, slots], _LATE_DAYS), 0.99),
        is_return=np.zeros(len(rows), dtype=np.bool_),
        users=batch.visits.users[rows],
        items=items[rows, slots],
        requests=request_numbers[rows],
        positions=slots,
    )
    returns = placed_orders._replace(
        due_days=placed_orders.due_days + _pick_day(luck[9, rows, slots], _RETURN_DAYS),
        is_return=np.ones(len(rows), dtype=np.bool_),
    ).select_acts(luck[8, rows, slots] < config.return_share)
    late_orders = placed_orders.select_acts(is_late[rows, slots])
    return PageReactions(pages, late_orders.append(returns), len(rows))


def _spread_delays(luck: FloatArray) -> DoubleArray:
    """Turns luck into seconds from page to click, click to cart, cart to order: [3, R, K]."""
    delays = -np.log1p(-luck.astype(np.float64)) * MEAN_ACT_DELAYS_S[:, None, None] + 1
    return np.asarray(np.minimum(delays, MAX_ACT_DELAY_S))


def _pick_day(luck: FloatArray, days: tuple[int, int]) -> DoubleArray:
    return np.asarray(days[0] + (days[1] - days[0]) * luck.astype(np.float64))
