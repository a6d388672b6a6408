"""Decoding constrained to real items: masked slots among a user's behaviours, scored over the whole catalogue.

Shape letters: B users, T behaviours, G slots, S positions of behaviours and slots together, L levels, N items, D width.

In one denoising step each slot gets log p(item) = sum_l [log p(code_l) - log P(code_l)] + log P(item), normalised over
the items that may be inferred. A user's confidence in an item is the mean over slots: the probability that a behaviour
the log does not hold is this item (as far as `popularity_weight` and `similarity_weight` leave it one). With several
steps the surest slots are filled first and the others, masked again, are scored with them in sight.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.behavior.network import Denoiser
from models.behavior.similarity import Neighbors, history_similarity
from models.behavior.slots import OPEN, lay_out
from models.behavior.tensors import Batch, ItemTensors

_LEAST_CONFIDENCE = 1e-12
"""Keeps the confidence of a possible item above zero in single precision."""


@dataclass(frozen=True)
class Decoder:
    """Turns histories into confidences over the catalogue."""

    denoiser: Denoiser
    items: ItemTensors
    """The catalogue with the prior of the moment of inference."""
    num_slots: int
    num_steps: int
    neighbors: Neighbors
    """For the similarity term."""
    similarity_weight: float
    """Log-probability per unit of similarity margin."""
    popularity_weight: float
    """Power of P(item): 1 gives the model's own probability, 0 what the user adds to it."""

    @torch.no_grad()
    def confidences(self, histories: Batch, excluded_bn: Tensor) -> Tensor:
        """Confidence of every item for every user, [B, N]: in (0, 1], and 0 where excluded.

        Args:
            histories: behaviours, right-aligned; T + G must not exceed the network's positions.
            excluded_bn: items that may not be inferred (already logged, not yet available).
        """
        self.denoiser.eval()
        table_nd = self.denoiser.item_vectors(self.items.codes_nl, self.items.components_np)
        layout = lay_out(histories, self.num_slots)
        items_bg = torch.full(layout.valid_bg.shape, OPEN)
        total_bn = torch.zeros(excluded_bn.shape)
        for step in range(self.num_steps):
            batch, masked_bs = layout.filled(items_bg)
            codes_bsl = self.items.codes_nl[batch.items_bt]
            masked_bsl = masked_bs[..., None].expand_as(codes_bsl)
            hidden_bsd = self.denoiser.encode(table_nd[batch.items_bt], codes_bsl, masked_bsl, batch)
            hidden_bgd = hidden_bsd[:, layout.slot_columns_g]
            closing_bg = layout.valid_bg & (items_bg == OPEN)
            if step < self.num_steps - 1:
                best_bg, confidence_bg = self._best(hidden_bgd, table_nd, excluded_bn)
                share = (step + 1) / self.num_steps
                closing_bg = _surest(confidence_bg, closing_bg, layout.valid_bg, share)
                items_bg = torch.where(closing_bg, best_bg, items_bg)
            for slot, hidden_bd in enumerate(hidden_bgd.unbind(1)):
                total_bn += self._slot(hidden_bd, table_nd, excluded_bn) * closing_bg[:, slot, None]
        confidence_bn = total_bn / layout.valid_bg.sum(1, keepdim=True)
        return self._with_similarity(confidence_bn, histories, excluded_bn)

    def _slot(self, hidden_bd: Tensor, table_nd: Tensor, excluded_bn: Tensor) -> Tensor:
        logits_bn = (hidden_bd @ table_nd.T).add_(self.items.log_prior_n, alpha=self.popularity_weight)
        # Where everything is excluded the softmax is not a number; those rows are zeroed at the end.
        return logits_bn.masked_fill_(excluded_bn, -torch.inf).softmax(1)

    def _best(self, hidden_bgd: Tensor, table_nd: Tensor, excluded_bn: Tensor) -> tuple[Tensor, Tensor]:
        """Best item and its confidence per slot, [B, G] each, no item twice."""
        taken_bn = excluded_bn.clone()
        items, confidences = [], []
        for hidden_bd in hidden_bgd.unbind(1):
            confidence_b, item_b = self._slot(hidden_bd, table_nd, taken_bn).max(1)
            taken_bn.scatter_(1, item_b[:, None], True)
            items.append(item_b)
            confidences.append(confidence_b.nan_to_num())  # nothing is left for this slot
        return torch.stack(items, 1), torch.stack(confidences, 1)

    def _with_similarity(self, confidence_bn: Tensor, histories: Batch, excluded_bn: Tensor) -> Tensor:
        if self.similarity_weight:
            similarity_bn = history_similarity(self.neighbors, histories)
            confidence_bn = confidence_bn * (self.similarity_weight * similarity_bn).exp_()
            confidence_bn = confidence_bn / confidence_bn.sum(1, keepdim=True)
        return confidence_bn.clamp(_LEAST_CONFIDENCE, 1.0).masked_fill(excluded_bn, 0.0)


def _surest(confidence_bg: Tensor, open_bg: Tensor, valid_bg: Tensor, share: float) -> Tensor:
    """The open slots to close so that `share` of all slots is closed, surest first."""
    closed_b = (valid_bg & ~open_bg).sum(1)
    wanted_b = (valid_bg.sum(1) * share).long() - closed_b
    ranked_bg = torch.where(open_bg, confidence_bg, -1.0).argsort(dim=1, descending=True, stable=True).argsort(1)
    return open_bg & (ranked_bg < wanted_b[:, None])
