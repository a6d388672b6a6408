"""The graph's feed, for one request and for many lists at once.

Both fill the rows of `input_table.py`, and a test holds them equal. No torch here: the gateway imports this
file.

Legend: B lists, C candidates, H history, K inferred.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np

from contracts.array_types import BoolArray, HalfArray, IntArray
from contracts.half_vectors import VECTOR_DTYPE
from models.ranker.inputs.input_table import COLUMN_INPUTS, INPUTS_BY_NAME, VECTOR_LENGTH, Array
from models.ranker.inputs.item_encoder import (
    PADDING,
    SCENE_INDEX,
    UNKNOWN,
    EncodedItems,
    Feed,
    ItemTable,
    encode_event_types,
)
from models.ranker.inputs.ranker_spec import RankerSpec
from models.ranker.lists.candidate_confidences import look_up_confidences
from models.ranker.lists.general_search_unit import search_history
from models.ranker.lists.mapped_lists import RankingLists


def encode_request(
    spec: RankerSpec,
    *,
    candidate_ids: Sequence[str],
    candidates: EncodedItems,
    history: EncodedItems,
    history_event_types: Sequence[str],
    history_ages_s: Sequence[float],
    inferred: EncodedItems,
    inferred_ids: Sequence[str],
    inferred_scores: Sequence[float],
    timestamp: datetime,
    scene: str | None = None,
    context_vector: HalfArray | None = None,
) -> Feed:
    """Builds the graph's feed for one request (B = 1).

    Args:
        spec: the ranker.
        candidate_ids: ids of the C items to be ranked.
        candidates: the same, encoded by the ranker's encoder.
        history: the user's latest items, newest first; longer ones are searched, or cut.
        history_event_types: event type of each.
        history_ages_s: age of each at the time of the request, seconds (not at the time of the stored
            feature).
        inferred: the user's inferred items, most confident first; longer ones are cut.
        inferred_ids: ids of all that were inferred, those of `inferred` first.
        inferred_scores: confidence of each, in (0, 1].
        timestamp: time of the request.
        scene: where the page is shown (`contracts.tables.SCENES`); None: not said.
        context_vector: [D] what the page is about, in the item space; None: not said.
    """
    event_types, ages_s = encode_event_types(history_event_types), np.array(history_ages_s, np.float32)
    if spec.search_length and len(history.ids) > spec.history_length:
        chosen_rows = _search_request(spec, history, candidates)
        history = history.take_items(chosen_rows)
        event_types, ages_s = event_types[chosen_rows], ages_s[chosen_rows]
    items_by_side = {"candidate": candidates, "history": history, "inferred": inferred}
    side_lengths = {
        "candidate": len(candidate_ids),
        "history": spec.history_length,
        "inferred": spec.inferred_length,
        "context": 1,
    }
    columns: dict[str, Array] = {
        "history_types": event_types,
        "history_ages_s": ages_s,
        "inferred_scores": np.array(inferred_scores[: spec.inferred_length], np.float32),
        "confidences": look_up_confidences(candidate_ids, inferred_ids, inferred_scores),
        "times_s": np.array([int(timestamp.timestamp())]),
        "scenes": np.array([SCENE_INDEX.get(scene or "", UNKNOWN)]),
        "context_vectors": np.zeros((1, spec.embedding_dim), VECTOR_DTYPE)
        if context_vector is None
        else context_vector[None],
    }
    feed: Feed = {}
    for tensor in spec.inputs:
        row = INPUTS_BY_NAME[tensor.name]
        if row.column is None:
            values = getattr(items_by_side[row.side], row.field)
        else:
            values = row.convert_column(columns[row.column])
        # The spec's own type: rankers exported before take vectors in single precision.
        feed[tensor.name] = _cut_or_pad(values, side_lengths[row.side])[None].astype(tensor.dtype, copy=False)
    return feed


def _search_request(spec: RankerSpec, history: EncodedItems, candidates: EncodedItems) -> IntArray:
    """Rows of the behaviors that the general search unit keeps of a long history."""
    first_aspect = slice(spec.search_dim)
    history_vectors = history.vectors[: spec.search_length, first_aspect].astype(np.float32)
    candidate_vectors = candidates.vectors[:, first_aspect].astype(np.float32)
    return search_history(history_vectors, candidate_vectors, keep=spec.history_length)


def _cut_or_pad(values: Array, length: int) -> Array:
    if len(values) >= length:
        return values[:length]
    padded: Array = np.zeros((length, *values.shape[1:]), values.dtype)
    padded[: len(values)] = values
    return padded


class GatheredLists(NamedTuple):
    """Some lists as arrays of one shape."""

    item_rows: dict[str, IntArray]
    """Side -> rows of the item table, [B, C], [B, H] or [B, K]; padded."""
    columns: dict[str, Array]
    """Name of each listed input -> its values."""
    flat_rows: IntArray
    """[B, C], where the candidates lie in the flat arrays of the lists."""
    is_real: BoolArray
    """[B, C], False where a list is shorter than the longest."""


def gather_lists(
    lists: RankingLists, chosen: IntArray, *, history: int | None = None, inferred: int | None = None
) -> GatheredLists:
    """Collects the chosen lists [B], padded to the longest of them.

    Args:
        lists: all lists.
        chosen: numbers of those to collect.
        history: behaviors to keep of each; None: as many as the longest of the chosen histories has.
        inferred: the same of the inferred behaviors.
    """
    starts = lists.offsets[chosen]
    counts = lists.offsets[chosen + 1] - starts
    is_real = np.arange(counts.max()) < counts[:, None]
    flat_rows = np.where(is_real, starts[:, None] + np.arange(is_real.shape[1]), starts[:, None])
    # At least one column: an attention over nothing has no maximum.
    if history is None:
        history = max(1, int(lists.lengths[chosen].max()))
    if inferred is None:
        inferred = max(1, int(np.count_nonzero(lists.inferred[chosen], axis=1).max()))
    kept_lengths = {"history": history, "inferred": inferred}
    columns: dict[str, Array] = {}
    for row in COLUMN_INPUTS:
        stored = getattr(lists, str(row.column))
        if row.side == "candidate":
            is_kept = is_real if stored.ndim == 1 else is_real[..., None]
            values = np.where(is_kept, stored[flat_rows], 0)
        elif row.side == "context":
            values = stored[chosen, None]
        else:
            values = stored[chosen, : kept_lengths[row.side]]
        columns[row.name] = row.convert_column(values).astype(row.dtype, copy=False)
    item_rows = {
        "candidate": np.where(is_real, lists.candidates[flat_rows], PADDING).astype(np.int64),
        "history": lists.history[chosen, :history].astype(np.int64),
        "inferred": lists.inferred[chosen, :inferred].astype(np.int64),
    }
    return GatheredLists(item_rows, columns, flat_rows, is_real)


def build_list_feed(spec: RankerSpec, table: ItemTable, gathered: GatheredLists) -> Feed:
    """Builds the feed of lists that were gathered with the spec's lengths."""
    feed: Feed = {}
    for tensor in spec.inputs:
        row = INPUTS_BY_NAME[tensor.name]
        if row.column is None:
            values = getattr(table.encoded_items, row.field)[gathered.item_rows[row.side]]
        else:
            values = gathered.columns[row.name]
            if row.width == VECTOR_LENGTH and not values.shape[-1]:
                # No list says what its page is about.
                values = np.zeros((*values.shape[:-1], spec.embedding_dim), VECTOR_DTYPE)
            assert values.size, f"the lists were encoded without {row.column}, which the ranker reads"
        feed[tensor.name] = values.astype(tensor.dtype, copy=False)
    return feed
