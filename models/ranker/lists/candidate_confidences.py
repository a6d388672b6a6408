"""How confident the behavior model is in the candidates themselves, read off the lists that it inferred.

A candidate's number is log(confidence / least confidence of the user's list), and 0 where the list does not
name it. So it is the log-probability up to a constant per user, cut off at the end of the list. It costs the
gateway a look-up, not a run of the behavior model. The longer the list (`behavior.decoding.num_inferred`),
the less is cut off.

Legend: C candidates, M candidates of all lists, N lists.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from contracts.array_types import FloatArray, Int32Array, IntArray


def look_up_confidences(
    candidate_ids: Sequence[str], inferred_ids: Sequence[str], scores: Sequence[float]
) -> FloatArray:
    """Log-confidences in the candidates of one request, [C].

    Args:
        candidate_ids: item ids.
        inferred_ids: ids of all items that were inferred for the user.
        scores: confidence of each, in (0, 1].
    """
    if not inferred_ids:
        return np.zeros(len(candidate_ids), np.float32)
    score_by_item, least_score = dict(zip(inferred_ids, scores, strict=True)), min(scores)
    candidate_scores = np.fromiter(
        (score_by_item.get(item_id, least_score) for item_id in candidate_ids), np.float32, len(candidate_ids)
    )
    log_ratios: FloatArray = np.log(candidate_scores / np.float32(least_score))
    return log_ratios


def look_up_listed_confidences(
    candidate_rows: Int32Array, counts: IntArray, inferred_rows: Int32Array, scores: pl.Series
) -> FloatArray:
    """Log-confidences in the candidates of many lists at once, [M].

    Args:
        candidate_rows: rows of the item table, [M].
        counts: candidates of each list, [N].
        inferred_rows: rows of the item table, those of all lists one after the other.
        scores: N lists of their confidences.
    """
    inferred_counts = scores.list.len().fill_null(0).to_numpy()
    confidences = np.zeros(len(candidate_rows), np.float32)
    if not len(inferred_rows):
        return confidences
    flat_scores = scores.filter(scores.list.len() > 0).explode().to_numpy()
    log_ratios = np.log(flat_scores / np.repeat(scores.list.min().fill_null(1).to_numpy(), inferred_counts))
    # A list's number and an item's row, joined in one integer, find the pairs that both sides have.
    table_size = np.int64(max(candidate_rows.max(initial=0), inferred_rows.max()) + 1)
    list_numbers = np.arange(len(counts))
    candidate_keys = np.repeat(list_numbers, counts) * table_size + candidate_rows
    inferred_keys = np.repeat(list_numbers, inferred_counts) * table_size + inferred_rows
    key_order = np.argsort(inferred_keys)
    nearest_keys = np.searchsorted(inferred_keys, candidate_keys, sorter=key_order)
    matches = key_order[np.minimum(nearest_keys, len(key_order) - 1)]
    is_inferred = inferred_keys[matches] == candidate_keys
    confidences[is_inferred] = log_ratios[matches[is_inferred]]
    return confidences
