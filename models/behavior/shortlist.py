"""Decoding for huge catalogues: a user's candidates are found by index and neighbours, and only they are scored.

Shape letters: B users, T behaviours, N items, K neighbours, D width, E pairs of a user and an item, W
candidates.

A score is `popularity + context + association + co-occurrence` (`decode.py`), and both last parts are the same for all
items that are no neighbour of any behaviour. So the best items are among the neighbours of the history and those with
the best `popularity + context`, which the beam of `beam.py` finds. Nothing here grows with N.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from models.behavior.associations import LEAST_VOTE, log_mean
from models.behavior.beam import NOTHING, CodeIndex, build_index
from models.behavior.decode import LEAST_CONFIDENCE, Decoder, log_cooccurrence
from models.behavior.neighbors import Neighbors, stack
from models.behavior.tensors import Batch

_BEAM_ITEMS = 256
_FEW_FIRST, _FEW_PAIRS, _FEW_ITEMS = 16, 64, 1024
"""A narrow beam: neighbours share codes."""
_SPARE = 3
"""Candidates per neighbour kept."""
_BLOCK = 256
_SAMPLE = 1024


@dataclass(frozen=True)
class ShortlistDecoder:
    """A decoder that looks at a user's candidates only. Confidences are normalised over these, not the catalogue."""

    decoder: Decoder
    index: CodeIndex
    """Finds the best of `popularity + context`."""

    def confidences(self, histories: Batch, logged: Tensor) -> tuple[Tensor, Tensor]:
        """Candidates and their confidences, [B, W] each; confidence 0 where a row has fewer.

        Args:
            histories: behaviours, right-aligned.
            logged: (row, item) of what may not be inferred, [E, 2].
        """
        states_bd = self.decoder.states(histories)
        # As many more as the user has logged; what others of the batch have logged must change nothing.
        size_b = _BEAM_ITEMS + torch.bincount(logged[:, 0], minlength=len(states_bd))
        found = self.index.search(states_bd * self.decoder.weights.context, int(size_b.max()))
        beyond_bm = torch.arange(found.items_bm.shape[1]) >= size_b[:, None]
        candidates = self._gather(histories, found.items_bm.masked_fill(beyond_bm, NOTHING))
        scores_bw = self._score(histories, states_bd, candidates)
        scores_bw.masked_fill_(torch.isin(self._key(*candidates.places), self._key(*logged.unbind(1))), -torch.inf)
        confidences_bw = scores_bw.softmax(1).clamp(LEAST_CONFIDENCE, 1.0)
        return candidates.items_bw, confidences_bw.where(scores_bw > -torch.inf, 0.0)

    @property
    def _associations(self) -> Neighbors:
        table = self.decoder.associations
        assert isinstance(table, Neighbors), "short lists are for catalogues whose associations are not kept whole"
        return table

    def _key(self, row: Tensor, item: Tensor) -> Tensor:
        return row * len(self.index.prior_n) + item

    def _gather(self, histories: Batch, found_bm: Tensor) -> "_Candidates":
        """The items to score, each once per row, with what the history's tables say of them."""
        row, column = (found_bm != NOTHING).nonzero(as_tuple=True)
        near = _said(self._associations, histories)
        also = _said(self.decoder.cooccurrences, histories)
        keys = [self._key(row, found_bm[row, column]), self._key(*near[:2]), self._key(*also[:2])]
        distinct, place = torch.unique(torch.cat(keys), return_inverse=True)
        _, near_place, also_place = place.split([len(key) for key in keys])
        row = distinct // len(self.index.prior_n)
        count_b = torch.bincount(row, minlength=len(found_bm))
        column = torch.arange(len(row)) - (count_b.cumsum(0) - count_b)[row]
        items_bw = torch.full((len(found_bm), int(count_b.max())), NOTHING)
        items_bw[row, column] = distinct % len(self.index.prior_n)
        said = torch.zeros(2, *items_bw.shape)
        for sums_bw, table, places in ((said[0], near, near_place), (said[1], also, also_place)):
            sums_bw.index_put_((row[places], column[places]), table[2], accumulate=True)
        return _Candidates(items_bw, said[0], said[1])

    def _score(self, histories: Batch, states_bd: Tensor, candidates: "_Candidates") -> Tensor:
        weights, items_bw = self.decoder.weights, candidates.items_bw.clamp_min(0)
        context_bw = torch.einsum("bd,bwd->bw", states_bd, self.index.table_nd[items_bw])
        rest_b = (self._associations.rest_n[histories.items_bt] * histories.valid_bt).sum(1)
        near_bw = log_mean(candidates.near_bw + rest_b[:, None], histories.valid_bt.sum(1))
        also_bw = log_cooccurrence(candidates.also_bw, histories)
        parts = weights.context * context_bw + weights.association * near_bw + weights.cooccurrence * also_bw
        if (kinds := self.decoder.kinds) is not None:
            parts += kinds.score(histories, self.decoder.kinds_config).gather(1, kinds.kind_n[items_bw])
        return (parts + self.index.prior_n[items_bw]).masked_fill(candidates.items_bw == NOTHING, -torch.inf)


