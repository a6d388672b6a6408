"""Decoding for huge catalogues: only a user's candidates are scored, found by an index and by neighbors.

Letters of its own: J neighbors kept per item, W candidates, Q pairs of a user and an item.

A score is `popularity + context + association + co-occurrence` (`slot_decoder.py`). Both last terms are the
same for all items that are no neighbor of any behavior. So the best items are among the neighbors of the
history and those with the best `popularity + context`, which a beam finds (`semantic_id_beam.py`). Nothing
here grows with the catalogue.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from models.behavior.decoding.associations import MIN_VOTE_TOTAL, log_mean_vote
from models.behavior.decoding.semantic_id_beam import NO_CANDIDATE, SemanticIdIndex, build_semantic_id_index
from models.behavior.decoding.slot_decoder import MIN_CONFIDENCE, SlotDecoder, log_mean_cooccurrence
from models.behavior.decoding.vote_tables import NeighborVoteTable, stack_tables
from models.behavior.sequences.sequence_tensors import SequenceBatch

MAX_EXACT_ITEMS = 50_000
"""Of larger catalogues only candidates are scored. Up to here all items cost no more (docs/log.md)."""
_BEAM_ITEMS = 256
_NARROW_BEAM = {"max_first_codes": 16, "max_pairs": 64, "max_scored": 1024}
"""Is wide enough for associations, since neighbors share codes."""
_INDEXED_NEIGHBORS = 100
"""Neighbors kept per item where they are looked up in an index; bounds memory."""
_SEARCHED_PER_NEIGHBOR = 3
_BLOCK_ROWS = 256
_SAMPLE_ITEMS = 1024


def needs_shortlists(num_items: int) -> bool:
    """Is a catalogue too large to score every item for every user?"""
    return num_items > MAX_EXACT_ITEMS


class _Candidates(NamedTuple):
    """The items to score, with what the history's tables say of them."""

    items_BW: Tensor
    """`NO_CANDIDATE` where a row has fewer."""
    votes: Tensor
    """Of associations, co-occurrences and complements, as far as there are any, [2 or 3, B, W]."""


