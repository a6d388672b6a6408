"""Users of simulated experiments, as the lift report sums them: one row per user.

Users differ in how often they come and in taste, so that a user's impressions are correlated. Three kinds of
revenue: normal, zero-inflated (few orders, ordinary amounts), and lognormal(3, 2), whose kurtosis is beyond
any sample. Bots are one user in a thousand, and stay below the bot rule: what catches them is the cap.
"""

from typing import Final, Literal, NamedTuple, get_args

import numpy as np
import polars as pl

from contracts.array_types import DoubleArray, IntArray

Revenue = Literal["normal", "zero_inflated", "lognormal"]
REVENUES: Final[tuple[Revenue, ...]] = get_args(Revenue)
_ORDER_RATES: Final[dict[Revenue, float]] = {"normal": 0.5, "zero_inflated": 0.1, "lognormal": 0.3}
_CLICK_RATE: Final = 0.1
_BOT_SHARE: Final = 0.001


class World(NamedTuple):
    """What experiments are drawn from."""

    revenue: Revenue
    has_bots: bool = False
    click_lift: float = 0.0
    """Relative, of the challenger's click rate; orders and GMV follow."""
    amount_lift: float = 0.0
    """Relative, of the challenger's amounts."""

    def __str__(self) -> str:
        return f"{self.revenue}{' with bots' if self.has_bots else ''}"


def draw_arm(rng: np.random.Generator, num_users: int, world: World, *, is_challenger: bool) -> pl.DataFrame:
    """User totals of one arm, without the columns `user` and `arm`."""
    visits = rng.geometric(0.3, num_users)
    impressions = visits * 10
    taste = rng.beta(2, 2 / _CLICK_RATE - 2, num_users)
    click_rate = taste * (1 + world.click_lift * is_challenger)
    clicks = rng.binomial(impressions, np.minimum(click_rate, 1))
    orders = rng.binomial(clicks, _ORDER_RATES[world.revenue])
    gmv = _draw_amounts(rng, orders, world.revenue) * (1 + world.amount_lift * is_challenger)
    if world.has_bots:
        bots = rng.random(num_users) < _BOT_SHARE
        # Half of them crawl, half click on half of what they see, and some order for resale.
        impressions = np.where(bots, 900, impressions)
        clicks = np.where(bots, np.where(taste > np.median(taste), 450, 0), clicks)
        orders = np.where(bots & (clicks > 0), 40, orders)
        gmv = np.where(bots & (clicks > 0), 50_000.0, gmv)
    return pl.DataFrame(
        {
            "impressions": impressions.astype(float),
            "clicks": clicks.astype(float),
            "orders": orders.astype(float),
            "gmv": gmv,
            "converted": (orders > 0).astype(float),
            "users": np.ones(num_users),
            "is_bot": np.zeros(num_users, dtype=bool),
        }
    )


def draw_experiment(rng: np.random.Generator, users_per_arm: int, world: World) -> pl.DataFrame:
    """User totals of an experiment with the arms `control` and `challenger`, control's users first."""
    arms = [
        draw_arm(rng, users_per_arm, world, is_challenger=is_challenger) for is_challenger in (False, True)
    ]
    return pl.concat(arms)


def draw_lasting_users(
    rng: np.random.Generator, num_users: int, revenue: Revenue, share_with_history: float
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """User totals before an experiment and in it, of users who keep their taste and pace.

    The first has no rows of users without a history.
    """
    pace = rng.gamma(1.5, 2.0, num_users)
    taste = rng.beta(2, 2 / _CLICK_RATE - 2, num_users)
    before, during = (
        _draw_totals(rng, 10 * (1 + rng.poisson(pace)), taste, revenue).with_columns(
            user=pl.int_range(num_users)
        )
        for _ in range(2)
    )
    return before.filter(pl.Series(rng.random(num_users) < share_with_history)), during


def _draw_totals(
    rng: np.random.Generator, impressions: IntArray, click_rate: DoubleArray, revenue: Revenue
) -> pl.DataFrame:
    clicks = rng.binomial(impressions, click_rate)
    orders = rng.binomial(clicks, _ORDER_RATES[revenue])
    return pl.DataFrame(
        {
            "impressions": impressions.astype(float),
            "clicks": clicks.astype(float),
            "orders": orders.astype(float),
            "gmv": _draw_amounts(rng, orders, revenue),
            "converted": (orders > 0).astype(float),
            "users": np.ones(len(impressions)),
        }
    )


def _draw_amounts(rng: np.random.Generator, orders: np.ndarray, revenue: Revenue) -> np.ndarray:
    """Sum of each user's order amounts."""
    num_orders = int(orders.sum())
    if revenue == "lognormal":
        amounts = rng.lognormal(3, 2, num_orders)
    elif revenue == "normal":
        amounts = np.maximum(rng.normal(50, 10, num_orders), 1.0)
    else:
        amounts = rng.gamma(2, 20, num_orders)
    buyer = np.repeat(np.arange(len(orders)), orders)
    return np.bincount(buyer, weights=amounts, minlength=len(orders))
