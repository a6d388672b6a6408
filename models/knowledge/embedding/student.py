"""The student places a text in the space from its words alone: a query has no knowledge.

It is the trained projection without its knowledge inputs. Ridge regression corrects its linear map, so that
it puts items where the teacher, which sees the knowledge, puts them. On held-out items the agreement of
nearest neighbors is measured.
"""

from typing import Final, NamedTuple

import numpy as np
import torch

from contracts.array_types import FloatArray, IntArray
from models.knowledge.embedding.projection import Projection

NUM_NEIGHBORS: Final = 10
_MAX_MEASURED: Final = 2000
_HELD_OUT_SHARE: Final = 0.1
"""Of the items: the student that is measured never learned from these."""
_RIDGE: Final = 0.1
"""Added to the inputs' second moments. Between .01 and .3 the recall hardly changes."""
_QUERIES_PER_BLOCK: Final = 64
"""Items whose cosines with the whole catalogue are held at once."""
_MIN_ITEMS: Final = 100
"""Smaller catalogues hold nothing out: a handful of items would tell nothing."""


class TrainedStudent(NamedTuple):
    """A student and how it did."""

    student: Projection
    recall10: float | None
    """Share of the teacher's 10 nearest neighbors that a student finds which learned from nine tenths of the
    items; None without held-out items."""


def train_student(
    teacher: Projection, texts: FloatArray, points: FloatArray, catalogue: FloatArray, *, seed: int
) -> TrainedStudent:
    """Distills a teacher's points into a map of raw-text inputs alone.

    Args:
        teacher: The trained projection.
        texts: [I, W] raw-text inputs, the projection's first ones.
        points: [I, D] where the teacher puts the items by their inputs, without their residuals.
        catalogue: [I, D] unit vectors of the items, residuals included: among these neighbors are looked up.
        seed: Of the draw of held-out items.
    """
    shuffled_items = np.random.default_rng(seed).permutation(len(texts))
    num_held_out = int(_HELD_OUT_SHARE * len(texts)) if len(texts) >= _MIN_ITEMS else 0
    held_out_items, training_items = shuffled_items[:num_held_out], shuffled_items[num_held_out:]
    recall = None
    if num_held_out:
        measured_items = held_out_items[:_MAX_MEASURED]
        measured = _fit_teacher_points(teacher, texts[training_items], points[training_items])
        measured_points = measured.project_views(texts[measured_items])
        recall = measure_neighbor_recall(
            measured_points, points[measured_items], catalogue, own=measured_items
        )
    return TrainedStudent(_fit_teacher_points(teacher, texts, points), recall)


def _fit_teacher_points(teacher: Projection, texts: FloatArray, points: FloatArray) -> Projection:
    student = teacher.keep_inputs(texts.shape[1])
    moments = (texts.T @ texts).astype(np.float64) + _RIDGE * np.eye(texts.shape[1])
    correction = np.linalg.solve(moments, texts.T @ (points - student.project_views(texts)))
    with torch.no_grad():
        student.linear.weight += torch.from_numpy(correction.T.astype(np.float32))
    return student


def measure_neighbor_recall(
    student_points: FloatArray, teacher_points: FloatArray, catalogue: FloatArray, *, own: IntArray
) -> float:
    """Share of the teacher's nearest neighbors that are the student's too.

    Args:
        student_points: [N, D] points of some items.
        teacher_points: [N, D] points of the same items.
        catalogue: [I, D] unit vectors among which neighbors are sought.
        own: [N] these items' rows in it: none is a neighbor of itself.
    """
    num_neighbors = min(NUM_NEIGHBORS, len(catalogue) - 1)
    is_shared = []
    for first_query in range(0, len(own), _QUERIES_PER_BLOCK):
        block = slice(first_query, first_query + _QUERIES_PER_BLOCK)
        teacher_neighbors, student_neighbors = (
            _find_nearest_items(points[block], catalogue, own[block], num_neighbors)
            for points in (teacher_points, student_points)
        )
        is_shared.append((teacher_neighbors[:, :, None] == student_neighbors[:, None, :]).any(-1))
    return float(np.concatenate(is_shared).mean())


def _find_nearest_items(
    queries: FloatArray, catalogue: FloatArray, own: IntArray, num_neighbors: int
) -> IntArray:
    cosines = queries @ catalogue.T
    cosines[np.arange(len(own)), own] = -np.inf
    return np.argpartition(cosines, -num_neighbors, axis=1)[:, -num_neighbors:]