@dataclass(frozen=True)
class ShortlistDecoder:
    """Looks at a user's candidates only. Confidences are normalized over these, not the catalogue."""

    decoder: SlotDecoder
    index: SemanticIdIndex
    """Finds the best of `popularity + context`."""

    def compute_confidences(self, histories: SequenceBatch, logged: Tensor) -> tuple[Tensor, Tensor]:
        """Finds candidates and computes their confidences, [B, W] each; 0 where a row has fewer.

        Args:
            histories: behaviors, right-aligned.
            logged: (row, item) of what may not be inferred, [Q, 2].
        """
        users_BE = self.decoder.encode_users(histories)
        # As many more as the user has logged; what others of the batch have logged must change nothing.
        size_B = _BEAM_ITEMS + torch.bincount(logged[:, 0], minlength=len(users_BE))
        shortlist = self.index.search_items(users_BE * self.decoder.weights.context, int(size_B.max()))
        is_surplus_BM = torch.arange(shortlist.items_BM.shape[1]) >= size_B[:, None]
        beam_items_BM = shortlist.items_BM.masked_fill(is_surplus_BM, NO_CANDIDATE)
        candidates = self._gather_candidates(histories, beam_items_BM)
        scores_BW = self._score_candidates(histories, users_BE, candidates)
        row_B1 = torch.arange(len(users_BE))[:, None]
        is_logged_BW = torch.isin(
            self._number_pairs(row_B1, candidates.items_BW), self._number_pairs(*logged.T)
        )
        scores_BW.masked_fill_(is_logged_BW, -torch.inf)
        confidences_BW = scores_BW.softmax(1).clamp(MIN_CONFIDENCE, 1.0)
        return candidates.items_BW, confidences_BW.where(scores_BW > -torch.inf, 0.0)

    @property
    def _tables(self) -> list[NeighborVoteTable]:
        """Associations, co-occurrences and, where there are any, complements."""
        decoder = self.decoder
        tables = [decoder.associations, decoder.cooccurrences]
        tables += [decoder.complements] if decoder.complements else []
        neighbor_tables = [table for table in tables if isinstance(table, NeighborVoteTable)]
        assert len(neighbor_tables) == len(tables), "a huge catalogue's votes are not kept whole"
        return neighbor_tables

    def _number_pairs(self, rows: Tensor, items: Tensor) -> Tensor:
        """One number for each pair of row and item."""
        return rows * len(self.index.prior_I) + items

    def _gather_candidates(self, histories: SequenceBatch, beam_items_BM: Tensor) -> _Candidates:
        """The items of the beam and the history's neighbors, each once per row."""
        num_items = len(self.index.prior_I)
        beam_rows, beam_columns = (beam_items_BM != NO_CANDIDATE).nonzero(as_tuple=True)
        beam_pairs = self._number_pairs(beam_rows, beam_items_BM[beam_rows, beam_columns])
        tables = [_list_votes(table, histories) for table in self._tables]
        all_pairs = [beam_pairs, *(self._number_pairs(rows, items) for rows, items, _ in tables)]
        pairs_Q, places = torch.unique(torch.cat(all_pairs), return_inverse=True)
        _, *table_places = places.split([len(pairs) for pairs in all_pairs])
        rows = pairs_Q // num_items
        count_B = torch.bincount(rows, minlength=len(beam_items_BM))
        columns = torch.arange(len(rows)) - (count_B.cumsum(0) - count_B)[rows]
        items_BW = torch.full((len(beam_items_BM), int(count_B.max())), NO_CANDIDATE)
        items_BW[rows, columns] = pairs_Q % num_items
        vote_sums = torch.zeros(len(tables), *items_BW.shape)
        for sums_BW, (_, _, votes), of_table in zip(vote_sums, tables, table_places, strict=True):
            sums_BW.index_put_((rows[of_table], columns[of_table]), votes, accumulate=True)
        return _Candidates(items_BW, vote_sums)

    def _score_candidates(
        self, histories: SequenceBatch, users_BE: Tensor, candidates: _Candidates
    ) -> Tensor:
        weights, items_BW = self.decoder.weights, candidates.items_BW.clamp_min(0)
        context_BW = torch.einsum("bd,bwd->bw", users_BE, self.index.items_IE[items_BW])
        num_behaviors_B = histories.is_valid_BT.sum(1)
        association_BW, cooccurrence_votes_BW, *complement_BW = (
            votes_BW + table.sum_other_votes(histories)[:, None]
            for votes_BW, table in zip(candidates.votes, self._tables, strict=True)
        )
        cooccurrence_BW = log_mean_cooccurrence(cooccurrence_votes_BW, histories)
        terms_BW = (
            weights.context * context_BW
            + weights.association * log_mean_vote(association_BW, num_behaviors_B)
            + weights.cooccurrence * cooccurrence_BW
        )
        for votes_BW in complement_BW:
            terms_BW += weights.complement * log_mean_vote(votes_BW, num_behaviors_B)
        scores_BW = terms_BW + self.index.prior_I[items_BW]
        return scores_BW.masked_fill(candidates.items_BW == NO_CANDIDATE, -torch.inf)


def build_shortlist_decoder(decoder: SlotDecoder, is_unavailable_I: Tensor) -> ShortlistDecoder:
    """Prepares a decoder for short lists.

    Args:
        decoder: for the moment of inference, with one denoising step.
        is_unavailable_I: items that nobody may be given at that moment.
    """
    prior_I = decoder.weighted_prior.masked_fill(is_unavailable_I, -torch.inf)
    # The index adds prior to query . vector, and the query is the state times the context's weight.
    index = build_semantic_id_index(decoder.items.codes_IL, decoder.item_vectors, prior_I)
    return ShortlistDecoder(decoder, index)


