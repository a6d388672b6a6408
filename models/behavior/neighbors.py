"""Scores of items by the items of a history, as tables: a row holds what one behaviour says of all items.

Shape letters: B users, T positions, N items, K neighbours kept per item, V length of a vector.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.behavior.associations import votes
from models.behavior.tensors import Batch

_BLOCK = 1024


@dataclass(frozen=True)
class Everything:
    """What each item says of every item, exactly."""

    values_nn: Tensor

    def sum_over(self, batch: Batch) -> Tensor:
        """As of `Neighbors`."""
        counted_bt = batch.valid_bt.to(self.values_nn.dtype)
        return functional.embedding_bag(batch.items_bt, self.values_nn, mode="sum", per_sample_weights=counted_bt)


@dataclass(frozen=True)
class Neighbors:
    """What each item says of others: of K it is kept exactly, of all the rest as one mean."""

    items_nk: Tensor
    """Indices of the items kept, int32."""
    values_nk: Tensor
    """What is said of them, less the row's `rest`."""
    rest_n: Tensor
    """What is said of every other item."""

    def sum_over(self, batch: Batch) -> Tensor:
        """What the behaviours of each user say of every item, summed, [B, N]."""
        items_btk = self.items_nk[batch.items_bt].long()
        values_btk = self.values_nk[batch.items_bt] * batch.valid_bt[..., None]
        rest_b = (self.rest_n[batch.items_bt] * batch.valid_bt).sum(1, keepdim=True)
        total_bn = rest_b.repeat(1, len(self.items_nk))
        return total_bn.scatter_add_(1, items_btk.flatten(1), values_btk.flatten(1))


def keep_largest(rows: Tensor, first: int, count: int, *, keep_rest: bool) -> Neighbors:
    """The largest values of rows of a table; an item says nothing of itself.

    Args:
        rows: items `first`, `first` + 1, ... of the table, [R, N]; is changed.
        first: the first row's item.
        count: values K kept per row; fewer where there are fewer other items.
        keep_rest: do the others count by their mean? Otherwise as 0.
    """
    own = torch.arange(len(rows))
    rows[own, first + own] = -torch.inf
    values, items = rows.topk(min(count, rows.shape[1] - 1), dim=1)
    rows[own, first + own] = 0.0
    others = rows.shape[1] - 1 - values.shape[1]
    rest = (rows.sum(1) - values.sum(1)) / max(others, 1) * (keep_rest and others > 0)
    return Neighbors(items.int(), values - rest[:, None], rest)


def stack(parts: list[Neighbors]) -> Neighbors:
    """Tables of some items each as one."""
    return Neighbors(
        torch.cat([part.items_nk for part in parts]),
        torch.cat([part.values_nk for part in parts]),
        torch.cat([part.rest_n for part in parts]),
    )


def association_table(vectors_nv: Tensor, sharpness: float, *, count: int, max_exact: int) -> Everything | Neighbors:
    """What each item says of all items, from `associations.votes`.

    Args:
        vectors_nv: unit vectors.
        sharpness: of the exponential.
        count: neighbours K kept per item of a large catalogue.
        max_exact: catalogues up to this many items are kept whole (4 bytes x this squared).
    """
    num_items = len(vectors_nv)
    blocks = ((first, vectors_nv[first : first + _BLOCK]) for first in range(0, num_items, _BLOCK))
    rows = ((first, votes(block @ vectors_nv.T, sharpness)) for first, block in blocks)
    if num_items > max_exact:
        return stack([keep_largest(said, first, count, keep_rest=True) for first, said in rows])
    values_nn = torch.empty(num_items, num_items)
    for first, said in rows:
        values_nn[first : first + _BLOCK] = said
    return Everything(values_nn)
