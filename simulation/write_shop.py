"""Writes the embedded shop: the public tables, and beside them the truth that only evaluation may read."""

from pathlib import Path

import numpy as np
import polars as pl

from contracts.artifacts import create_artifact, read_lineage, read_table, write_table
from contracts.errors import UserError
from contracts.tables import EVENT_TYPES, EVENTS, ITEMS
from simulation.catalogue import ShopCatalogue, draw_catalogue
from simulation.config import SimulationConfig
from simulation.later_days.reserve import extend_shop, extend_state
from simulation.population import Population, draw_population, list_phase_spans
from simulation.shop_world import load_shop_world, scale_life_elsewhere
from simulation.simulate_log import DAY_S, ShopState, SimulatedLog, build_event_table, simulate_log
from simulation.simulated_shop import SimulatedShop

TRUTH_FOLDER = "truth"
WORLD_FILE, CATALOGUE_FILE = "world.npz", "catalogue.parquet"


def write_shop(config: SimulationConfig, *, out: Path) -> None:
    """Simulates the shop and writes it to `out`, an artifact folder.

    `items.parquet` and `events.parquet` keep the contracts ITEMS and EVENTS. `truth/needs.parquet` (who
    was in which phase of which need, when) and `truth/elsewhere.parquet` (purchases in other shops) are
    for evaluation. `truth/world.npz` and `truth/catalogue.parquet`, which also holds the items that come
    later, are what `simulation.simulated_traffic` and `simulation.living_shop` go on from.
    """
    world = scale_life_elsewhere(load_shop_world(), config.elsewhere_factor)
    generators = np.random.default_rng(config.seed).spawn(4)
    catalogue = draw_catalogue(config, world, generators[0])
    population = draw_population(config, world, generators[1])
    shop = SimulatedShop(config, world, catalogue, population)
    simulated_log = simulate_log(shop, generators[2])
    events = build_event_table(simulated_log, shop)
    whole_shop = extend_shop(shop, generators[3])
    with create_artifact(out, kind="shop", inputs={}, config=config) as artifact:
        write_table(artifact.path / "items.parquet", ITEMS, catalogue.items)
        write_table(artifact.path / "events.parquet", EVENTS, events)
        (artifact.path / TRUTH_FOLDER).mkdir()
        _write_truth(artifact.path / TRUTH_FOLDER, shop, simulated_log)
        _write_world(artifact.path / TRUTH_FOLDER, whole_shop, extend_state(simulated_log.state, whole_shop))
        artifact.metrics.update(_count_events(catalogue, events, simulated_log))


def _count_events(catalogue: ShopCatalogue, events: pl.DataFrame, log: SimulatedLog) -> dict[str, float]:
    event_counts = dict(events.group_by("event_type").len().iter_rows())
    impressions = event_counts.get("impression", 0)
    return {
        "items": len(catalogue.types),
        "users": events["user_id"].n_unique(),
        **{f"{kind}s": event_counts.get(kind, 0) for kind in EVENT_TYPES},
        "ctr": event_counts.get("click", 0) / max(impressions, 1),
        "elsewhere": sum(len(day.users) for day in log.elsewhere),
    }


def _write_truth(folder: Path, shop: SimulatedShop, log: SimulatedLog) -> None:
    _list_user_needs(shop).write_parquet(folder / "needs.parquet")
    _list_elsewhere_purchases(shop, log).write_parquet(folder / "elsewhere.parquet")


def _write_world(folder: Path, shop: SimulatedShop, state: ShopState) -> None:
    write_table(folder / CATALOGUE_FILE, ITEMS, shop.catalogue.items)
    arrays = {f"catalogue_{name}": v for name, v in shop.catalogue._asdict().items() if name != "items"}
    arrays |= {f"population_{name}": np.asarray(v) for name, v in shop.population._asdict().items()}
    np.savez_compressed(folder / WORLD_FILE, allow_pickle=False, **arrays, **state.list_arrays())


def read_shop_state(folder: Path) -> tuple[SimulatedShop, ShopState]:
    """Reads a written shop with its reserve, and its state at the end of the log.

    Raises:
        UserError: `folder` is not a simulated shop.
    """
    world_file = folder / TRUTH_FOLDER / WORLD_FILE
    if not world_file.is_file():
        raise UserError(
            f"{folder} is not a simulated shop: traffic can only be simulated for the embedded one."
        )
    with np.load(world_file, allow_pickle=False) as stored:
        arrays = dict(stored)
    items = read_table(folder / TRUTH_FOLDER / CATALOGUE_FILE, ITEMS)
    catalogue = {name: arrays.get(f"catalogue_{name}", items) for name in ShopCatalogue._fields}
    population = {name: arrays[f"population_{name}"] for name in Population._fields}
    population["user_ids"] = tuple(population["user_ids"].tolist())
    config = SimulationConfig.model_validate(read_lineage(folder).config)
    world = scale_life_elsewhere(load_shop_world(), config.elsewhere_factor)
    shop = SimulatedShop(config, world, ShopCatalogue(**catalogue), Population(**population))
    return shop, ShopState.from_arrays(arrays)


def _compute_moment(config: SimulationConfig, seconds: pl.Expr) -> pl.Expr:
    return pl.lit(config.start) + pl.duration(seconds=seconds.round().cast(pl.Int64))


def _list_user_needs(shop: SimulatedShop) -> pl.DataFrame:
    config, world, population = shop.config, shop.world, shop.population
    spans = list_phase_spans(population, world)
    user_ids = pl.Series(population.user_ids, dtype=pl.String)
    need_ids = pl.Series(world.need_ids)
    first_phase = pl.Series(world.first_phase)
    return spans.select(
        user_id=user_ids.gather(spans["user"]),
        need=need_ids.gather(spans["need"]),
        phase=pl.col("phase") - first_phase.gather(spans["need"]),
        starts_at=_compute_moment(config, pl.col("start_day") * DAY_S),
        ends_at=_compute_moment(config, pl.col("end_day") * DAY_S),
    ).sort("user_id", "starts_at", "need")


def _list_elsewhere_purchases(shop: SimulatedShop, log: SimulatedLog) -> pl.DataFrame:
    config, world, catalogue, population = shop.config, shop.world, shop.catalogue, shop.population
    users = np.concatenate([day.users for day in log.elsewhere])
    items = np.concatenate([day.items for day in log.elsewhere])
    days = np.repeat(np.arange(len(log.elsewhere)), [len(day.users) for day in log.elsewhere])
    seconds = days * DAY_S + np.concatenate([day.seconds for day in log.elsewhere])
    type_ids = np.array([kind.type_id for kind in world.types])
    frame = pl.DataFrame({"seconds": seconds, "product_type": type_ids[catalogue.types[items]]})
    return frame.select(
        user_id=pl.Series(population.user_ids, dtype=pl.String).gather(users),
        timestamp=_compute_moment(config, pl.col("seconds")),
        item_id=catalogue.items["item_id"].gather(items),
        product_type=pl.col("product_type"),
    ).sort("timestamp", "user_id", "item_id")
