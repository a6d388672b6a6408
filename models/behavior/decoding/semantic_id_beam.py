"""Top items of huge catalogues at a cost below linear: a beam over semantic ids, then exact scores.

Letters of its own: F first codes kept, P pairs of codes, W pairs of a beam, C their items, M items of a
shortlist.

A query scores items by query . vector + prior. An item's vector is nearly the sum of one centroid per code.
So V products per level give every item's score, but for what its codes leave of its vector. The beam goes
in three steps:

1. It keeps the best first codes, then the best pairs of first and second code that any item has. A pair is
   worth its two products and the largest prior of its items.
2. The items of these pairs are scored by all their codes.
3. The best of them are scored exactly.

Sources: inverted multi-index (Babenko and Lempitsky, 2012), scoring by tables (Jegou et al., product
quantization, 2011).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

_BUDGET_PARTS = 8
"""A pair of codes takes at most this part of the items looked at. Of larger pairs the likeliest items are."""
NO_CANDIDATE = -1
"""Stands in a shortlist where there are fewer items."""


class Shortlist(NamedTuple):
    """The best items of each query, by their codes. A shorter list is the start of a longer one."""

    items_BM: Tensor
    """Item numbers; `NO_CANDIDATE` where there are fewer."""
    scores_BM: Tensor
    """query . vector + prior, exactly; minus infinity where there is nothing."""


@dataclass(frozen=True)
class SemanticIdIndex:
    """A catalogue ordered by the first two codes of its semantic ids."""

    items_IE: Tensor
    """The items' vectors."""
    prior_I: Tensor
    codes_IL: Tensor
    centroids: tuple[Tensor, ...]
    """Per level, [V, E]."""
    order_I: Tensor
    """Items by first code, second code, falling prior."""
    start_VV: Tensor
    """Where in `order_I` the items of a pair of codes start."""
    size_VV: Tensor
    """How many they are."""
    prior_VV: Tensor
    """The largest prior among them; minus infinity without any."""

    def search_items(
        self,
        queries_BE: Tensor,
        num_items: int,
        *,
        max_first_codes: int = 48,
        max_pairs: int = 256,
        max_scored: int = 4096,
    ) -> Shortlist:
        """Finds the items with about the largest scores.

        Args:
            queries_BE: the queries.
            num_items: items M of the shortlist.
            max_first_codes: first codes kept, F.
            max_pairs: pairs of codes kept, W.
            max_scored: how many of their items are scored by their codes, at most.
        """
        products = [queries_BE @ centroids_VE.T for centroids_VE in self.centroids]
        pairs_BW, sums_BW = self._find_best_pairs(products, max_first_codes, max_pairs)
        items_BC, scores_BC = self._score_by_codes(products, pairs_BW, sums_BW, max_scored)
        best = scores_BC.topk(min(num_items, scores_BC.shape[1]), dim=1)
        items_BM = items_BC.gather(1, best.indices)
        exact_BM = torch.einsum("bd,bmd->bm", queries_BE, self.items_IE[items_BM]) + self.prior_I[items_BM]
        is_item_BM = best.values > -torch.inf
        return Shortlist(items_BM.where(is_item_BM, NO_CANDIDATE), exact_BM.where(is_item_BM, -torch.inf))

    def _find_best_pairs(
        self, products: list[Tensor], max_first_codes: int, max_pairs: int
    ) -> tuple[Tensor, Tensor]:
        """Pairs of codes as one number each, and the products of both with the query, [B, W]."""
        num_first, num_second = self.start_VV.shape
        first_codes = (products[0] + self.prior_VV.amax(1)).topk(min(max_first_codes, num_first), dim=1)
        codes_BF = first_codes.indices
        scores_BFV = (
            products[0].gather(1, codes_BF)[..., None] + products[1][:, None] + self.prior_VV[codes_BF]
        )
        scores_BP = scores_BFV.flatten(1)
        best = scores_BP.topk(min(max_pairs, scores_BP.shape[1]), dim=1)
        first_BW = codes_BF.gather(1, best.indices // num_second)
        pairs_BW = first_BW * num_second + best.indices % num_second
        second_BW = pairs_BW % num_second
        return pairs_BW, products[0].gather(1, first_BW) + products[1].gather(1, second_BW)

    def _score_by_codes(
        self, products: list[Tensor], pairs_BW: Tensor, sums_BW: Tensor, max_scored: int
    ) -> tuple[Tensor, Tensor]:
        """Items of the pairs, those of the best pairs first, and their scores by codes, [B, C]."""
        size_BW = self.size_VV.flatten()[pairs_BW].clamp_max(max(1, max_scored // _BUDGET_PARTS))
        num_before_BW = size_BW.cumsum(1) - size_BW
        num_taken_BW = torch.minimum(size_BW, (max_scored - num_before_BW).clamp_min(0))
        # Flat over all pairs of all queries: the pair, the place within it and the query of each item taken.
        num_taken = num_taken_BW.flatten()
        pair_places = torch.arange(len(num_taken)).repeat_interleave(num_taken)
        within_pair = torch.arange(len(pair_places)) - (num_taken.cumsum(0) - num_taken)[pair_places]
        items = self.order_I[self.start_VV.flatten()[pairs_BW.flatten()[pair_places]] + within_pair]
        query_rows = pair_places // pairs_BW.shape[1]
        scores = sums_BW.flatten()[pair_places] + self.prior_I[items]
        for level in range(2, len(products)):
            scores += products[level][query_rows, self.codes_IL[items, level]]
        total_B = num_taken_BW.sum(1)
        columns = torch.arange(len(pair_places)) - (total_B.cumsum(0) - total_B)[query_rows]
        width = max(1, int(total_B.max()))
        items_BC = torch.zeros(len(total_B), width, dtype=torch.long)
        scores_BC = torch.full((len(total_B), width), -torch.inf)
        items_BC[query_rows, columns] = items
        scores_BC[query_rows, columns] = scores
        return items_BC, scores_BC


def build_semantic_id_index(codes_IL: Tensor, items_IE: Tensor, prior_I: Tensor) -> SemanticIdIndex:
    """Builds the index.

    Args:
        codes_IL: semantic ids, at least 0.
        items_IE: the items' vectors.
        prior_I: what is added to their scores; minus infinity for items that may not be found.
    """
    if codes_IL.shape[1] == 1:
        codes_IL = torch.cat([codes_IL, torch.zeros_like(codes_IL)], dim=1)
    code_sizes = [int(size) for size in codes_IL.amax(0) + 1]
    shape = code_sizes[0], code_sizes[1]
    num_pairs = shape[0] * shape[1]
    pair_I = codes_IL[:, 0] * shape[1] + codes_IL[:, 1]
    falling_I = prior_I.argsort(descending=True, stable=True)
    size_P = torch.bincount(pair_I, minlength=num_pairs)
    prior_P = torch.full((num_pairs,), -torch.inf).scatter_reduce(0, pair_I, prior_I, "amax")
    return SemanticIdIndex(
        items_IE=items_IE,
        prior_I=prior_I,
        codes_IL=codes_IL,
        centroids=_fit_centroids(codes_IL, items_IE, code_sizes),
        order_I=falling_I[pair_I[falling_I].argsort(stable=True)],
        start_VV=(size_P.cumsum(0) - size_P).reshape(shape),
        size_VV=size_P.reshape(shape),
        prior_VV=prior_P.reshape(shape),
    )


def _fit_centroids(codes_IL: Tensor, items_IE: Tensor, code_sizes: list[int]) -> tuple[Tensor, ...]:
    """Per level, the mean of what the levels before leave of the vectors with each code."""
    residual_IE, centroids = items_IE.clone(), []
    for level, num_codes in enumerate(code_sizes):
        code_I = codes_IL[:, level]
        sums_VE = torch.zeros(num_codes, items_IE.shape[1]).index_add_(0, code_I, residual_IE)
        counts_V = torch.bincount(code_I, minlength=num_codes).clamp_min(1)
        centroids.append(sums_VE / counts_V[:, None])
        residual_IE -= centroids[-1][code_I]
    return tuple(centroids)
