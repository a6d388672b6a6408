"""Knowledge similarity of candidates to a history, through each item's nearest neighbours.

Shape letters: B users, T positions, N items, V length of the knowledge vector, K neighbours.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.behavior.catalogue import FloatArray
from models.behavior.tensors import Batch

_BLOCK = 1024


@dataclass(frozen=True)
class Neighbors:
    """The nearest other items of each item."""

    items_nk: Tensor
    """Their indices."""
    margins_nk: Tensor
    """Cosine less the cosine of the K-th neighbour, so that an item just outside the list (0) loses nothing."""


def nearest_neighbors(vectors: FloatArray, num_neighbors: int) -> Neighbors:
    """Exact nearest neighbours by cosine, in blocks of bounded memory.

    Args:
        vectors: unit vectors, [N, V].
        num_neighbors: K; at most N - 1 are found.
    """
    vectors_nv = torch.from_numpy(vectors)
    count = min(num_neighbors, len(vectors) - 1)
    found = [_block(vectors_nv, start, count) for start in range(0, len(vectors), _BLOCK)]
    items_nk, cosines_nk = (torch.cat(parts) for parts in zip(*found, strict=True))
    furthest = cosines_nk[:, -1:] if count else cosines_nk
    return Neighbors(items_nk, cosines_nk - furthest)


def history_similarity(neighbors: Neighbors, batch: Batch) -> Tensor:
    """Largest margin of each item over the behaviours of each user, [B, N], at least 0."""
    items_btk = neighbors.items_nk[batch.items_bt]
    margins_btk = neighbors.margins_nk[batch.items_bt] * batch.valid_bt[..., None]
    similarity_bn = torch.zeros(len(batch.items_bt), len(neighbors.items_nk))
    return similarity_bn.scatter_reduce_(1, items_btk.flatten(1), margins_btk.flatten(1), "amax")


def _block(vectors_nv: Tensor, start: int, count: int) -> tuple[Tensor, Tensor]:
    cosines = vectors_nv[start : start + _BLOCK] @ vectors_nv.T
    rows = torch.arange(len(cosines))
    cosines[rows, start + rows] = -torch.inf
    values, items = cosines.topk(count, dim=1)
    return items, values
