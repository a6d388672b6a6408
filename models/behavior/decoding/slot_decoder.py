"""Decoding constrained to real items: masked slots among a user's behaviors, scored over the whole catalogue.

Letters of its own: G slots, Q positions of behaviors and slots together.

In one denoising step each slot gets a hidden state; their mean is the user's state. The score has five terms:

    score(item) = popularity log P(item) + context state . item vector + association log mean_j near(j, item)
                + cooccurrence log(mean_j also(j, item) + 0.0005) + complement log mean_j with(j, item)

With weights of 1 it is the denoiser's own log-probability (averaged over slots in log space), but for the
last two terms, which the denoiser does not have. The weights are fitted on held-out users
(`score_weights.py`). The confidences are the scores normalized over the items that may be inferred. With
several steps the surest slots are filled first. The others, masked again, see them.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from models.behavior.decoding.vote_tables import NeighborVoteTable, VoteTable
from models.behavior.network.denoiser import Denoiser
from models.behavior.sequences.masked_slots import OPEN_SLOT, SlotLayout, lay_out_slots
from models.behavior.sequences.sequence_tensors import ItemTensors, SequenceBatch
from models.behavior.training.score_weights import ScoreWeights

MIN_CONFIDENCE = 1e-12
"""Keeps the confidence of a possible item above zero in single precision."""
_COOCCURRENCE_FLOOR = 0.0005
"""Keeps the logarithm finite for items that never occurred together; the same for all of them."""


class ScoreTerms(NamedTuple):
    """What scores are made of, in the order of `ScoreWeights.values`."""

    popularity_I: Tensor
    context_BI: Tensor
    association_BI: Tensor
    cooccurrence_BI: Tensor
    complement_BI: Tensor
    """0 for all items where no complement is known."""


@dataclass(frozen=True)
class SlotDecoder:
    """Turns histories into confidences over the catalogue."""

    denoiser: Denoiser
    items: ItemTensors
    """The catalogue with the prior of the moment of inference."""
    num_slots: int
    num_steps: int
    associations: VoteTable
    """From `vote_tables.build_association_table`."""
    cooccurrences: NeighborVoteTable
    """From `cooccurrence.py`."""
    weights: ScoreWeights
    popularity_weight: float
    """Factor of the popularity: 1 gives the likeliest items, 0 what the user adds to it."""
    complements: VoteTable | None = None
    """From `complement_votes.py`, where any complement is known."""

    def compute_confidences(self, histories: SequenceBatch, is_excluded_BI: Tensor) -> Tensor:
        """Computes the confidence of every item for every user, [B, I]: in (0, 1], and 0 where excluded.

        Args:
            histories: behaviors, right-aligned; T + G must not exceed the network's positions.
            is_excluded_BI: items that may not be inferred (already logged, not yet available).
        """
        scores_BI = self.score_items(histories, is_excluded_BI).masked_fill_(is_excluded_BI, -torch.inf)
        # Where everything is excluded the softmax is not a number; those rows are zeroed.
        return scores_BI.softmax(1).clamp_(MIN_CONFIDENCE, 1.0).masked_fill_(is_excluded_BI, 0.0)

    @torch.no_grad()
    def score_items(self, histories: SequenceBatch, is_excluded_BI: Tensor | None = None) -> Tensor:
        """Computes the log-probability of every item up to a constant per user, [B, I].

        Args:
            histories: as of `compute_confidences`.
            is_excluded_BI: items that no slot may be filled with on the way; none matter with one step.
        """
        _, context_weight, *other_weights = self.weights.values
        terms = self.compute_terms(histories, is_excluded_BI)
        # In place: over large catalogues every pass counts.
        scores_BI = terms.context_BI.mul_(context_weight)
        for weight, term_BI in zip(other_weights, terms[2:], strict=True):
            if weight:
                scores_BI.add_(term_BI, alpha=weight)
        return scores_BI.add_(self.weighted_prior)

    @torch.no_grad()
    def compute_terms(self, histories: SequenceBatch, is_excluded_BI: Tensor | None = None) -> ScoreTerms:
        """Computes the terms of the scores, unweighted."""
        context_BI = self.encode_users(histories, is_excluded_BI) @ self.item_vectors.T
        associations_BI = _log_votes(self.associations, histories)
        cooccurrences_BI = log_mean_cooccurrence(self.cooccurrences.sum_votes(histories), histories)
        complements_BI = _log_votes(self.complements, histories) if self.complements else torch.zeros(())
        return ScoreTerms(
            self.items.log_prior_I, context_BI, associations_BI, cooccurrences_BI, complements_BI
        )

    @torch.no_grad()
    def encode_users(self, histories: SequenceBatch, is_excluded_BI: Tensor | None = None) -> Tensor:
        """Averages the hidden states of the slots, [B, E]: the users' states."""
        self.denoiser.eval()
        layout = lay_out_slots(histories, self.num_slots)
        items_BG = torch.full(layout.is_valid_BG.shape, OPEN_SLOT)
        total_BE = torch.zeros(len(items_BG), self.item_vectors.shape[1])
        for step in range(self.num_steps):
            hidden_BGE = self._encode_slots(layout, items_BG)
            is_closing_BG = layout.is_valid_BG & (items_BG == OPEN_SLOT)
            if step < self.num_steps - 1:
                best_BG, confidence_BG = self._pick_slot_items(hidden_BGE, histories, is_excluded_BI)
                closed_share = (step + 1) / self.num_steps
                is_closing_BG = _select_surest(confidence_BG, is_closing_BG, layout.is_valid_BG, closed_share)
                items_BG = torch.where(is_closing_BG, best_BG, items_BG)
            # Each slot counts once, by its state in the step that closes it.
            total_BE += (hidden_BGE * is_closing_BG[..., None]).sum(1)
        return total_BE / layout.is_valid_BG.sum(1, keepdim=True)

    @cached_property
    def item_vectors(self) -> Tensor:
        """The items' vectors, [I, E]."""
        self.denoiser.eval()
        return self.denoiser.embed_items(self.items.codes_IL, self.items.components_IP).detach()

    @cached_property
    def weighted_prior(self) -> Tensor:
        """The popularity's term of the score, [I]."""
        return self.items.log_prior_I * (self.weights.popularity * self.popularity_weight)

    def _encode_slots(self, layout: SlotLayout, items_BG: Tensor) -> Tensor:
        batch, is_masked_BQ = layout.fill_slots(items_BG)
        codes_BQL = self.items.codes_IL[batch.items_BT]
        is_masked_BQL = is_masked_BQ[..., None].expand_as(codes_BQL)
        items_BQE = self.item_vectors[batch.items_BT]
        hidden_BQE = self.denoiser.encode_sequences(items_BQE, codes_BQL, is_masked_BQL, batch)
        return hidden_BQE[:, layout.slot_columns_G]

    def _pick_slot_items(
        self, hidden_BGE: Tensor, histories: SequenceBatch, is_excluded_BI: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Best item and its confidence per slot by the denoiser alone, [B, G] each, no item twice."""
        shared_BI = _log_votes(self.associations, histories) * self.weights.association + self.weighted_prior
        if is_excluded_BI is not None:
            shared_BI = shared_BI.masked_fill(is_excluded_BI, -torch.inf)
        items, confidences = [], []
        for hidden_BE in hidden_BGE.unbind(1):
            scores_BI = (hidden_BE @ self.item_vectors.T).mul_(self.weights.context).add_(shared_BI)
            confidence_B, item_B = scores_BI.softmax(1).max(1)
            shared_BI.scatter_(1, item_B[:, None], -torch.inf)
            items.append(item_B)
            confidences.append(confidence_B.nan_to_num())  # nothing is left for this slot
        return torch.stack(items, 1), torch.stack(confidences, 1)


def _log_votes(table: VoteTable, histories: SequenceBatch) -> Tensor:
    """`associations.log_mean_vote` up to a constant per user, in place."""
    total_BI = table.sum_votes(histories)
    total_BI[~histories.is_valid_BT.any(1)] = 1.0
    return total_BI.log_()


def log_mean_cooccurrence(total_BC: Tensor, histories: SequenceBatch) -> Tensor:
    """Turns summed votes of the co-occurrences into their term of the score, in place."""
    num_behaviors_B1 = histories.is_valid_BT.sum(1, keepdim=True).clamp_min(1)
    return total_BC.div_(num_behaviors_B1).add_(_COOCCURRENCE_FLOOR).log_()


def _select_surest(confidence_BG: Tensor, is_open_BG: Tensor, is_valid_BG: Tensor, share: float) -> Tensor:
    """The open slots to close so that `share` of all slots is closed, surest first."""
    num_closed_B = (is_valid_BG & ~is_open_BG).sum(1)
    num_to_close_B = (is_valid_BG.sum(1) * share).long() - num_closed_B
    order_BG = torch.where(is_open_BG, confidence_BG, -1.0).argsort(dim=1, descending=True, stable=True)
    return is_open_BG & (order_BG.argsort(1) < num_to_close_B[:, None])