class _Candidates(NamedTuple):
    items_bw: Tensor
    """`NOTHING` where a row has fewer."""
    near_bw: Tensor
    """Sum of what the associations say."""
    also_bw: Tensor
    """Sum of what the co-occurrences say."""

    @property
    def places(self) -> tuple[Tensor, Tensor]:
        """Row and item everywhere."""
        return torch.arange(len(self.items_bw))[:, None].expand_as(self.items_bw), self.items_bw


def make_shortlists(decoder: Decoder, unavailable_n: Tensor) -> ShortlistDecoder:
    """Prepares a decoder for short lists.

    Args:
        decoder: for the moment of inference, with one denoising step.
        unavailable_n: items that nobody may be given at that moment.
    """
    prior_n = decoder.prior.masked_fill(unavailable_n, -torch.inf)
    # The index adds prior to query . vector, and the query is the state times the context's weight.
    return ShortlistDecoder(decoder, build_index(decoder.items.codes_nl, decoder.table, prior_n))


def find_associations(vectors_nv: Tensor, codes_nl: Tensor, sharpness: float, count: int) -> Neighbors:
    """About what `neighbors.association_table` gives, where a comparison of all with all items takes too long.

    Args:
        vectors_nv: unit vectors.
        codes_nl: semantic ids of the items.
        sharpness: what a cosine is multiplied by.
        count: neighbours K kept per item; the mean of the rest is estimated from a sample.
    """
    num_items = len(vectors_nv)
    index = build_index(codes_nl, vectors_nv, torch.zeros(num_items))
    generator = torch.Generator().manual_seed(0)
    sample_sv = vectors_nv[torch.randint(num_items, (_SAMPLE,), generator=generator)]
    parts = []
    for first in range(0, num_items, _BLOCK):
        own = torch.arange(first, min(first + _BLOCK, num_items))
        found = index.search(vectors_nv[own], _SPARE * count, first=_FEW_FIRST, pairs=_FEW_PAIRS, items=_FEW_ITEMS)
        cosines = found.scores_bm.masked_fill(found.items_bm == own[:, None], -torch.inf)
        best = cosines.topk(min(count, cosines.shape[1]), dim=1)
        items, none = found.items_bm.gather(1, best.indices), best.values == -torch.inf
        kept = torch.exp(sharpness * (best.values - 1))
        others = torch.exp(sharpness * (vectors_nv[own] @ sample_sv.T - 1))
        is_rest = others < kept.masked_fill(none, torch.inf).amin(1, keepdim=True)
        rest = (others * is_rest).sum(1) / is_rest.sum(1).clamp_min(1)
        total = kept.masked_fill(none, 0.0).sum(1) + rest * (num_items - 1 - (~none).sum(1))
        total = total.clamp_min(LEAST_VOTE)
        values = (kept - rest[:, None]).masked_fill(none, 0.0) / total[:, None]
        parts.append(Neighbors(items.masked_fill(none, 0).int(), values, rest / total))
    width = max(part.items_nk.shape[1] for part in parts)
    return stack([_widened(part, width) for part in parts])


def _widened(table: Neighbors, width: int) -> Neighbors:
    missing = (0, width - table.items_nk.shape[1])
    return Neighbors(pad(table.items_nk, missing), pad(table.values_nk, missing), table.rest_n)


def _said(table: Neighbors, histories: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Row, item and value of all that a table says of the histories."""
    row, column = histories.valid_bt.nonzero(as_tuple=True)
    behaviors = histories.items_bt[row, column]
    items_ek, values_ek = table.items_nk[behaviors].long(), table.values_nk[behaviors]
    return row[:, None].expand_as(items_ek).flatten(), items_ek.flatten(), values_ek.flatten()
