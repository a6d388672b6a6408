"""Semantic ids (SID): short codes of item vectors by residual quantization, unique for each item.

Each level codes by k-means what the level before left (Rajput et al. 2023, TIGER). One further level counts
items that share all codes (TIGER, section 3.1), so ids are unique whatever the catalogue.
"""

from pathlib import Path
from typing import Final, NamedTuple, Self

import numpy as np
import polars as pl
from safetensors.numpy import load_file, save_file
from sklearn.cluster import KMeans

from contracts.array_types import FloatArray, Int32Array, IntArray
from models.knowledge.config import SemanticIdConfig

_MAX_ITERATIONS: Final = 25
"""Of k-means: its centroids hardly move after so many."""
_BLOCK_ROWS: Final = 8192
"""Vectors that are compared with all centroids at once: bounds the memory."""


class Codebooks(NamedTuple):
    """What maps vectors [N, D] to L codes."""

    centroids: tuple[FloatArray, ...]
    """For each level [V, D]."""

    def save_tensors(self, path: Path) -> None:
        """Writes the centroids as safetensors."""
        save_file({f"centroids_{level}": values for level, values in enumerate(self.centroids)}, path)

    @classmethod
    def load_tensors(cls, path: Path) -> Self:
        """Reads what `save_tensors` wrote."""
        tensors = load_file(path)
        return cls(tuple(tensors[f"centroids_{level}"] for level in range(len(tensors))))


class SemanticIds(NamedTuple):
    """Semantic ids of N items."""

    codes: Int32Array
    """[N, L + 1]; the last column tells apart items whose other codes agree."""
    codebooks: Codebooks
    metrics: dict[str, float]


def fit_semantic_ids(
    vectors: FloatArray, item_ids: pl.Series, config: SemanticIdConfig, *, seed: int
) -> SemanticIds:
    """Fits codebooks to vectors [N, D] and codes them; items of equal codes are numbered in the order of
    their ids."""
    codebooks = _fit_codebooks(vectors, config, seed)
    codes, rebuilt_vectors = encode_vectors(vectors, codebooks)
    return _assemble_ids(vectors, codes, _number_equal_codes(codes, item_ids), codebooks, rebuilt_vectors)


def extend_semantic_ids(
    vectors: FloatArray, codebooks: Codebooks, item_ids: pl.Series, coded_items: pl.DataFrame
) -> SemanticIds:
    """Codes vectors [N, D] with codebooks that exist.

    Args:
        vectors: The items' vectors.
        codebooks: Fitted before.
        item_ids: The items' ids, [N].
        coded_items: `item_id` and `semantic_id` of the items that have one. They keep it, however their
            vector changed.
    """
    codes, rebuilt_vectors = encode_vectors(vectors, codebooks)
    id_length = codes.shape[1] + 1
    joined_items = pl.DataFrame({"item_id": item_ids}).join(
        coded_items, on="item_id", how="left", maintain_order="left"
    )
    has_id = joined_items["semantic_id"].is_not_null().to_numpy()
    kept_ids, all_ids = (
        np.array(column.to_list(), np.int32).reshape(-1, id_length)
        for column in (joined_items["semantic_id"].drop_nulls(), coded_items["semantic_id"])
    )
    last_codes = np.zeros(len(codes), np.int64)
    codes[has_id], last_codes[has_id] = kept_ids[:, :-1], kept_ids[:, -1]
    if not has_id.all():
        last_codes[~has_id] = _number_new_items(all_ids, codes[~has_id], item_ids.filter(~has_id))
    return _assemble_ids(vectors, codes, last_codes, codebooks, rebuilt_vectors)


def encode_vectors(vectors: FloatArray, codebooks: Codebooks) -> tuple[Int32Array, FloatArray]:
    """Returns codes [N, L] of vectors [N, D], and the vectors [N, D] that the codes stand for."""
    residuals = vectors.copy()
    rebuilt_vectors = np.zeros_like(vectors)
    level_codes = []
    for centroids in codebooks.centroids:
        nearest_rows = _find_nearest_centroids(residuals, centroids)
        rebuilt_vectors += centroids[nearest_rows]
        residuals -= centroids[nearest_rows]
        level_codes.append(nearest_rows)
    return np.column_stack(level_codes).astype(np.int32), rebuilt_vectors


