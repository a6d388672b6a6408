"""Whose items did users click, where two rankers shared the page? Credit per click, the user as the unit.

The preference is (challenger's clicks - control's clicks) / all clicks: 0 where neither is wanted more, 1
where only the challenger is. Each user compares both rankers on the same page, so their own taste and pace
fall out. That is why so few users are needed (Chapelle, Joachims, Radlinski, Yue, "Large-Scale Validation and
Analysis of Interleaved Search Evaluation", TOIS 2012).
"""

from math import isfinite, log, sqrt
from typing import Any, Final

import polars as pl
from scipy import stats

from monitoring.config import MonitoringConfig
from monitoring.lift.lift_statistics import POWER, UNKNOWN, LiftInterval, RatioEstimate, estimate_ratio
from monitoring.lift.outlier_users import find_cap

_CHALLENGER: Final = "challenger"
# Spread of preferences that the always-valid interval expects; the level holds for any.
_PREFERENCE_SCALE: Final = 0.1


def measure_preference(
    teams: pl.DataFrame, outcomes: pl.DataFrame, config: MonitoringConfig, *, bots: pl.Series | None = None
) -> dict[str, Any]:
    """The users' preference, with its interval.

    Args:
        teams: `request_id`, `item_id`, `user_id`, `team` (`control` or `challenger`) of each shown item.
        outcomes: `request_id`, `item_id`, `click`.
        config: monitoring's configuration: level, cap, whether one looks once or all the time.
        bots: users to leave out.
    """
    credits = (
        teams.unique(["request_id", "item_id"], keep="first", maintain_order=True)
        .join(outcomes.filter("click").select("request_id", "item_id").unique(), on=["request_id", "item_id"])
        .group_by("user_id")
        .agg(
            challenger=(pl.col("team") == _CHALLENGER).sum().cast(pl.Float64),
            clicks=pl.len().cast(pl.Float64),
        )
        .sort("user_id")
    )
    if bots is not None:
        credits = credits.filter(~pl.col("user_id").is_in(bots.implode()))
    clicks = credits["clicks"].to_numpy()
    # A user who clicks far more than others has one opinion all the same: their weight is capped.
    weights = (
        1.0
        if config.deciding_users == "raw"
        else (find_cap(clicks, config.winsorize_quantile) / clicks).clip(max=1)
    )
    difference = (2 * credits["challenger"].to_numpy() - clicks) * weights
    estimate = estimate_ratio(difference, clicks * weights)
    fixed, sequential = (
        bound_preference(estimate, confidence=config.confidence, is_sequential=is_sequential)
        for is_sequential in (False, True)
    )
    deciding = sequential if config.decide_by == "sequential" else fixed
    return {
        "users": teams["user_id"].n_unique(),
        "users_who_clicked": len(credits),
        "clicks": int(clicks.sum()),
        "preference": fixed._asdict(),
        "sequential": sequential._asdict(),
        "deciding": deciding._asdict(),
        "detectable": find_detectable_preference(estimate, config),
    }


def bound_preference(
    estimate: RatioEstimate | None, *, confidence: float, is_sequential: bool
) -> LiftInterval:
    """A preference with its interval: Student's t for one look, or a mixture that holds at any look."""
    if estimate is None:
        return UNKNOWN
    quantile = _find_quantile(estimate, confidence, is_sequential=is_sequential)
    if quantile is None:
        return LiftInterval(estimate.value, None, None)
    margin = quantile * sqrt(estimate.variance)
    return LiftInterval(estimate.value, max(estimate.value - margin, -1.0), min(estimate.value + margin, 1.0))


def find_detectable_preference(estimate: RatioEstimate | None, config: MonitoringConfig) -> float | None:
    """The smallest preference that would have been seen in 80 of 100 such tests."""
    if estimate is None:
        return None
    quantile = _find_quantile(estimate, config.confidence, is_sequential=config.decide_by == "sequential")
    if quantile is None:
        return None
    return (quantile + float(stats.norm.ppf(POWER))) * sqrt(estimate.variance)


def _find_quantile(estimate: RatioEstimate, confidence: float, *, is_sequential: bool) -> float | None:
    """Half the interval's width in standard errors; None where the error is not known."""
    if not isfinite(estimate.variance) or estimate.variance <= 0:
        return None
    if not is_sequential:
        return float(stats.t.ppf((1 + confidence) / 2, estimate.users - 1))
    # Robbins' mixture over a normal preference, as `lift_statistics` has it for lifts.
    mixed_variance = estimate.variance + _PREFERENCE_SCALE**2
    evidence = 2 * log(1 / (1 - confidence)) + log(mixed_variance / estimate.variance)
    normal_quantile = sqrt(mixed_variance / _PREFERENCE_SCALE**2 * evidence)
    student_quantile = float(stats.t.isf(stats.norm.sf(normal_quantile), estimate.users - 1))
    return student_quantile if isfinite(student_quantile) else normal_quantile * 10
