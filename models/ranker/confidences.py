"""How confident the behaviour model is in the candidates themselves, read off the lists that it inferred.

A candidate's number is log(confidence / least confidence of the user's list), and 0 where the list does not name it:
the log-probability up to a constant per user, cut off below at the end of the list. So it costs the gateway a look-up,
not a run of the behaviour model, and the longer the list (`behavior.decoding.num_inferred`), the less is cut off.

Legend: C candidates, M candidates of all lists, N lists.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

Floats = npt.NDArray[np.float32]


def own_confidences(candidates: Sequence[str], inferred: Sequence[str], scores: Sequence[float]) -> Floats:
    """Of one request, [C].

    Args:
        candidates: item ids.
        inferred: ids of all items that were inferred for the user.
        scores: confidence of each, in (0, 1].
    """
    if not inferred:
        return np.zeros(len(candidates), np.float32)
    known, least = dict(zip(inferred, scores, strict=True)), min(scores)
    found = np.fromiter((known.get(item, least) for item in candidates), np.float32, len(candidates))
    ratios: Floats = np.log(found / np.float32(least))
    return ratios


def list_confidences(
    candidates: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int64],
    inferred: npt.NDArray[np.int32],
    scores: pl.Series,
) -> Floats:
    """Of many lists at once, [M].

    Args:
        candidates: rows of the item table, [M].
        counts: candidates of each list, [N].
        inferred: rows of the item table, those of all lists one after the other.
        scores: N lists of their confidences.
    """
    lengths = scores.list.len().fill_null(0).to_numpy()
    found = np.zeros(len(candidates), np.float32)
    if not len(inferred):
        return found
    ratios = np.log(_flat(scores) / np.repeat(scores.list.min().fill_null(1).to_numpy(), lengths))
    size = np.int64(max(candidates.max(initial=0), inferred.max()) + 1)
    ours = np.repeat(np.arange(len(counts)), counts) * size + candidates
    theirs = np.repeat(np.arange(len(counts)), lengths) * size + inferred
    order = np.argsort(theirs)
    places = order[np.minimum(np.searchsorted(theirs, ours, sorter=order), len(order) - 1)]
    is_named = theirs[places] == ours
    found[is_named] = ratios[places[is_named]]
    return found


def _flat(lists: pl.Series) -> Floats:
    return lists.filter(lists.list.len() > 0).explode().to_numpy()
