"""The general search unit: of a long history, the behaviours that bear on a request's candidates (paper, section 3.1).

It runs before the graph, once a request and for all candidates together: the graph then attends to a short history, as
long as ever, however much was searched. Similarity is the cosine of the first aspect (of the whole vector where
the ranker looks through a lens), as in MUSE (arXiv 2512.07216).

Many candidates are searched for by a few pivots, so that the work grows with the history alone.

Legend: L long history, H kept, C candidates, P pivots, d first aspect of a vector.
"""

# ruff: noqa: N803, N806 (shape suffixes)
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

NUM_PIVOTS = 8
_RECENT_SHARE = 0.5


class Search(NamedTuple):
    """How a history is searched."""

    vectors: Floats
    """First aspect of each row of the item table, [rows, d]."""
    length: int
    """L: behaviours looked at."""
    folds: Floats | None = None
    """The same vectors as learnt without the users of each fold, [folds, rows, d]: for training lists, whose users'
    own clicks would otherwise say what is alike."""

    def vectors_of(self, fold: int) -> Floats:
        """Vectors by which the histories of a fold's users are searched."""
        return self.vectors if self.folds is None else self.folds[fold]


def search_history(history_Ld: Floats, candidates_Cd: Floats, *, keep: int) -> Ints:
    """Places of the behaviours to keep, in their order (newest first).

    Half of them are the newest, whatever they are: what a user is about just now counts for every candidate. The
    others are those of the rest that are most alike to some pivot of the candidates.

    Args:
        history_Ld: vectors of the behaviours, newest first.
        candidates_Cd: vectors of the candidates.
        keep: H.
    """
    total = len(history_Ld)
    if total <= keep:
        return np.arange(total)
    recent = round(_RECENT_SHARE * keep)
    similarity_LP = history_Ld[recent:] @ pivots(candidates_Cd, NUM_PIVOTS).T
    # Along the long axis the greatest is found many times faster than along the short one.
    closest = np.ascontiguousarray(similarity_LP.T).max(0)
    found = np.argpartition(-closest, keep - recent - 1)[: keep - recent]
    return np.concatenate([np.arange(recent), recent + np.sort(found)])


def pivots(vectors_Cd: Floats, count: int) -> Floats:
    """At most `count` directions that stand for the vectors: means of those nearest to some that lie far apart."""
    if len(vectors_Cd) <= count:
        return vectors_Cd
    chosen = [0]
    closest = vectors_Cd @ vectors_Cd[0]
    for _ in range(count - 1):
        chosen.append(int(closest.argmin()))
        closest = np.maximum(closest, vectors_Cd @ vectors_Cd[chosen[-1]])
    nearest = (vectors_Cd @ vectors_Cd[chosen].T).argmax(1)
    sums = (nearest == np.arange(count)[:, None]).astype(np.float32) @ vectors_Cd
    found: Floats = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)
    return found