def _fit_codebooks(vectors: FloatArray, config: SemanticIdConfig, seed: int) -> Codebooks:
    residuals = vectors.copy()
    level_centroids: list[FloatArray] = []
    for level in range(config.num_levels):
        centroids = _fit_centroids(residuals, config.num_codes, seed + level)
        level_centroids.append(centroids)
        residuals = residuals - centroids[_find_nearest_centroids(residuals, centroids)]
    return Codebooks(tuple(level_centroids))


def _fit_centroids(points: FloatArray, num_codes: int, seed: int) -> FloatArray:
    distinct_points = np.unique(points, axis=0)
    if len(distinct_points) <= num_codes:  # k-means needs more points than codes
        return distinct_points
    clusters = KMeans(num_codes, n_init=1, max_iter=_MAX_ITERATIONS, random_state=seed).fit(points)
    return np.ascontiguousarray(clusters.cluster_centers_, dtype=np.float32)


def _find_nearest_centroids(points: FloatArray, centroids: FloatArray) -> IntArray:
    squared_norms = (centroids**2).sum(axis=1)
    blocks = (points[start : start + _BLOCK_ROWS] for start in range(0, len(points), _BLOCK_ROWS))
    # The square of the point itself is the same for all centroids.
    return np.concatenate([(squared_norms - 2 * block @ centroids.T).argmin(axis=1) for block in blocks])


def _number_equal_codes(codes: Int32Array, item_ids: pl.Series) -> IntArray:
    """Returns [N] the position of each item among the items of the same codes, in the order of their ids."""
    _, code_groups = np.unique(codes, axis=0, return_inverse=True)
    sorted_rows = np.lexsort((item_ids.to_numpy().astype(str), code_groups))
    group_starts = np.flatnonzero(np.diff(code_groups[sorted_rows], prepend=-1))
    group_sizes = np.diff(np.append(group_starts, len(codes)))
    positions = np.empty(len(codes), dtype=np.int64)
    positions[sorted_rows] = np.arange(len(codes)) - np.repeat(group_starts, group_sizes)
    return positions


def _number_new_items(all_ids: Int32Array, codes: Int32Array, item_ids: pl.Series) -> IntArray:
    """Returns numbers [N] of new items, counted on from the largest that an id of the same codes bears."""
    _, code_groups = np.unique(np.concatenate([all_ids[:, :-1], codes]), axis=0, return_inverse=True)
    highest_numbers = np.full(code_groups.max() + 1, -1, np.int64)
    np.maximum.at(highest_numbers, code_groups[: len(all_ids)], all_ids[:, -1])
    first_free_numbers = highest_numbers[code_groups[len(all_ids) :]] + 1
    return np.asarray(first_free_numbers + _number_equal_codes(codes, item_ids))


def _assemble_ids(
    vectors: FloatArray,
    codes: Int32Array,
    last_codes: IntArray,
    codebooks: Codebooks,
    rebuilt_vectors: FloatArray,
) -> SemanticIds:
    squared_error = ((vectors - rebuilt_vectors) ** 2).sum()
    squared_spread = float(((vectors - vectors.mean(axis=0)) ** 2).sum())
    num_used_codes = sum(len(np.unique(codes[:, level])) for level in range(codes.shape[1]))
    metrics = {
        "semantic_id_error": float(squared_error / max(squared_spread, 1e-12)),
        "semantic_id_code_use": num_used_codes / sum(map(len, codebooks.centroids)),
        "semantic_id_collisions": float((last_codes > 0).sum()),
        "semantic_id_largest_group": float(last_codes.max(initial=0) + 1),
    }
    return SemanticIds(np.column_stack([codes, last_codes]).astype(np.int32), codebooks, metrics)
