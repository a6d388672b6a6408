"""What pages were like: calibration, coverage, diversity, cold items, degraded answers, by day and window."""

from typing import Any, Final

import polars as pl

COLD_S: Final = 7 * 86_400
"""An item that is younger is cold."""
_NUM_SCORE_BINS: Final = 20


def list_daily_figures(
    reference: pl.DataFrame, current: pl.DataFrame, num_items: int | None
) -> list[dict[str, Any]]:
    """The figures of each UTC day of both windows, in order of time."""
    days: dict[str, dict[str, Any]] = {}
    for window_name, window in (("reference", reference), ("current", current)):
        for (day,), frame in window.group_by(pl.col("timestamp").dt.date()):
            days[str(day)] = {
                "day": str(day),
                "window": window_name,
                "timestamp": frame["timestamp"].max(),
                "requests": frame["request_id"].n_unique(),
                **measure_figures(frame, reference, num_items),
            }
    return [days[day] for day in sorted(days)]


def measure_figures(frame: pl.DataFrame, reference: pl.DataFrame, num_items: int | None) -> dict[str, Any]:
    """The figures of some rows of SERVING_FEATURES; a figure that nothing is known for is None.

    `calibration` is clicks that came over the clicks that the reference had at the same scores.
    """
    pages = frame.group_by("request_id").agg(
        categories=pl.col("category").n_unique(), places=pl.col("category").count()
    )
    pages = pages.filter(pl.col("places") > 0)
    shown = frame["item_id"].value_counts()["count"].cast(pl.Float64)
    total = float(shown.sum())
    settled = frame.filter(pl.col("click").is_not_null())
    causes = frame["degraded_causes"].explode().drop_nulls().value_counts(name="rows")
    return {
        "calibration": _measure_calibration(settled, reference),
        "click_rate": settled["click"].cast(pl.Float64).mean(),
        "items_shown": len(shown),
        "coverage": len(shown) / num_items if num_items else None,
        "effective_items": total**2 / float((shown**2).sum()) if total else None,
        "diversity": (pages["categories"] / pages["places"]).mean() if len(pages) else None,
        "cold_share": (frame["item_age_s"] < COLD_S).cast(pl.Float64).mean(),
        "degraded": frame["degraded"].mean(),
        "without_score": frame["score"].null_count() / max(len(frame), 1),
        "new_users": frame.filter(pl.col("request_id").is_first_distinct())["is_new_user"].mean(),
        "degraded_by": {
            cause: rows / len(frame)
            for cause, rows in sorted(causes.select("degraded_causes", "rows").iter_rows())
        },
    }


def _measure_calibration(settled: pl.DataFrame, reference: pl.DataFrame) -> float | None:
    known = reference.filter(pl.col("click").is_not_null(), pl.col("score").is_not_null())
    scored = settled.filter(pl.col("score").is_not_null())
    if known.is_empty() or scored.is_empty() or not known["click"].any():
        return None
    cuts = known["score"].qcut(_NUM_SCORE_BINS, allow_duplicates=True, include_breaks=True)
    breaks = [b for b in cuts.struct.field("breakpoint").unique().sort().to_list() if b != float("inf")]
    rates = known.group_by(score_bin=pl.col("score").cut(breaks)).agg(rate=pl.col("click").mean())
    promised = scored.with_columns(score_bin=pl.col("score").cut(breaks)).join(
        rates, on="score_bin", how="left"
    )
    total = float(promised["rate"].fill_null(float(known["click"].mean() or 0)).sum())  # type: ignore[arg-type]
    return float(scored["click"].sum()) / total if total else None
