"""Semantic ids: short codes of item vectors by product or residual quantisation, unique for each item.

`product` is a simple optimised product quantisation: vectors are rotated onto their principal axes, the axes are dealt
to the slices so that each carries a like share of the variance, and each slice is coded by k-means on its own: parallel
codes, which suit bidirectional decoding. `residual` codes at each level what the level before left (TIGER's RQ). One
further level counts items that share all codes (TIGER, section 3.1), so ids are unique whatever the catalogue.
"""

from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.cluster import KMeans

from models.knowledge.config import SemanticIdConfig

Floats = NDArray[np.float32]
Codes = NDArray[np.int32]


class Codebooks(NamedTuple):
    """What maps vectors (D dimensions) to L codes."""

    method: str
    rotation: Floats
    """[D, D], orthogonal; `product` slices rotated vectors, `residual` uses the identity."""
    slices: tuple[NDArray[np.int64], ...]
    """For each level the rotated dimensions that it codes."""
    centroids: tuple[Floats, ...]
    """For each level [K, size of its slice]."""

    def save(self, path: Path) -> None:
        """Writes rotation, slices and centroids as safetensors."""
        tensors: dict[str, NDArray[Any]] = {"rotation": self.rotation}
        for level, (dims, centroids) in enumerate(zip(self.slices, self.centroids, strict=True)):
            tensors |= {f"slice_{level}": dims, f"centroids_{level}": centroids}
        save_file(tensors, path, metadata={"method": self.method})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `save` wrote."""
        with safe_open(path, framework="numpy") as stored:
            num_levels = sum(name.startswith("centroids_") for name in stored.keys())  # noqa: SIM118 - not a dict
            return cls(
                stored.metadata()["method"],
                stored.get_tensor("rotation"),
                tuple(stored.get_tensor(f"slice_{level}") for level in range(num_levels)),
                tuple(stored.get_tensor(f"centroids_{level}") for level in range(num_levels)),
            )


class SemanticIds(NamedTuple):
    """Codes of N items."""

    codes: Codes
    """[N, L + 1]; the last column tells apart items whose other codes agree."""
    codebooks: Codebooks
    metrics: dict[str, float]


def quantise(vectors: Floats, config: SemanticIdConfig, *, seed: int, order: NDArray[np.str_]) -> SemanticIds:
    """Fits codebooks to `vectors` [N, D] and codes them; among equals, `order` (the item ids) decides."""
    fit = _fit_product if config.method == "product" else _fit_residual
    codebooks = fit(vectors, config, seed)
    codes, rebuilt = encode(vectors, codebooks)
    return _complete(vectors, codes, _count_equals(codes, order), codebooks, rebuilt)


def extend(vectors: Floats, codebooks: Codebooks, item_ids: pl.Series, known: pl.DataFrame) -> SemanticIds:
    """Codes `vectors` [N, D] with codebooks that exist.

    Args:
        vectors: the items' vectors.
        codebooks: fitted before.
        item_ids: the items' ids, [N].
        known: `item_id` and `semantic_id` of the items that have one: they keep it, however their vector changed.
    """
    codes, rebuilt = encode(vectors, codebooks)
    kept = pl.DataFrame({"item_id": item_ids}).join(known, on="item_id", how="left", maintain_order="left")
    is_known = kept["semantic_id"].is_not_null().to_numpy()
    old = np.array(kept["semantic_id"].drop_nulls().to_list(), np.int32).reshape(-1, codes.shape[1] + 1)
    taken = np.array(known["semantic_id"].to_list(), np.int32).reshape(-1, codes.shape[1] + 1)
    last = np.zeros(len(codes), np.int64)
    codes[is_known], last[is_known] = old[:, :-1], old[:, -1]
    if not is_known.all():
        last[~is_known] = _count_on(taken, codes[~is_known], item_ids.to_numpy().astype(str)[~is_known])
    return _complete(vectors, codes, last, codebooks, rebuilt)


def _count_on(taken: Codes, codes: Codes, order: NDArray[np.str_]) -> NDArray[np.int64]:
    """Numbers for new items [N], counted on from the largest that a taken id of the same codes bears."""
    _, group = np.unique(np.concatenate([taken[:, :-1], codes]), axis=0, return_inverse=True)
    highest = np.full(group.max() + 1, -1, np.int64)
    np.maximum.at(highest, group[: len(taken)], taken[:, -1])
    return np.asarray(highest[group[len(taken) :]] + 1 + _count_equals(codes, order))


def _complete(
    vectors: Floats, codes: Codes, last: NDArray[np.int64], codebooks: Codebooks, rebuilt: Floats
) -> SemanticIds:
    metrics = {
        "semantic_id_error": float(((vectors - rebuilt) ** 2).sum() / max(float(_spread(vectors)), 1e-12)),
        "semantic_id_code_use": _code_use(codes, codebooks),
        "semantic_id_collisions": float((last > 0).sum()),
        "semantic_id_largest_group": float(last.max(initial=0) + 1),
    }
    return SemanticIds(np.column_stack([codes, last]).astype(np.int32), codebooks, metrics)


def encode(vectors: Floats, codebooks: Codebooks) -> tuple[Codes, Floats]:
    """Codes [N, L] of vectors [N, D], and the vectors [N, D] that the codes stand for."""
    left = vectors @ codebooks.rotation
    rebuilt = np.zeros_like(left)
    codes = []
    for dims, centroids in zip(codebooks.slices, codebooks.centroids, strict=True):
        code = _nearest(left[:, dims], centroids)
        rebuilt[:, dims] += centroids[code]
        left[:, dims] -= centroids[code]
        codes.append(code)
    return np.column_stack(codes).astype(np.int32), rebuilt @ codebooks.rotation.T


def _fit_product(vectors: Floats, config: SemanticIdConfig, seed: int) -> Codebooks:
    variances, axes = np.linalg.eigh(np.cov(vectors.T, bias=True) if len(vectors) > 1 else np.eye(vectors.shape[1]))
    slices = _deal(variances, config.num_levels)
    rotation = np.ascontiguousarray(axes, dtype=np.float32)
    rotated = vectors @ rotation
    centroids = tuple(_k_means(rotated[:, dims], config, seed + level) for level, dims in enumerate(slices))
    return Codebooks("product", rotation, slices, centroids)


def _fit_residual(vectors: Floats, config: SemanticIdConfig, seed: int) -> Codebooks:
    dims = np.arange(vectors.shape[1])
    left = vectors.copy()
    centroids: list[Floats] = []
    for level in range(config.num_levels):
        centroids.append(_k_means(left, config, seed + level))
        left = left - centroids[-1][_nearest(left, centroids[-1])]
    identity = np.eye(vectors.shape[1], dtype=np.float32)
    return Codebooks("residual", identity, (dims,) * config.num_levels, tuple(centroids))


def _deal(variances: NDArray[np.float64], num_slices: int) -> tuple[NDArray[np.int64], ...]:
    """Deals axes to slices of like size and variance: from the largest on, forth and back, as teams are picked."""
    falling = np.argsort(-variances)
    rounds = -(-len(falling) // num_slices)
    order = np.concatenate([np.arange(num_slices)[:: 1 if turn % 2 == 0 else -1] for turn in range(rounds)])
    return tuple(np.sort(falling[order[: len(falling)] == level]) for level in range(num_slices))


def _k_means(points: Floats, config: SemanticIdConfig, seed: int) -> Floats:
    num_distinct = len(np.unique(points, axis=0))
    if num_distinct <= config.num_codes:
        return np.unique(points, axis=0)
    means = KMeans(config.num_codes, n_init=1, max_iter=config.max_iterations, random_state=seed).fit(points)
    return np.ascontiguousarray(means.cluster_centers_, dtype=np.float32)


def _nearest(points: Floats, centroids: Floats, block: int = 8192) -> NDArray[np.int64]:
    """Nearest centroid of each point; in blocks, so that memory is bounded."""
    norms = (centroids**2).sum(axis=1)
    parts = (points[start : start + block] for start in range(0, len(points), block))
    return np.concatenate([(norms - 2 * part @ centroids.T).argmin(axis=1) for part in parts])


def _count_equals(codes: Codes, order: NDArray[np.str_]) -> NDArray[np.int64]:
    """[N] position of each item among the items of the same codes, in the order of `order`."""
    _, group = np.unique(codes, axis=0, return_inverse=True)
    sorted_rows = np.lexsort((order, group))
    starts = np.flatnonzero(np.diff(group[sorted_rows], prepend=-1))
    sizes = np.diff(np.append(starts, len(codes)))
    position = np.empty(len(codes), dtype=np.int64)
    position[sorted_rows] = np.arange(len(codes)) - np.repeat(starts, sizes)
    return position


def _spread(vectors: Floats) -> np.float32:
    return np.float32(((vectors - vectors.mean(axis=0)) ** 2).sum())


def _code_use(codes: Codes, codebooks: Codebooks) -> float:
    """Share of all codes that some item bears."""
    used = sum(len(np.unique(codes[:, level])) for level in range(codes.shape[1]))
    return used / sum(len(centroids) for centroids in codebooks.centroids)
