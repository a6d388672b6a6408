"""The general search unit (GSU): of a long history, the behaviors that bear on a request's candidates.

It runs before the graph, once a request and for all candidates together (paper, section 3.1). The graph then
attends to a short history, however long the searched one was. Similarity is the cosine of the first aspect,
as in MUSE (arXiv 2512.07216). A few pivots stand for the candidates, so the work grows with the history
alone.

Legend: L long history, H kept, C candidates, P pivots, d first aspect of a vector.
"""

from typing import NamedTuple

import numpy as np

from contracts.array_types import FloatArray, HalfArray, IntArray

# Products per behavior, however many candidates there are.
NUM_PIVOTS = 8
_RECENT_SHARE = 0.5


class HistorySearch(NamedTuple):
    """How the histories of encoded lists are searched."""

    vectors: FloatArray
    """First aspect of each row of the item table, [rows, d]."""
    length: int
    """L: behaviors looked at."""
    fold_vectors: FloatArray | None = None
    """The same as learned without the users of each fold, [folds, rows, d]. Training lists are searched by
    them: their users' own clicks would otherwise say what is alike."""

    def select_vectors(self, fold: int) -> FloatArray:
        """Vectors by which the histories of a fold's users are searched."""
        return self.vectors if self.fold_vectors is None else self.fold_vectors[fold]


def plan_search(item_vectors: HalfArray, *, length: int, dim: int) -> HistorySearch | None:
    """Plans to search `length` behaviors by the leading `dim` numbers of item vectors; None where `length` is
    0."""
    return HistorySearch(item_vectors[:, :dim].astype(np.float32), length) if length else None


def search_history(history_Ld: FloatArray, candidates_Cd: FloatArray, *, keep: int) -> IntArray:
    """Finds the rows of the behaviors to keep, in their order (newest first).

    Half of them are the newest: what a user is about just now counts for every candidate. The others are
    those of the rest that are most like some pivot of the candidates.

    Args:
        history_Ld: vectors of the behaviors, newest first.
        candidates_Cd: vectors of the candidates.
        keep: H.
    """
    history_length = len(history_Ld)
    if history_length <= keep:
        return np.arange(history_length)
    num_recent = round(_RECENT_SHARE * keep)
    num_searched = keep - num_recent
    similarity_LP = history_Ld[num_recent:] @ choose_pivots(candidates_Cd, NUM_PIVOTS).T
    # Along the long axis the greatest is found many times faster than along the short one.
    best_similarity_L = np.ascontiguousarray(similarity_LP.T).max(0)
    searched_rows = np.argpartition(-best_similarity_L, num_searched - 1)[:num_searched]
    return np.concatenate([np.arange(num_recent), num_recent + np.sort(searched_rows)])


def choose_pivots(vectors_Cd: FloatArray, num_pivots: int) -> FloatArray:
    """Directions that stand for the vectors: means of those nearest to `num_pivots` that lie far apart."""
    if len(vectors_Cd) <= num_pivots:
        return vectors_Cd
    seed_rows = [0]
    closest_C = vectors_Cd @ vectors_Cd[0]
    # Farthest-point selection: the next seed is the vector least like those chosen.
    for _ in range(num_pivots - 1):
        seed_rows.append(int(closest_C.argmin()))
        closest_C = np.maximum(closest_C, vectors_Cd @ vectors_Cd[seed_rows[-1]])
    # Means, not the seeds themselves: seeds lie at the rim of what they stand for.
    nearest_C = (vectors_Cd @ vectors_Cd[seed_rows].T).argmax(1)
    sums_Pd = (nearest_C == np.arange(num_pivots)[:, None]).astype(np.float32) @ vectors_Cd
    pivots_Pd: FloatArray = sums_Pd / np.maximum(np.linalg.norm(sums_Pd, axis=1, keepdims=True), 1e-6)
    return pivots_Pd
