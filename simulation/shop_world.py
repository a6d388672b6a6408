"""The hand-written world: product types and life situations, as arrays.

Shape letters: T product types, N needs, P phases of all needs in file order, V selling points (variants),
Q queries, X = T + P + 1 intents of a visit: a product type, a phase that the visitor is in, or nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from contracts.array_types import BoolArray, FloatArray, IntArray

_MAIN_FOCUS, _SIDE_FOCUS = 1.4, 0.6
"""A want counts more while the visitor looks for its product, and less while they look for another."""
_MAX_ELSEWHERE = np.float32(0.95)


class ProductType(NamedTuple):
    """One product type of catalogue.yaml."""

    type_id: str
    department: int
    category: str
    price_low: float
    price_high: float
    names: tuple[str, ...]
    variants: tuple[str, ...]
    text: tuple[str, ...]


class Department(NamedTuple):
    """What the types of a department share."""

    name: str
    brands: tuple[str, ...]
    tiers: tuple[float, ...]
    """Price level of each brand; 1 is the middle of a type's range."""
    finishes: tuple[str, ...]


@dataclass(frozen=True)
class ShopWorld:
    """The world's knowledge of products and situations; nothing of it is random."""

    lines: tuple[str, ...]
    title_patterns: tuple[str, ...]
    departments: tuple[Department, ...]
    types: tuple[ProductType, ...]
    variants: tuple[str, ...]
    need_ids: tuple[str, ...]
    need_weights: FloatArray
    """[N] how common each need is."""
    month_factors: FloatArray
    """[N, 12] factor of each calendar month."""
    first_phase: IntArray
    """[N + 1] phases of need n are first_phase[n] up to first_phase[n + 1]."""
    phase_days: FloatArray
    """[P] length in days."""
    phase_wants: FloatArray
    """[P, T] how much a type is wanted."""
    phase_elsewhere: FloatArray
    """[P, T] share of its acts that happen in other shops."""
    phase_prefers: FloatArray
    """[P, V] 1 where a selling point matters."""
    follows: FloatArray
    """[T, T] who has acquired the row's type wants the column's."""
    consumable: BoolArray
    """[T] is it bought again soon?"""
    queries: tuple[str, ...]
    """Q phrases that shoppers type, sorted by intent."""
    query_starts: IntArray
    """[X + 1] the phrases of intent x are query_starts[x] up to query_starts[x + 1]; the last x has none."""
    query_endings: tuple[str, ...]
    """What is added to a phrase, which stands for `{}`."""
    ignored_words: frozenset[str]
    """Words that the search field does not match."""
    focus: FloatArray
    """[X, T] factor of each want while a visitor looks for the row's intent."""


@cache
def load_shop_world() -> ShopWorld:
    """Reads the packaged catalogue.yaml, needs.yaml and queries.yaml."""
    catalogue = _read_packaged_yaml("catalogue.yaml")
    needs = _read_packaged_yaml("needs.yaml")
    queries = _read_packaged_yaml("queries.yaml")
    types = tuple(_parse_product_types(catalogue["departments"]))
    variants = tuple(sorted({variant for kind in types for variant in kind.variants}))
    need_arrays = _build_need_arrays(needs, [kind.type_id for kind in types], variants)
    return ShopWorld(
        lines=tuple(catalogue["lines"]),
        title_patterns=tuple(catalogue["title_patterns"]),
        departments=tuple(_parse_department(entry) for entry in catalogue["departments"]),
        types=types,
        variants=variants,
        **need_arrays,
        **_list_queries(queries, needs, [kind.type_id for kind in types]),
        focus=_build_focus(need_arrays["phase_wants"]),
    )


def scale_life_elsewhere(world: ShopWorld, factor: float) -> ShopWorld:
    """Scales the share of acts in other shops; some of everything stays here."""
    return replace(
        world, phase_elsewhere=np.minimum(world.phase_elsewhere * np.float32(factor), _MAX_ELSEWHERE)
    )


