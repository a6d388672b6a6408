"""Votes of a history's items for other items, as tables: a row holds what one behavior says of all items.

A letter of its own: J neighbors kept per item.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.behavior.decoding.associations import share_votes
from models.behavior.sequences.sequence_tensors import SequenceBatch

_BLOCK_ROWS = 1024
NUM_NEIGHBORS = 400
"""Associated items kept per item of a large catalogue; what lies further off counts by its mean."""
MAX_WHOLE_ITEMS = 12_000
"""Catalogues up to this many items keep all associations: 4 bytes x this squared of memory."""


@dataclass(frozen=True)
class FullVoteTable:
    """The vote of each item for every item, exactly."""

    votes_II: Tensor

    def sum_votes(self, histories: SequenceBatch) -> Tensor:
        """Sums the votes of each user's behaviors for every item, [B, I]."""
        weight_BT = histories.is_valid_BT.to(self.votes_II.dtype)
        return functional.embedding_bag(
            histories.items_BT, self.votes_II, mode="sum", per_sample_weights=weight_BT
        )


@dataclass(frozen=True)
class NeighborVoteTable:
    """The vote of each item for its neighbors, and one mean for all other items."""

    neighbors_IJ: Tensor
    """Item numbers, int32."""
    votes_IJ: Tensor
    """Votes for them, less the row's `other_vote_I`."""
    other_vote_I: Tensor
    """The vote for every other item."""

    def sum_votes(self, histories: SequenceBatch) -> Tensor:
        """Sums the votes of each user's behaviors for every item, [B, I]."""
        neighbors_BTJ = self.neighbors_IJ[histories.items_BT].long()
        votes_BTJ = self.votes_IJ[histories.items_BT] * histories.is_valid_BT[..., None]
        total_BI = self.sum_other_votes(histories)[:, None].repeat(1, len(self.neighbors_IJ))
        return total_BI.scatter_add_(1, neighbors_BTJ.flatten(1), votes_BTJ.flatten(1))

    def sum_other_votes(self, histories: SequenceBatch) -> Tensor:
        """Sums the votes for items that are no neighbor of any behavior, [B]."""
        return (self.other_vote_I[histories.items_BT] * histories.is_valid_BT).sum(1)


VoteTable = FullVoteTable | NeighborVoteTable


def keep_largest_votes(
    rows: Tensor, first_item: int, num_neighbors: int, *, keep_mean: bool
) -> NeighborVoteTable:
    """Keeps the largest votes of some rows of a table. No item votes for itself.

    Args:
        rows: votes of the items `first_item`, `first_item` + 1, ... for all, [R, I]; is changed.
        first_item: the first row's item.
        num_neighbors: votes J kept per row; fewer where there are fewer other items.
        keep_mean: do the others count by their mean? Otherwise as 0.
    """
    own_rows = torch.arange(len(rows))
    rows[own_rows, first_item + own_rows] = -torch.inf
    votes_RJ, neighbors_RJ = rows.topk(min(num_neighbors, rows.shape[1] - 1), dim=1)
    rows[own_rows, first_item + own_rows] = 0.0
    num_others = rows.shape[1] - 1 - votes_RJ.shape[1]
    is_mean_kept = keep_mean and num_others > 0
    other_vote_R = (rows.sum(1) - votes_RJ.sum(1)) / max(num_others, 1) * is_mean_kept
    return NeighborVoteTable(neighbors_RJ.int(), votes_RJ - other_vote_R[:, None], other_vote_R)


def stack_tables(tables: list[NeighborVoteTable]) -> NeighborVoteTable:
    """Stacks tables of some items each."""
    return NeighborVoteTable(
        torch.cat([table.neighbors_IJ for table in tables]),
        torch.cat([table.votes_IJ for table in tables]),
        torch.cat([table.other_vote_I for table in tables]),
    )


def build_association_table(
    vectors_ID: Tensor,
    sharpness: float,
    *,
    num_neighbors: int = NUM_NEIGHBORS,
    max_whole: int = MAX_WHOLE_ITEMS,
) -> VoteTable:
    """Tabulates the votes of `associations.share_votes`.

    Args:
        vectors_ID: unit vectors.
        sharpness: of the exponential.
        num_neighbors: neighbors J kept per item of a large catalogue.
        max_whole: catalogues up to this many items are kept whole.
    """

    def share_block(block: slice) -> Tensor:
        return share_votes(vectors_ID[block] @ vectors_ID.T, sharpness)

    return tabulate_votes(share_block, len(vectors_ID), num_neighbors=num_neighbors, max_whole=max_whole)


def tabulate_votes(
    share_block: Callable[[slice], Tensor],
    num_items: int,
    *,
    num_neighbors: int = NUM_NEIGHBORS,
    max_whole: int = MAX_WHOLE_ITEMS,
) -> VoteTable:
    """Tabulates votes, whole or by neighbors.

    Args:
        share_block: gives the votes of some items for all items, [R, I].
        num_items: items I of the catalogue.
        num_neighbors: as of `build_association_table`.
        max_whole: as of `build_association_table`.
    """
    row_blocks = (
        (first_item, share_block(slice(first_item, first_item + _BLOCK_ROWS)))
        for first_item in range(0, num_items, _BLOCK_ROWS)
    )
    if num_items > max_whole:
        return stack_tables(
            [keep_largest_votes(rows, first, num_neighbors, keep_mean=True) for first, rows in row_blocks]
        )
    votes_II = torch.empty(num_items, num_items)
    for first_item, votes_RI in row_blocks:
        votes_II[first_item : first_item + _BLOCK_ROWS] = votes_RI
    return FullVoteTable(votes_II)
