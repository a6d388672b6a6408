"""The hand-written world: product types and life situations, as arrays.

Shape letters: T product types, N needs, P phases of all needs in file order, V selling points (variants).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import yaml

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


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
class World:
    """The world's knowledge of products and situations; nothing of it is random."""

    lines: tuple[str, ...]
    title_patterns: tuple[str, ...]
    departments: tuple[Department, ...]
    types: tuple[ProductType, ...]
    variants: tuple[str, ...]
    need_ids: tuple[str, ...]
    need_weights: Floats
    """[N] how common each need is."""
    month_factors: Floats
    """[N, 12] factor of each calendar month."""
    first_phase: Ints
    """[N + 1] phases of need n are first_phase[n] up to first_phase[n + 1]."""
    phase_days: Floats
    """[P] length in days."""
    phase_wants: Floats
    """[P, T] how much a type is wanted."""
    phase_elsewhere: Floats
    """[P, T] share of its acts that happen in other shops."""
    phase_prefers: Floats
    """[P, V] 1 where a selling point matters."""
    follows: Floats
    """[T, T] who has acquired the row's type wants the column's."""
    consumable: Bools
    """[T] is it bought again soon?"""


@cache
def load_world() -> World:
    """Reads the packaged catalogue.yaml and needs.yaml."""
    catalogue = _read("catalogue.yaml")
    needs = _read("needs.yaml")
    types = tuple(_types(catalogue["departments"]))
    variants = tuple(sorted({variant for kind in types for variant in kind.variants}))
    return World(
        lines=tuple(catalogue["lines"]),
        title_patterns=tuple(catalogue["title_patterns"]),
        departments=tuple(_department(entry) for entry in catalogue["departments"]),
        types=types,
        variants=variants,
        **_need_arrays(needs, [kind.type_id for kind in types], variants),
    )


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((Path(__file__).parent / name).read_text(encoding="utf-8"))
    return content


def _department(entry: Mapping[str, Any]) -> Department:
    tiers = entry["tiers"]
    return Department(entry["name"], tuple(tiers), tuple(tiers.values()), tuple(entry["finishes"]))


def _types(departments: Iterable[Mapping[str, Any]]) -> Iterable[ProductType]:
    for index, department in enumerate(departments):
        for entry in department["types"]:
            low, high = map(float, entry["price"])
            names, variants, text = (tuple(entry[key]) for key in ("names", "variants", "text"))
            yield ProductType(entry["id"], index, entry["category"], low, high, names, variants, text)


def _need_arrays(content: Mapping[str, Any], type_ids: list[str], variants: tuple[str, ...]) -> dict[str, Any]:
    needs = content["needs"]
    phases = [(need, phase) for need in needs for phase in need["phases"]]
    columns = {name: column for column, name in enumerate(type_ids)}
    default = content["default_elsewhere"]
    return {
        "need_ids": tuple(need["id"] for need in needs),
        "need_weights": np.array([need["weight"] for need in needs], dtype=np.float32),
        "month_factors": _matrix([_by_month(need.get("months", {})) for need in needs], range(1, 13), 1.0),
        "first_phase": np.cumsum([0, *(len(need["phases"]) for need in needs)]),
        "phase_days": np.array([phase["days"] for _, phase in phases], dtype=np.float32),
        "phase_wants": _matrix([phase["wants"] for _, phase in phases], type_ids, 0.0),
        "phase_elsewhere": _matrix([need["elsewhere"] for need, _ in phases], type_ids, default),
        "phase_prefers": _matrix([dict.fromkeys(phase["prefers"], 1.0) for _, phase in phases], variants, 0.0),
        "follows": _follows(needs, columns),
        "consumable": np.isin(type_ids, content["consumables"]),
    }


def _by_month(months: Mapping[int, float]) -> dict[int, float]:
    return {int(month): factor for month, factor in months.items()}


def _matrix(rows: list[Any], names: Iterable[Any], default: float) -> Floats:
    columns = {name: column for column, name in enumerate(names)}
    matrix = np.full((len(rows), len(columns)), default, dtype=np.float32)
    for index, row in enumerate(rows):
        for name, value in row.items():
            matrix[index, columns[name]] = value  # a KeyError is a typing error in the packaged YAML
    return matrix


def _follows(needs: list[Mapping[str, Any]], columns: Mapping[str, int]) -> Floats:
    matrix = np.zeros((len(columns), len(columns)), dtype=np.float32)
    for need in needs:
        for first, wanted in need["follows"].items():
            for second, strength in wanted.items():
                cell = columns[first], columns[second]
                matrix[cell] = max(matrix[cell], strength)
    return matrix
