"""How likely a user looks at each place of a page, estimated from the log's own exploration.

Higher places hold better items, so raw click rates fall with the place for two reasons. A click weighted by
1 / (probability with which its item was shown there) counts as if items had been drawn at random: what is
left of the fall is the place's own (Joachims et al., "Unbiased learning-to-rank", WSDM 2017).

Legend: P places.
"""

from pathlib import Path

import numpy as np
import polars as pl
from sklearn.isotonic import isotonic_regression

from contracts.array_types import DoubleArray

MAX_PLACES = 64
"""Places that are told apart; all further ones share the last."""
_LARGEST_WEIGHT = 20.0
"""Of an impression, over the mean: one lucky click on an item that is hardly ever shown must not decide."""
_DEFAULT_POWER = 0.6
"""Of the fall with the place, where the log cannot tell: examination falls as a power of the place."""
_LEAST_CLICKS = 100


def estimate_examination(training_set: Path) -> DoubleArray:
    """Probability of a look at each place over that at the first, never falling, [P].

    Shown lists without propensities give raw click rates a share of the blame: the curve is then the root of
    the rates, half way between 'all place' and 'all items'. Too few clicks give a power law.

    Args:
        training_set: Parquet file of the training set; its shown training lists are read.
    """
    is_shown = (pl.col("protocol") == "impressions") & (pl.col("split") == "train")
    weight = (1 / pl.col("propensities")).fill_null(1.0)
    rates = (
        pl.scan_parquet(training_set)
        .filter(is_shown)
        .select(
            "clicks",
            propensities=pl.coalesce(
                "propensities", pl.col("clicks").list.eval(pl.lit(None, dtype=pl.Float32))
            ),
            place=pl.int_ranges(0, pl.col("clicks").list.len()),
        )
        .explode("clicks", "propensities", "place")
        .with_columns(weight=pl.min_horizontal(weight, weight.mean() * _LARGEST_WEIGHT))
        .group_by(pl.col("place").clip(upper_bound=MAX_PLACES - 1))
        .agg(
            rate=(pl.col("clicks") * pl.col("weight")).sum() / pl.col("weight").sum(),
            mass=pl.len(),
            clicks=pl.col("clicks").sum(),
            has_propensities=pl.col("propensities").is_not_null().all(),
        )
        .sort("place")
        .collect()
    )
    power_law: DoubleArray = np.power(1.0 + np.arange(MAX_PLACES), -_DEFAULT_POWER)
    if rates.is_empty() or rates["clicks"].sum() < _LEAST_CLICKS or not rates["rate"][0]:
        return power_law
    exponent = 1.0 if rates["has_propensities"].all() else 0.5
    falling = isotonic_regression(
        rates["rate"].to_numpy(), sample_weight=rates["mass"].to_numpy(), increasing=False
    )
    curve: DoubleArray = np.asarray((falling / falling[0]) ** exponent, np.float64)
    # Places that were never shown go on as the power law does.
    tail: DoubleArray = curve[-1] * power_law[len(curve) :] / power_law[len(curve) - 1]
    return np.asarray(np.maximum(np.concatenate([curve, tail]), 1e-3), np.float64)
