"""Is drift found where it was planted, and only there? On pages of the embedded shop, by week."""

import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import polars as pl

from benchmarks.monitoring.served_world import (
    FeatureTables,
    ServedWorld,
    join_windows,
    replace_vectors,
)
from benchmarks.shared.results import Row, make_row
from monitoring.config import MonitoringConfig
from monitoring.drift.drift_report import compare_served_windows
from monitoring.drift.window_tables import Windows
from simulation.config import SimulationConfig
from simulation.write_shop import write_shop

_REQUESTS_A_WEEK: Final = 3000
_WEEKS: Final = 6
_MIN_REQUESTS: Final = 100
Pages = tuple[pl.DataFrame, pl.DataFrame]


class PlantedShift(NamedTuple):
    """A fault of the second week."""

    name: str
    columns: frozenset[str]
    """One of these has to be named."""
    change_tables: Callable[[FeatureTables], FeatureTables] = lambda tables: tables
    change_window: Callable[[pl.DataFrame, np.random.Generator], pl.DataFrame] = lambda window, _: window


def measure_drift(*, quick: bool = False) -> Iterator[Row]:
    """Share of planted shifts that one week shows, and false alarms in 100 undisturbed weeks.

    The quick form measures fewer worlds and scales the alarms.
    """
    config = MonitoringConfig()
    num_worlds, num_shift_worlds = (2, 1) if quick else (20, 3)
    data = f"embedded shop, {_REQUESTS_A_WEEK:,} requests a week, one ranker"
    with tempfile.TemporaryDirectory() as folder:
        shop = Path(folder) / "shop"
        write_shop(SimulationConfig(), out=shop)
        world = ServedWorld(shop)
        found = [
            is_shift_found(world, shift, seed=seed, config=config)
            for seed in range(num_shift_worlds)
            for shift in SHIFTS
        ]
        yield make_row("monitoring.drift.found", float(np.mean(found)), unit="share", data=data)
        alarms = [
            bool(compare_served_windows(windows, config).findings)
            for seed in range(num_worlds)
            for windows in iter_undisturbed_windows(world, seed=100 + seed, config=config)
        ]
        yield make_row(
            "monitoring.drift.false_alarms_100",
            100 * float(np.mean(alarms)),
            unit="windows",
            better="lower",
            data=data,
        )


def is_shift_found(world: ServedWorld, shift: PlantedShift, *, seed: int, config: MonitoringConfig) -> bool:
    """Does the first week after the reference name a column of the shift?"""
    findings = compare_served_windows(plant_shift(world, shift, seed=seed, config=config), config).findings
    return bool(shift.columns & {finding.column for finding in findings})


def plant_shift(world: ServedWorld, shift: PlantedShift, *, seed: int, config: MonitoringConfig) -> Windows:
    """Two weeks of pages, the second with the shift."""
    pages = world.show_pages(seed=seed, num_requests=2 * _REQUESTS_A_WEEK, num_days=14.0)
    tables = world.tables, shift.change_tables(world.tables)
    windows = join_windows(pages, tables, config)
    changed = shift.change_window(windows.current, np.random.default_rng(seed))
    assert changed["request_id"].n_unique() >= _MIN_REQUESTS
    return windows._replace(current=changed)


def iter_undisturbed_windows(world: ServedWorld, *, seed: int, config: MonitoringConfig) -> Iterator[Windows]:
    """Each week after the first, compared with the first."""
    pages = world.show_pages(seed=seed, num_requests=_WEEKS * _REQUESTS_A_WEEK, num_days=7.0 * _WEEKS)
    for week in range(2, _WEEKS + 1):
        yield join_windows(pages, (world.tables, world.tables), config, until=timedelta(days=7 * week))


def _change_items(**columns: pl.Expr) -> Callable[[FeatureTables], FeatureTables]:
    return lambda tables: tables._replace(items=tables.items.with_columns(**columns))


def _change_vectors(
    change: Callable[[np.ndarray, np.random.Generator], np.ndarray],
) -> Callable[[FeatureTables], FeatureTables]:
    def change_tables(tables: FeatureTables) -> FeatureTables:
        vectors = np.vstack(tables.item_embeddings["embedding"].to_list()).astype(np.float32)
        changed = change(vectors, np.random.default_rng(5))
        return tables._replace(item_embeddings=replace_vectors(tables.item_embeddings, changed))

    return change_tables


