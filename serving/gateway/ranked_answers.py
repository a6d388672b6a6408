"""From scores to an answer's items, and the order without a model."""

from typing import Final

import numpy as np

from contracts.array_types import FloatArray, IntArray
from feature_repo.online.item_cache import ItemFeatures
from serving.gateway.exploration import PageOrder
from serving.gateway.messages import RankedItem
from serving.triton.triton_client import ModelOutputs

_ITEM_OUTPUTS: Final = ("score", "click", "order", "value")


def score_without_model(candidates: ItemFeatures, history: ItemFeatures) -> FloatArray:
    """Scores [C] by likeness to the user's history where vectors are known, else by the given order."""
    given_order = -np.arange(len(candidates.item_ids), dtype=np.float32)
    if not (history.has_vector.any() and candidates.has_vector.any()):
        return given_order
    mean_history = history.vectors[history.has_vector].mean(axis=0, dtype=np.float32)
    similarities = candidates.vectors.astype(np.float32) @ mean_history
    # Candidates without a vector come last; the given order decides among equals.
    return np.where(candidates.has_vector, similarities, -1e3).astype(np.float32) + given_order * 1e-6


def build_ranked_items(
    candidates: ItemFeatures, outputs: ModelOutputs, page: PageOrder, *, needs_vector: bool
) -> list[RankedItem]:
    """The candidates that a page shows, in its order."""
    row_numbers = page.rows.tolist()
    # Whole columns become Python numbers at once: one by one they would cost more than the model.
    output_columns = (
        outputs[output_name][page.rows].tolist() if output_name in outputs else [None] * len(row_numbers)
        for output_name in _ITEM_OUTPUTS
    )
    item_flags = _flag_missing_features(candidates, page.rows, needs_vector)
    return [
        {
            "item_id": candidates.item_ids[row],
            "score": score,
            "propensity": propensity,
            "click": click,
            "order": order,
            "value": value,
            "degraded": list(item_flags.get(row, ())),
        }
        for row, propensity, score, click, order, value in zip(
            row_numbers, page.propensities.tolist(), *output_columns, strict=True
        )
    ]


def _flag_missing_features(items: ItemFeatures, rows: IntArray, needs_vector: bool) -> dict[int, tuple[str]]:
    """Row -> what is missing; rows of which nothing is do not stand there."""
    without_vector = rows[~items.has_vector[rows]].tolist() if needs_vector else []
    item_flags: dict[int, tuple[str]] = dict.fromkeys(without_vector, ("no_vector",))
    return item_flags | dict.fromkeys(rows[~items.is_stored[rows]].tolist(), ("unknown_item",))