def search_associations(
    vectors_ID: Tensor,
    codes_IL: Tensor,
    sharpness: float,
    *,
    num_neighbors: int = _INDEXED_NEIGHBORS,
    queries_ID: Tensor | None = None,
) -> NeighborVoteTable:
    """Approximates `build_association_table` where a comparison of all with all items takes too long.

    Args:
        vectors_ID: unit vectors.
        codes_IL: semantic ids of the items.
        sharpness: what a cosine is multiplied by.
        num_neighbors: neighbors J kept per item; the mean of the others is estimated from a sample.
        queries_ID: what each item looks for; by default what is near its own vector.
    """
    num_items = len(vectors_ID)
    queries_ID = vectors_ID if queries_ID is None else queries_ID
    index = build_semantic_id_index(codes_IL, vectors_ID, torch.zeros(num_items))
    generator = torch.Generator().manual_seed(0)
    sample_ND = vectors_ID[torch.randint(num_items, (_SAMPLE_ITEMS,), generator=generator)]
    tables = []
    for first_item in range(0, num_items, _BLOCK_ROWS):
        own_items = torch.arange(first_item, min(first_item + _BLOCK_ROWS, num_items))
        shortlist = index.search_items(
            queries_ID[own_items], _SEARCHED_PER_NEIGHBOR * num_neighbors, **_NARROW_BEAM
        )
        cosines_BM = shortlist.scores_BM.masked_fill(shortlist.items_BM == own_items[:, None], -torch.inf)
        best = cosines_BM.topk(min(num_neighbors, cosines_BM.shape[1]), dim=1)
        neighbors_BJ, is_empty_BJ = shortlist.items_BM.gather(1, best.indices), best.values == -torch.inf
        nearness_BJ = torch.exp(sharpness * (best.values - 1))
        sampled_BN = torch.exp(sharpness * (queries_ID[own_items] @ sample_ND.T - 1))
        # What is as near as a neighbor is one already; the others of the sample stand for all others.
        is_other_BN = sampled_BN < nearness_BJ.masked_fill(is_empty_BJ, torch.inf).amin(1, keepdim=True)
        other_B = (sampled_BN * is_other_BN).sum(1) / is_other_BN.sum(1).clamp_min(1)
        num_others_B = num_items - 1 - (~is_empty_BJ).sum(1)
        total_B = nearness_BJ.masked_fill(is_empty_BJ, 0.0).sum(1) + other_B * num_others_B
        total_B = total_B.clamp_min(MIN_VOTE_TOTAL)
        votes_BJ = (nearness_BJ - other_B[:, None]).masked_fill(is_empty_BJ, 0.0) / total_B[:, None]
        neighbors_BJ = neighbors_BJ.masked_fill(is_empty_BJ, 0).int()
        tables.append(NeighborVoteTable(neighbors_BJ, votes_BJ, other_B / total_B))
    width = max(table.neighbors_IJ.shape[1] for table in tables)
    return stack_tables([_widen_table(table, width) for table in tables])


def _widen_table(table: NeighborVoteTable, width: int) -> NeighborVoteTable:
    missing = (0, width - table.neighbors_IJ.shape[1])
    return NeighborVoteTable(
        pad(table.neighbors_IJ, missing), pad(table.votes_IJ, missing), table.other_vote_I
    )


def _list_votes(table: NeighborVoteTable, histories: SequenceBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Row, item and vote for all votes of the histories' behaviors."""
    rows, columns = histories.is_valid_BT.nonzero(as_tuple=True)
    behaviors = histories.items_BT[rows, columns]
    neighbors_RJ, votes_RJ = table.neighbors_IJ[behaviors].long(), table.votes_IJ[behaviors]
    return rows[:, None].expand_as(neighbors_RJ).flatten(), neighbors_RJ.flatten(), votes_RJ.flatten()
