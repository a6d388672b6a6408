"""Writes the embedded shop: the public tables, and beside them the truth that only evaluation may read."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from contracts.artifacts import new_artifact, write_table
from contracts.tables import EVENTS, ITEMS
from simulation.catalogue import Catalogue, make_catalogue
from simulation.config import SimulationConfig
from simulation.log import DAY_S, ShopState, SimulatedLog, events_frame, simulate_log
from simulation.population import Population, make_population, phase_spans
from simulation.world import World, load_world

TRUTH_FOLDER = "truth"


def write_shop(config: SimulationConfig, *, out: Path) -> None:
    """Simulates the shop and writes it to `out`, an artifact folder.

    `items.parquet` and `events.parquet` keep the contracts ITEMS and EVENTS. `truth/needs.parquet` (who was in which
    phase of which need, when) and `truth/elsewhere.parquet` (purchases in other shops) are for evaluation;
    `truth/world.npz` is what `simulation.traffic` goes on from.
    """
    world = load_world()
    streams = np.random.default_rng(config.seed).spawn(3)
    catalogue = make_catalogue(config, world, streams[0])
    population = make_population(config, world, streams[1])
    log = simulate_log(config, world, catalogue, population, streams[2])
    events = events_frame(log, config, catalogue=catalogue, population=population)
    with new_artifact(out, kind="shop", inputs={}, config=config) as artifact:
        write_table(artifact.path / "items.parquet", ITEMS, catalogue.items)
        write_table(artifact.path / "events.parquet", EVENTS, events)
        _write_truth(artifact.path / TRUTH_FOLDER, config, world, catalogue, population, log)
        artifact.metrics.update(_metrics(catalogue, events, log))


def _metrics(catalogue: Catalogue, events: pl.DataFrame, log: SimulatedLog) -> dict[str, float]:
    counts = dict(events.group_by("event_type").len().iter_rows())
    impressions = counts.get("impression", 0)
    return {
        "items": len(catalogue.types),
        "users": events["user_id"].n_unique(),
        **{f"{kind}s": counts.get(kind, 0) for kind in ("impression", "click", "cart", "order")},
        "ctr": counts.get("click", 0) / max(impressions, 1),
        "elsewhere": sum(len(day.users) for day in log.elsewhere),
    }


def _write_truth(
    folder: Path,
    config: SimulationConfig,
    world: World,
    catalogue: Catalogue,
    population: Population,
    log: SimulatedLog,
) -> None:
    folder.mkdir()
    spans = phase_spans(population, world)
    _needs_frame(spans, config, world, population).write_parquet(folder / "needs.parquet")
    _elsewhere_frame(config, world, catalogue, population, log).write_parquet(folder / "elsewhere.parquet")
    np.savez_compressed(folder / "world.npz", allow_pickle=False, **_arrays(catalogue, population, log.state))


def _arrays(catalogue: Catalogue, population: Population, state: ShopState) -> dict[str, npt.NDArray[Any]]:
    return {
        **{f"catalogue_{name}": value for name, value in catalogue._asdict().items() if name != "items"},
        **{f"population_{name}": np.asarray(value) for name, value in population._asdict().items()},
        "supplied": state.household.supplied,
        "called_for": state.household.called_for,
        "clicks": state.policy.clicks,
        "recent": state.policy.recent,
    }


def _moment(config: SimulationConfig, seconds: pl.Expr) -> pl.Expr:
    return pl.lit(config.start) + pl.duration(seconds=seconds.round().cast(pl.Int64))


def _needs_frame(spans: pl.DataFrame, config: SimulationConfig, world: World, population: Population) -> pl.DataFrame:
    user_ids = pl.Series(population.user_ids, dtype=pl.String)
    needs = pl.Series(world.need_ids)
    first = pl.Series(world.first_phase)
    return spans.select(
        user_id=user_ids.gather(spans["user"]),
        need=needs.gather(spans["need"]),
        phase=pl.col("phase") - first.gather(spans["need"]),
        starts_at=_moment(config, pl.col("start_day") * DAY_S),
        ends_at=_moment(config, pl.col("end_day") * DAY_S),
    ).sort("user_id", "starts_at", "need")


def _elsewhere_frame(
    config: SimulationConfig, world: World, catalogue: Catalogue, population: Population, log: SimulatedLog
) -> pl.DataFrame:
    users = np.concatenate([day.users for day in log.elsewhere])
    items = np.concatenate([day.items for day in log.elsewhere])
    days = np.repeat(np.arange(len(log.elsewhere)), [len(day.users) for day in log.elsewhere])
    seconds = days * DAY_S + np.concatenate([day.seconds for day in log.elsewhere])
    type_ids = np.array([kind.type_id for kind in world.types])
    frame = pl.DataFrame({"seconds": seconds, "product_type": type_ids[catalogue.types[items]]})
    return frame.select(
        user_id=pl.Series(population.user_ids, dtype=pl.String).gather(users),
        timestamp=_moment(config, pl.col("seconds")),
        item_id=catalogue.items["item_id"].gather(items),
        product_type=pl.col("product_type"),
    ).sort("timestamp", "user_id", "item_id")
