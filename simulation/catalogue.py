"""The synthetic catalogue: items written from the product types."""

from typing import NamedTuple

import numpy as np
import polars as pl

from simulation.config import SimulationConfig
from simulation.world import Bools, Floats, Ints, ProductType, World

_SERIES = ("One", "Two", "3", "Pro", "Lite", "Plus", "200", "500", "Mini", "XL")


class Catalogue(NamedTuple):
    """The catalogue as users see it, and what only the simulation knows of each item (I items)."""

    items: pl.DataFrame
    """Contract ITEMS."""
    types: Ints
    """[I] product type."""
    variants: Ints
    """[I] selling point, index into the world's variants."""
    brands: Ints
    """[I] brand, counted over all departments."""
    tiers: Floats
    """[I] price level within the type, in about [-1, 1]."""
    quality: Floats
    """[I] how good it is, standard normal."""
    departments: Ints
    """[T] department of each product type."""
    days: Floats
    """[I] day of the log from which on it can be shown; negative for those there from the start."""


def make_catalogue(config: SimulationConfig, world: World, rng: np.random.Generator) -> Catalogue:
    """Draws the catalogue of `config.num_items` items."""
    types = _draw_types(config.num_items, len(world.types), rng)
    drawn = [_write_item(world, world.types[kind], config.coarse_category_share, rng) for kind in types]
    is_new = rng.random(config.num_items) < config.new_item_share
    age_days = np.minimum(rng.exponential(250, config.num_items), 3000) + 1
    days = np.where(is_new, rng.uniform(0, config.num_days * 0.95, config.num_items), -age_days)
    seconds = pl.Series(np.floor(days * 86_400).astype(np.int64))
    items = pl.DataFrame([item.row for item in drawn], infer_schema_length=None).with_columns(
        item_id=pl.Series([f"i{number:05d}" for number in range(config.num_items)]),
        available_at=pl.lit(config.start) + pl.duration(seconds=pl.lit(seconds)),
    )
    names = {name: index for index, name in enumerate(world.variants)}
    return Catalogue(
        items=items,
        types=types,
        variants=np.array([names[item.variant] for item in drawn], dtype=np.int64),
        brands=np.array([item.brand for item in drawn], dtype=np.int64),
        tiers=np.array([item.tier for item in drawn], dtype=np.float32),
        quality=rng.standard_normal(config.num_items).astype(np.float32),
        departments=np.array([kind.department for kind in world.types], dtype=np.int64),
        days=days.astype(np.float32),
    )


def _draw_types(num_items: int, num_types: int, rng: np.random.Generator) -> Ints:
    """Every type once where there is room, the rest unevenly; in random order, so that ids tell nothing."""
    sizes = rng.gamma(3.0, size=num_types)
    certain = rng.permutation(num_types)[:num_items]
    drawn = rng.choice(num_types, size=num_items - len(certain), p=sizes / sizes.sum())
    return rng.permutation(np.concatenate([certain, drawn]))


class _Item(NamedTuple):
    row: dict[str, str | float | None]
    variant: str
    brand: int
    tier: float


def _write_item(world: World, kind: ProductType, coarse_share: float, rng: np.random.Generator) -> _Item:
    department = world.departments[kind.department]
    brand = int(rng.integers(len(department.brands)))
    words = {
        "brand": department.brands[brand],
        "line": _pick(world.lines, rng),
        "series": _pick(_SERIES, rng),
        "name": _pick(kind.names, rng),
        "variant": _pick(kind.variants, rng),
        "finish": _pick(department.finishes, rng),
    }
    tier = float(np.clip((department.tiers[brand] - 1) * 1.2 + rng.normal(0, 0.35), -1, 1))
    row: dict[str, str | float | None] = {
        "title": _pick(world.title_patterns, rng).format(**words),
        "brand": words["brand"],
        "category": _filed_under(kind, coarse_share, rng),
        "description": _describe(kind, words, rng),
        "price": _price(kind, tier),
    }
    offset = sum(len(before.brands) for before in world.departments[: kind.department])
    return _Item(row, words["variant"], offset + brand, tier)


def _filed_under(kind: ProductType, coarse_share: float, rng: np.random.Generator) -> str:
    """The category path as the seller gave it: whole, or only its aisle or its department."""
    path = kind.category.split(" > ")
    depth = int(rng.integers(1, len(path))) if rng.random() < coarse_share else len(path)
    return " > ".join(path[:depth])


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _describe(kind: ProductType, words: dict[str, str], rng: np.random.Generator) -> str | None:
    """One to three sentences; one item in ten has none, as in real catalogues."""
    if rng.random() < 0.1:
        return None
    sentences = [kind.text[i] for i in rng.permutation(len(kind.text))[: rng.integers(1, len(kind.text) + 1)]]
    return " ".join([f"{words['name']}, {words['variant']}.", *sentences])


def _price(kind: ProductType, tier: float) -> float:
    """Geometric between the type's ends, on a price point."""
    price = kind.price_low * float((kind.price_high / kind.price_low) ** ((tier + 1) / 2))
    return round(price) - 0.01 if price >= 10 else round(price, 1) - 0.01


def available(catalogue: Catalogue, day: float) -> Bools:
    """[I] the items that can be shown on `day`."""
    return catalogue.days <= day
