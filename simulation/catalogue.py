"""The synthetic catalogue: items written from the product types."""

from typing import NamedTuple

import numpy as np
import polars as pl

from contracts.array_types import DoubleArray, FloatArray, IntArray
from contracts.tables import ITEMS
from simulation.config import SimulationConfig
from simulation.shop_world import ProductType, ShopWorld

_SERIES_NAMES = ("One", "Two", "3", "Pro", "Lite", "Plus", "200", "500", "Mini", "XL")
_ROW_SCHEMA = {name: ITEMS.schema[name] for name in ("title", "brand", "category", "description", "price")}


class ShopCatalogue(NamedTuple):
    """The catalogue as users see it, and what only the simulation knows of each item (I items)."""

    items: pl.DataFrame
    """Contract ITEMS."""
    types: IntArray
    """[I] product type."""
    variants: IntArray
    """[I] selling point, index into the world's variants."""
    brands: IntArray
    """[I] brand, counted over all departments."""
    tiers: FloatArray
    """[I] price level within the type, in about [-1, 1]."""
    quality: FloatArray
    """[I] how good it is, standard normal."""
    departments: IntArray
    """[T] department of each product type."""
    days: FloatArray
    """[I] day of the log from which on it can be shown; negative for those there from the start."""

    def append(self, other: "ShopCatalogue") -> "ShopCatalogue":
        """Appends the items of another catalogue of the same world."""
        columns = {name: (value, getattr(other, name)) for name, value in self._asdict().items()}
        items, departments = pl.concat(columns.pop("items")), columns.pop("departments")[0]
        arrays = {name: np.concatenate(pair) for name, pair in columns.items()}
        return ShopCatalogue(items=items, departments=departments, **arrays)


def draw_catalogue(config: SimulationConfig, world: ShopWorld, rng: np.random.Generator) -> ShopCatalogue:
    """Draws the catalogue of `config.num_items` items."""
    num_items = config.num_items
    types = _draw_item_types(num_items, len(world.types), rng)
    is_new = rng.random(num_items) < config.new_item_share
    age_days = np.minimum(rng.exponential(250, num_items), 3000) + 1
    first_days = np.where(is_new, rng.uniform(0, config.num_days * 0.95, num_items), -age_days)
    return draw_items(config, world, rng, types=types, first_days=first_days, first_number=0)


def draw_items(
    config: SimulationConfig,
    world: ShopWorld,
    rng: np.random.Generator,
    *,
    types: IntArray,
    first_days: DoubleArray,
    first_number: int,
) -> ShopCatalogue:
    """Writes one item for each of `types`, shown from `first_days` on; ids count from `first_number`."""
    num_items = len(types)
    drawn_items = [_write_item(world, world.types[kind], config.coarse_category_share, rng) for kind in types]
    first_seconds = pl.Series(np.floor(first_days * 86_400).astype(np.int64))
    rows = pl.DataFrame([item.row for item in drawn_items], schema=_ROW_SCHEMA, orient="row")
    items = rows.with_columns(
        item_id=pl.Series([f"i{first_number + number:05d}" for number in range(num_items)], dtype=pl.String),
        available_at=pl.lit(config.start) + pl.duration(seconds=pl.lit(first_seconds)),
    )
    variant_index = {name: index for index, name in enumerate(world.variants)}
    return ShopCatalogue(
        items=items,
        types=types,
        variants=np.array([variant_index[item.variant] for item in drawn_items], dtype=np.int64),
        brands=np.array([item.brand for item in drawn_items], dtype=np.int64),
        tiers=np.array([item.tier for item in drawn_items], dtype=np.float32),
        quality=rng.standard_normal(num_items).astype(np.float32),
        departments=np.array([kind.department for kind in world.types], dtype=np.int64),
        days=first_days.astype(np.float32),
    )


def _draw_item_types(num_items: int, num_types: int, rng: np.random.Generator) -> IntArray:
    """Draws every type once where there is room, the rest unevenly. The order is random: ids tell nothing."""
    type_sizes = rng.gamma(3.0, size=num_types)
    # No type may be missing: a need whose product is not sold would never show in the log.
    certain_types = rng.permutation(num_types)[:num_items]
    drawn_types = rng.choice(num_types, size=num_items - len(certain_types), p=type_sizes / type_sizes.sum())
    return rng.permutation(np.concatenate([certain_types, drawn_types]))


class _DrawnItem(NamedTuple):
    row: dict[str, str | float | None]
    variant: str
    brand: int
    tier: float


def _write_item(
    world: ShopWorld, kind: ProductType, coarse_share: float, rng: np.random.Generator
) -> _DrawnItem:
    department = world.departments[kind.department]
    brand = int(rng.integers(len(department.brands)))
    title_words = {
        "brand": department.brands[brand],
        "line": _pick_option(world.lines, rng),
        "series": _pick_option(_SERIES_NAMES, rng),
        "name": _pick_option(kind.names, rng),
        "variant": _pick_option(kind.variants, rng),
        "finish": _pick_option(department.finishes, rng),
    }
    tier = float(np.clip((department.tiers[brand] - 1) * 1.2 + rng.normal(0, 0.35), -1, 1))
    row: dict[str, str | float | None] = {
        "title": _pick_option(world.title_patterns, rng).format(**title_words),
        "brand": title_words["brand"],
        "category": _file_category(kind, coarse_share, rng),
        "description": _write_description(kind, title_words, rng),
        "price": _set_item_price(kind, tier),
    }
    brand_offset = sum(len(before.brands) for before in world.departments[: kind.department])
    return _DrawnItem(row, title_words["variant"], brand_offset + brand, tier)


def _file_category(kind: ProductType, coarse_share: float, rng: np.random.Generator) -> str:
    """Gives the category path as the seller filed it: whole, or only its aisle or its department."""
    category_path = kind.category.split(" > ")
    depth = int(rng.integers(1, len(category_path))) if rng.random() < coarse_share else len(category_path)
    return " > ".join(category_path[:depth])


def _pick_option(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _write_description(
    kind: ProductType, title_words: dict[str, str], rng: np.random.Generator
) -> str | None:
    """Writes one to three sentences; one item in ten has none, as in real catalogues."""
    if rng.random() < 0.1:
        return None
    sentences = [kind.text[i] for i in rng.permutation(len(kind.text))[: rng.integers(1, len(kind.text) + 1)]]
    return " ".join([f"{title_words['name']}, {title_words['variant']}.", *sentences])


def _set_item_price(kind: ProductType, tier: float) -> float:
    """Sets a price between the type's ends, geometrically, on a price point."""
    price = kind.price_low * float((kind.price_high / kind.price_low) ** ((tier + 1) / 2))
    return round(price) - 0.01 if price >= 10 else round(price, 1) - 0.01