def _read_packaged_yaml(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((Path(__file__).parent / name).read_text(encoding="utf-8"))
    return content


def _parse_department(entry: Mapping[str, Any]) -> Department:
    brand_tiers = entry["tiers"]
    finishes = tuple(entry["finishes"])
    return Department(entry["name"], tuple(brand_tiers), tuple(brand_tiers.values()), finishes)


def _parse_product_types(departments: Iterable[Mapping[str, Any]]) -> Iterable[ProductType]:
    for index, department in enumerate(departments):
        for entry in department["types"]:
            low, high = map(float, entry["price"])
            names, variants, text = (tuple(entry[key]) for key in ("names", "variants", "text"))
            yield ProductType(entry["id"], index, entry["category"], low, high, names, variants, text)


def _build_need_arrays(
    content: Mapping[str, Any], type_ids: list[str], variants: tuple[str, ...]
) -> dict[str, Any]:
    needs = content["needs"]
    need_phases = [(need, phase) for need in needs for phase in need["phases"]]
    columns = {name: column for column, name in enumerate(type_ids)}
    default_elsewhere = content["default_elsewhere"]
    return {
        "need_ids": tuple(need["id"] for need in needs),
        "need_weights": np.array([need["weight"] for need in needs], dtype=np.float32),
        "month_factors": _build_matrix([need.get("months", {}) for need in needs], range(1, 13), 1.0),
        "first_phase": np.cumsum([0, *(len(need["phases"]) for need in needs)]),
        "phase_days": np.array([phase["days"] for _, phase in need_phases], dtype=np.float32),
        "phase_wants": _build_matrix([phase["wants"] for _, phase in need_phases], type_ids, 0.0),
        "phase_elsewhere": _build_matrix(
            [need["elsewhere"] for need, _ in need_phases], type_ids, default_elsewhere
        ),
        "phase_prefers": _build_matrix(
            [dict.fromkeys(phase["prefers"], 1.0) for _, phase in need_phases], variants, 0.0
        ),
        "follows": _build_follows_matrix(needs, columns),
        "consumable": np.isin(type_ids, content["consumables"]),
    }


def _build_matrix(rows: list[Any], names: Iterable[Any], default: float) -> FloatArray:
    columns = {name: column for column, name in enumerate(names)}
    matrix = np.full((len(rows), len(columns)), default, dtype=np.float32)
    for index, row in enumerate(rows):
        for name, value in row.items():
            matrix[index, columns[name]] = value  # a KeyError is a typing error in the packaged YAML
    return matrix


def _build_follows_matrix(needs: list[Mapping[str, Any]], columns: Mapping[str, int]) -> FloatArray:
    matrix = np.zeros((len(columns), len(columns)), dtype=np.float32)
    for need in needs:
        for first, followers in need["follows"].items():
            for second, strength in followers.items():
                cell = columns[first], columns[second]
                matrix[cell] = max(matrix[cell], strength)
    return matrix


def _list_queries(
    content: Mapping[str, Any], needs: Mapping[str, Any], type_ids: Iterable[str]
) -> dict[str, Any]:
    product_phrases = [content["products"][type_id] for type_id in type_ids]
    situation_phrases = [
        content["situations"][need["id"]][phase["name"]]
        for need in needs["needs"]
        for phase in need["phases"]
    ]
    # Who looks for nothing types nothing: the last intent has no phrase.
    phrases_by_intent = [*product_phrases, *situation_phrases, []]
    return {
        "queries": tuple(phrase for phrases in phrases_by_intent for phrase in phrases),
        "query_starts": np.cumsum([0, *map(len, phrases_by_intent)]),
        "query_endings": tuple(content["endings"]),
        "ignored_words": frozenset(content["ignored"]),
    }


def _build_focus(phase_wants: FloatArray) -> FloatArray:
    num_types = phase_wants.shape[1]
    is_looked_for = np.concatenate([np.eye(num_types, dtype=np.bool_), phase_wants > 0])
    focus = np.where(is_looked_for, _MAIN_FOCUS, _SIDE_FOCUS)
    return np.concatenate([focus, np.ones((1, num_types))]).astype(np.float32)
