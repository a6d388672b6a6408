"""CUPED: what users did before the experiment explains a part of what they do in it.

Deng, Xu, Kohavi, Walker, "Improving the Sensitivity of Online Controlled Experiments by Utilizing
Pre-Experiment Data", WSDM 2013. A ratio is adjusted in its linear part, as tea-tasting's `RatioOfMeans` does.
With one covariate that all users have, the two are the same number.

Two covariates tell a user's past: the metric itself, and whether there is a past at all. A user without one
has no low value: they get the mean of the others, and a shift of their own.
"""

from typing import Final

import numpy as np
import polars as pl

from contracts.array_types import DoubleArray
from monitoring.config import MonitoringConfig
from monitoring.lift.lift_statistics import RatioEstimate
from monitoring.lift.outlier_users import UserValues, find_caps, list_metrics, read_metric

MIN_HISTORY_USERS: Final = 100
"""Of each arm: with fewer, the slope is a guess, and its own error would count."""


def build_covariates(
    users: pl.DataFrame, history: pl.DataFrame, metric: str, config: MonitoringConfig
) -> DoubleArray:
    """What each user did before, about the mean of those who did anything; shape (users, 2).

    The first column is capped like the metric, and 0 for users without a history; the second is 1 where there
    is one.

    Args:
        users: user totals of the experiment.
        history: user totals from before it; users without any are not in it.
        metric: the metric.
        config: monitoring's configuration.
    """
    past = users.select("user").join(history, on="user", how="left", maintain_order="left")
    has_history = past["users"].is_not_null().to_numpy()
    past = past.with_columns(pl.col(pl.Float64).fill_null(0.0))
    values = read_metric(past, list_metrics(config)[metric], find_caps(past, config))
    numerator, denominator = values
    if denominator.sum() <= 0:
        # A history without impressions still says how often a user clicked.
        denominator = has_history.astype(np.float64)
    ratio = numerator.sum() / max(denominator.sum(), 1e-300)
    return np.column_stack([numerator - ratio * denominator, has_history.astype(np.float64)])


def has_enough_history(covariates: DoubleArray) -> bool:
    """Do enough users of an arm have a history?"""
    return bool(covariates[:, 1].sum() >= MIN_HISTORY_USERS)


def adjust_by_history(
    challenger: UserValues,
    control: UserValues,
    challenger_covariates: DoubleArray,
    control_covariates: DoubleArray,
) -> tuple[RatioEstimate, RatioEstimate] | None:
    """Both arms' ratios, less what their users' pasts explain of their difference.

    None where there is nothing to divide by, or an arm has a single user.

    Args:
        challenger: its users' values.
        control: likewise.
        challenger_covariates: shape (users, columns).
        control_covariates: likewise.
    """
    arms = (challenger, control)
    if any(len(arm.numerator) < 2 or arm.denominator.sum() <= 0 for arm in arms):
        return None
    covariates = np.concatenate([challenger_covariates, control_covariates])
    means = covariates.mean(axis=0)
    slopes = _fit_slopes(
        np.concatenate([arm.numerator for arm in arms]),
        np.concatenate([arm.denominator for arm in arms]),
        covariates - means,
    )
    return (
        _adjust_arm(challenger, challenger_covariates - means, slopes),
        _adjust_arm(control, control_covariates - means, slopes),
    )


def _fit_slopes(numerator: DoubleArray, denominator: DoubleArray, centered: DoubleArray) -> DoubleArray:
    """Least squares over the users of both arms: one slope for both leaves the lift where it is."""
    ratio = numerator.sum() / denominator.sum()
    residuals = (numerator - ratio * denominator) / denominator.mean()
    # The pseudo-inverse passes over a column that does not vary.
    slopes: DoubleArray = np.linalg.pinv(centered.T @ centered, hermitian=True) @ (centered.T @ residuals)
    return slopes


def _adjust_arm(values: UserValues, centered: DoubleArray, slopes: DoubleArray) -> RatioEstimate:
    num_users = len(values.numerator)
    ratio = float(values.numerator.sum() / values.denominator.sum())
    explained = centered @ slopes
    residuals = (values.numerator - ratio * values.denominator) / values.denominator.mean() - explained
    return RatioEstimate(ratio - float(explained.mean()), float(residuals.var(ddof=1)) / num_users, num_users)
