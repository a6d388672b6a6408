"""The graph's feed for many lists at once: the encoded catalogue looked up at the lists' items.

It builds the same arrays as `encoding.encode_request` does for one request (a test holds them equal).
"""

import numpy as np
import numpy.typing as npt

from models.ranker.encoding import PADDING, Feed, Ints, encode_moments
from models.ranker.records import RankingRows
from models.ranker.rows import ItemTable
from models.ranker.spec import RankerSpec


def candidate_grid(rows: RankingRows, chosen: npt.NDArray[np.int64]) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Positions [B, C] of the chosen lists' candidates in the flat arrays, and which of them are real."""
    starts = rows.offsets[chosen]
    counts = rows.offsets[chosen + 1] - starts
    filled = np.arange(counts.max()) < counts[:, None]
    return np.where(filled, starts[:, None] + np.arange(filled.shape[1]), starts[:, None]), filled


def build_feed(spec: RankerSpec, table: ItemTable, rows: RankingRows, chosen: npt.NDArray[np.int64]) -> Feed:
    """The inputs that the ranker takes, for the chosen lists; shorter lists are padded with empty candidates."""
    places, filled = candidate_grid(rows, chosen)
    length, inferred_length = spec.history_length, spec.inferred_length
    sides = {
        "candidate": np.where(filled, rows.candidates[places], PADDING),
        "history": rows.history[chosen, :length],
        "inferred": rows.inferred[chosen, :inferred_length],
    }
    feed: Feed = {
        "history_types": rows.history_types[chosen, :length].astype(np.int64),
        "history_ages_s": np.array(rows.history_ages_s[chosen, :length]),
        "inferred_scores": np.array(rows.inferred_scores[chosen, :inferred_length]),
    }
    names = spec.input_names
    feed |= encode_moments(rows.times_s[chosen, None])
    if spec.features.confidences:
        feed["candidate_confidences"] = np.where(filled, rows.confidences[places], 0)
    if spec.features.statistics:
        assert rows.statistics.shape[1], "rows were encoded without the log, the ranker reads statistics"
        feed["candidate_statistics"] = np.where(filled[..., None], rows.statistics[places], 0)
    for side, items in sides.items():
        for field, values in table.features._asdict().items():
            if f"{side}_{field}" in names:
                feed[f"{side}_{field}"] = values[items]
    return {tensor.name: feed[tensor.name].astype(tensor.dtype, copy=False) for tensor in spec.inputs}
