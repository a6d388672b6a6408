"""Top items of huge catalogues at a cost below linear: a beam over semantic ids, then exact scores of a shortlist.

Shape letters: B queries, D width, N items, K codes of a level, M items of a shortlist, W nodes of a beam, C children.

A query scores items by query . vector + prior. An item's vector is nearly the sum of one centroid per code, so K
products per level give every item's score but for what its codes leave of it. The beam keeps the best first codes, then
the best pairs of first and second code that any item has, each by its sum and the largest prior of its items; the items
of these pairs are scored by all their codes, and the best of them exactly. Sources: inverted multi-index (Babenko and
Lempitsky, 2012), scoring by tables (Jegou et al., product quantization, 2011).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

_MOST_OF_BUDGET = 8
"""No pair of codes takes more than this part of the items looked at; of larger ones the likeliest are."""
NOTHING = -1
"""Stands in a shortlist where there are fewer items."""


class Shortlist(NamedTuple):
    """The best items found for each query, by their codes: a shorter list is the start of a longer one."""

    items_bm: Tensor
    """Indices; `NOTHING` where there are fewer."""
    scores_bm: Tensor
    """query . vector + prior, exactly; minus infinity where there is nothing."""


@dataclass(frozen=True)
class CodeIndex:
    """A catalogue ordered by the first two codes of its semantic ids."""

    table_nd: Tensor
    prior_n: Tensor
    codes_nl: Tensor
    centroids: tuple[Tensor, ...]
    """Per level, [K, D]."""
    order_n: Tensor
    """Items by first code, second code, falling prior."""
    start_kk: Tensor
    """Where in `order_n` the items of a pair of codes start."""
    size_kk: Tensor
    """How many they are."""
    prior_kk: Tensor
    """The largest prior among them; minus infinity without any."""

    def search(
        self, queries_bd: Tensor, size: int, *, first: int = 48, pairs: int = 256, items: int = 4096
    ) -> Shortlist:
        """The items with about the largest scores.

        Args:
            queries_bd: the queries.
            size: items M of the shortlist.
            first: first codes kept.
            pairs: pairs of codes kept.
            items: how many of their items are scored by their codes, at most.
        """
        parts = [queries_bd @ centroids.T for centroids in self.centroids]
        pairs_bw, sums_bw = self._best_pairs(parts, first, pairs)
        items_bc, scores_bc = self._score_by_codes(parts, pairs_bw, sums_bw, items)
        best = scores_bc.topk(min(size, scores_bc.shape[1]), dim=1)
        items_bm = items_bc.gather(1, best.indices)
        exact_bm = torch.einsum("bd,bmd->bm", queries_bd, self.table_nd[items_bm]) + self.prior_n[items_bm]
        is_item_bm = best.values > -torch.inf
        return Shortlist(items_bm.where(is_item_bm, NOTHING), exact_bm.where(is_item_bm, -torch.inf))

    def _best_pairs(self, parts: list[Tensor], first: int, pairs: int) -> tuple[Tensor, Tensor]:
        """Pairs of codes as one number each, and the products of both with the query, [B, W]."""
        num_first, num_second = self.start_kk.shape
        codes_bf = (parts[0] + self.prior_kk.amax(1)).topk(min(first, num_first), dim=1)[1]
        scores_bfk = parts[0].gather(1, codes_bf)[..., None] + parts[1][:, None] + self.prior_kk[codes_bf]
        scores_bp = scores_bfk.flatten(1)
        best = scores_bp.topk(min(pairs, scores_bp.shape[1]), dim=1)
        first_bw = codes_bf.gather(1, best.indices // num_second)
        pairs_bw = first_bw * num_second + best.indices % num_second
        second_bw = pairs_bw % num_second
        return pairs_bw, parts[0].gather(1, first_bw) + parts[1].gather(1, second_bw)

    def _score_by_codes(
        self, parts: list[Tensor], pairs_bw: Tensor, sums_bw: Tensor, budget: int
    ) -> tuple[Tensor, Tensor]:
        """Items of the pairs, those of the best pairs first, and their scores by codes, [B, C]."""
        size_bw = self.size_kk.flatten()[pairs_bw].clamp_max(max(1, budget // _MOST_OF_BUDGET))
        before_bw = size_bw.cumsum(1) - size_bw
        take_bw = torch.minimum(size_bw, (budget - before_bw).clamp_min(0))
        take = take_bw.flatten()
        node = torch.arange(len(take)).repeat_interleave(take)
        within = torch.arange(len(node)) - (take.cumsum(0) - take)[node]
        items = self.order_n[self.start_kk.flatten()[pairs_bw.flatten()[node]] + within]
        query = node // pairs_bw.shape[1]
        scores = sums_bw.flatten()[node] + self.prior_n[items]
        for level in range(2, len(parts)):
            scores += parts[level][query, self.codes_nl[items, level]]
        total_b = take_bw.sum(1)
        column = torch.arange(len(node)) - (total_b.cumsum(0) - total_b)[query]
        width = max(1, int(total_b.max()))
        items_bc = torch.zeros(len(total_b), width, dtype=torch.long)
        scores_bc = torch.full((len(total_b), width), -torch.inf)
        items_bc[query, column] = items
        scores_bc[query, column] = scores
        return items_bc, scores_bc


def build_index(codes_nl: Tensor, table_nd: Tensor, prior_n: Tensor) -> CodeIndex:
    """Makes the index.

    Args:
        codes_nl: semantic ids, at least 0.
        table_nd: the items' vectors.
        prior_n: what is added to their scores; minus infinity for items that may not be found.
    """
    if codes_nl.shape[1] == 1:
        codes_nl = torch.cat([codes_nl, torch.zeros_like(codes_nl)], dim=1)
    sizes = [int(size) for size in codes_nl.amax(0) + 1]
    pair_n = codes_nl[:, 0] * sizes[1] + codes_nl[:, 1]
    falling_n = prior_n.argsort(descending=True, stable=True)
    order_n = falling_n[pair_n[falling_n].argsort(stable=True)]
    size_p = torch.bincount(pair_n, minlength=sizes[0] * sizes[1])
    prior_p = torch.full((sizes[0] * sizes[1],), -torch.inf).scatter_reduce(0, pair_n, prior_n, "amax")
    shape = (sizes[0], sizes[1])
    return CodeIndex(
        table_nd=table_nd,
        prior_n=prior_n,
        codes_nl=codes_nl,
        centroids=_centroids(codes_nl, table_nd, sizes),
        order_n=order_n,
        start_kk=(size_p.cumsum(0) - size_p).reshape(shape),
        size_kk=size_p.reshape(shape),
        prior_kk=prior_p.reshape(shape),
    )


def _centroids(codes_nl: Tensor, table_nd: Tensor, sizes: list[int]) -> tuple[Tensor, ...]:
    """Per level, the mean of what the levels before leave of the vectors with each code."""
    residual_nd, centroids = table_nd.clone(), []
    for level, size in enumerate(sizes):
        code_n = codes_nl[:, level]
        sums_kd = torch.zeros(size, table_nd.shape[1]).index_add_(0, code_n, residual_nd)
        counts_k = torch.bincount(code_n, minlength=size).clamp_min(1)
        centroids.append(sums_kd / counts_k[:, None])
        residual_nd -= centroids[-1][code_n]
    return tuple(centroids)
