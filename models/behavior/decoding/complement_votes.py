"""What goes with what a user has: votes of each behavior for items whose kind is near its complements.

The vectors come from the knowledge (`item_embeddings/complements.safetensors`), not from the log. So they
tell of items that nobody has met. The votes take the form of the associations: each behavior has one vote,
shared among all items in proportion to exp(s cos(complements of j, kind of i)).
"""

import torch
from torch import Tensor

from contracts.complement_vectors import ComplementVectors
from models.behavior.decoding.shortlist_decoder import needs_shortlists, search_associations
from models.behavior.decoding.vote_tables import VoteTable, tabulate_votes

_SHARPNESS = 15.0
"""s, what a cosine is multiplied by. 10 to 20 are alike on a real log (docs/log.md)."""
_MIN_MEAN_VOTE = 1e-12
"""Keeps votes defined where no kind is known."""


def tabulate_complements(vectors: ComplementVectors, codes_IL: Tensor) -> VoteTable:
    """Tabulates the votes of each item.

    Args:
        vectors: kinds and complements.
        codes_IL: semantic ids; a huge catalogue is searched by them.
    """
    kinds_IX, complements_IX = (torch.from_numpy(matrix).float() for matrix in vectors)
    if needs_shortlists(len(kinds_IX)):
        table = search_associations(kinds_IX, codes_IL, _SHARPNESS, queries_ID=complements_IX)
        # An item without complements is as near to all kinds: its vote says nothing.
        is_silent_I = ~complements_IX.any(1)
        table.votes_IJ[is_silent_I], table.other_vote_I[is_silent_I] = 0.0, 1 / len(kinds_IX)
        return table
    is_unknown_I = ~kinds_IX.any(1)

    def share_block(block: slice) -> Tensor:
        return share_complement_votes(complements_IX[block] @ kinds_IX.T, is_unknown_I)

    return tabulate_votes(share_block, len(kinds_IX))


def share_complement_votes(cosines_RI: Tensor, is_unknown_I: Tensor) -> Tensor:
    """Shares each behavior's vote among all items, [R, I]; items of unknown kind get the mean of the others.

    Args:
        cosines_RI: of the behaviors' complements and the items' kinds.
        is_unknown_I: whose kind is not known.
    """
    votes_RI = torch.exp(_SHARPNESS * (cosines_RI - 1)).masked_fill_(is_unknown_I, 0.0)
    mean_R1 = votes_RI.sum(1, keepdim=True) / (~is_unknown_I).sum().clamp_min(1)
    votes_RI += mean_R1.clamp_min(_MIN_MEAN_VOTE) * is_unknown_I
    return votes_RI / votes_RI.sum(1, keepdim=True)
