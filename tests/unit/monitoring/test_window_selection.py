from datetime import UTC, datetime, timedelta

import polars as pl

from contracts.tables import EXPOSURES
from monitoring.config import MonitoringConfig
from monitoring.drift.window_selection import cut_to_page, split_served_windows

START = datetime(2025, 5, 1, tzinfo=UTC)
CONFIG = MonitoringConfig(min_requests=2, reference_days=2, window_days=3)


def pages(**versions: tuple[float, float]) -> pl.DataFrame:
    """Three pages a day of each version, from one day of May to another."""
    rows = [
        {
            "request_id": f"{version}-{number}",
            "timestamp": START + timedelta(days=first + number / 3),
            "routed_version": version,
        }
        for version, (first, last) in versions.items()
        for number in range(round(3 * (last - first)))
    ]
    frame = pl.DataFrame(rows).with_columns(
        model_version="routed_version",
        item_id=pl.lit("i"),
        user_id=pl.lit("u"),
        arm=pl.lit("a"),
        score=0.0,
        position=0,
        degraded=pl.lit([], dtype=pl.List(pl.String)),
    )
    return EXPOSURES.check_rows(frame)


def days_of(exposures: pl.DataFrame, version: str) -> tuple[int, int]:
    moments = exposures.filter(pl.col("routed_version") == version)["timestamp"].dt.day()
    return int(moments.min()), int(moments.max())  # type: ignore[arg-type]


def test_each_ranker_is_compared_with_its_own_first_days() -> None:
    windows = split_served_windows(pages(old=(0, 10), new=(4, 10)), CONFIG)
    assert windows is not None
    assert days_of(windows.reference, "old") == (1, 2)
    assert days_of(windows.reference, "new") == (5, 6)
    assert days_of(windows.current, "old") == days_of(windows.current, "new") == (8, 10)


def test_a_ranker_in_its_first_days_is_left_out() -> None:
    windows = split_served_windows(pages(old=(0, 10), new=(9, 10)), CONFIG)
    assert windows is not None
    assert set(windows.current["routed_version"]) == set(windows.reference["routed_version"]) == {"old"}


def test_before_the_first_days_are_over_there_is_no_reference() -> None:
    assert split_served_windows(pages(new=(0, 2)), CONFIG) is None


def test_first_days_that_the_log_has_lost_are_remembered() -> None:
    ends = pl.DataFrame({"routed_version": ["old"], "reference_end": [START + timedelta(days=2)]})
    windows = split_served_windows(pages(old=(6, 8)), CONFIG, reference_ends=ends)
    assert windows is not None
    assert days_of(windows.current, "old") == (7, 8)


def test_scored_lists_are_cut_to_the_places_of_a_page() -> None:
    lists = pl.DataFrame({"request_id": ["l"] * 5, "position": range(5)})
    shown = pl.DataFrame({"request_id": ["a", "a", "b", "b"]})
    assert cut_to_page(lists, shown)["position"].to_list() == [0, 1]