def _rotate(vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rotation, _ = np.linalg.qr(rng.standard_normal((vectors.shape[1], vectors.shape[1])))
    return vectors @ rotation.astype(np.float32)


def _change_teacher(vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half of the axes hold knowledge; another teacher puts every item somewhere else on them."""
    half = vectors.shape[1] // 2
    mixing = rng.standard_normal((half, half)).astype(np.float32) / np.float32(np.sqrt(half))
    return np.concatenate([vectors[:, :half], vectors[:, half:] @ mixing + 0.03], axis=1)


def _lose_values(name: str, share: float) -> Callable[[pl.DataFrame, np.random.Generator], pl.DataFrame]:
    def change_window(window: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
        is_kept = pl.Series(rng.random(len(window)) >= share)
        return window.with_columns(pl.when(is_kept).then(name).alias(name))

    return change_window


def _keep_requests(condition: pl.Expr) -> Callable[[pl.DataFrame, np.random.Generator], pl.DataFrame]:
    """Keeps the requests that meet a condition, and a third of the others: the mix changes."""

    def change_window(window: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
        requests = window.group_by("request_id", maintain_order=True).agg(is_meant=condition.first())
        is_kept = pl.Series(rng.random(len(requests)) < 1 / 3) | requests["is_meant"].fill_null(False)
        return window.join(requests.filter(is_kept), on="request_id", how="semi", maintain_order="left")

    return change_window


def _flag_degraded(window: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    requests = window.select(pl.col("request_id").unique(maintain_order=True))
    broken = requests.filter(pl.Series(rng.random(len(requests)) < 0.1))["request_id"].implode()
    is_broken = pl.col("request_id").is_in(broken)
    return window.with_columns(
        degraded=pl.when(is_broken).then(1.0).otherwise("degraded"),
        degraded_causes=pl.when(is_broken).then(pl.lit(["feature_store"])).otherwise("degraded_causes"),
    )


SHIFTS: Final = (
    PlantedShift(
        "prices rise by a quarter", frozenset({"price"}), _change_items(price=pl.col("price") * 1.25)
    ),
    PlantedShift(
        "prices in cents in one category",
        frozenset({"price"}),
        _change_items(
            price=pl.when(pl.col("category").str.starts_with("Garden"))
            .then(pl.col("price") * 100)
            .otherwise("price")
        ),
    ),
    PlantedShift(
        "category mix",
        frozenset({"category"}),
        change_window=_keep_requests(pl.col("category").is_in(["Electronics", "Garden", "Sports"])),
    ),
    PlantedShift("embedding rotation", frozenset({"embedding"}), _change_vectors(_rotate)),
    PlantedShift("another teacher", frozenset({"embedding"}), _change_vectors(_change_teacher)),
    PlantedShift(
        "95 % of the prices missing", frozenset({"price"}), change_window=_lose_values("price", 0.95)
    ),
    PlantedShift(
        "5 % of the prices missing", frozenset({"price"}), change_window=_lose_values("price", 0.05)
    ),
    PlantedShift("all scores missing", frozenset({"score"}), change_window=_lose_values("score", 1.0)),
    PlantedShift(
        "all vectors missing", frozenset({"embedding"}), change_window=_lose_values("embedding", 1.0)
    ),
    PlantedShift(
        "broken feature: histories end after three behaviors",
        frozenset({"history_length"}),
        change_window=lambda window, _: window.with_columns(pl.col("history_length").clip(0, 3)),
    ),
    PlantedShift(
        "broken feature: nothing is inferred",
        frozenset({"inferred_length"}),
        change_window=lambda window, _: window.with_columns(inferred_length=pl.lit(0.0)),
    ),
    PlantedShift(
        "population: more new users",
        frozenset({"is_new_user", "history_length"}),
        change_window=_keep_requests(pl.col("history_length") <= 3),
    ),
    PlantedShift(
        "population: search", frozenset({"scene"}), change_window=_keep_requests(pl.col("scene") == "search")
    ),
    PlantedShift("a tenth of the answers degraded", frozenset({"degraded"}), change_window=_flag_degraded),
    PlantedShift(
        "clicks fall by a third at the same scores",
        frozenset({"calibration"}),
        change_window=lambda window, rng: window.with_columns(
            click=pl.col("click") & pl.Series(rng.random(len(window)) < 2 / 3)
        ),
    ),
)
"""What the second week may bring."""
