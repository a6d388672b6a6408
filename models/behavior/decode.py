"""Decoding constrained to real items: masked slots among a user's behaviours, scored over the whole catalogue.

Shape letters: B users, T behaviours, G slots, S positions of behaviours and slots together, L levels, N items, D width.

In one denoising step each slot gets a hidden state; their mean is the user's state. Where the weights are 1 the score

    score(item) = popularity log P(item) + context (state . item vector) + association log mean_j near(j, item)
                + cooccurrence log(mean_j also(j, item) + 0.0005) + kinds (`kinds.py`)

is the denoiser's own log-probability (averaged over slots in log space) but for the last two parts, which it does not
have; the weights are fitted on held-out users (`mixture.py`). The confidences are the scores normalised over the items
that may be inferred. With several steps the surest slots are filled first and the others, masked again, see them.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from models.behavior.config import KindsConfig
from models.behavior.kinds import Kinds
from models.behavior.mixture import Weights
from models.behavior.neighbors import Everything, Neighbors
from models.behavior.network import Denoiser
from models.behavior.slots import OPEN, SlotLayout, lay_out
from models.behavior.tensors import Batch, ItemTensors

LEAST_CONFIDENCE = 1e-12
"""Keeps the confidence of a possible item above zero in single precision."""
_COOCCURRENCE_FLOOR = 0.0005
"""Keeps the logarithm of what never occurred together; the same for all such items."""
_NO_KINDS = KindsConfig()


class Parts(NamedTuple):
    """What scores are made of, in the order of `Weights.values`."""

    popularity_n: Tensor
    context_bn: Tensor
    association_bn: Tensor
    cooccurrence_bn: Tensor


@dataclass(frozen=True)
class Decoder:
    """Turns histories into confidences over the catalogue."""

    denoiser: Denoiser
    items: ItemTensors
    """The catalogue with the prior of the moment of inference."""
    num_slots: int
    num_steps: int
    associations: Everything | Neighbors
    """From `neighbors.association_table`."""
    cooccurrences: Neighbors
    """From `cooccurrence.py`."""
    weights: Weights
    popularity_weight: float
    """Factor of the popularity: 1 gives the likeliest items, 0 what the user adds to it."""
    kinds: Kinds | None = None
    """What says which kinds go together; None: nothing."""
    kinds_config: KindsConfig = _NO_KINDS
    """How much that counts."""

    def confidences(self, histories: Batch, excluded_bn: Tensor) -> Tensor:
        """Confidence of every item for every user, [B, N]: in (0, 1], and 0 where excluded.

        Args:
            histories: behaviours, right-aligned; T + G must not exceed the network's positions.
            excluded_bn: items that may not be inferred (already logged, not yet available).
        """
        scores_bn = self.log_scores(histories, excluded_bn).masked_fill_(excluded_bn, -torch.inf)
        # Where everything is excluded the softmax is not a number; those rows are zeroed.
        return scores_bn.softmax(1).clamp_(LEAST_CONFIDENCE, 1.0).masked_fill_(excluded_bn, 0.0)

    @torch.no_grad()
    def log_scores(self, histories: Batch, excluded_bn: Tensor | None = None) -> Tensor:
        """Log-probability of every item up to a constant per user, [B, N].

        Args:
            histories: as of `confidences`.
            excluded_bn: items that no slot may be filled with on the way; none matter with one step.
        """
        _, *weights = self.weights.values
        parts = self.parts(histories, excluded_bn)
        scores_bn = parts.context_bn.mul_(weights[0])
        for weight, part_bn in zip(weights[1:], parts[2:], strict=True):
            if weight:
                scores_bn.add_(part_bn, alpha=weight)
        if self.kinds is not None:
            scores_bn.add_(self.kinds.score(histories, self.kinds_config)[:, self.kinds.kind_n])
        return scores_bn.add_(self.prior)

    @torch.no_grad()
    def parts(self, histories: Batch, excluded_bn: Tensor | None = None) -> Parts:
        """What the scores are made of."""
        table_nd = self.table
        context_bn = self.states(histories, excluded_bn) @ table_nd.T
        near_bn = self._near(histories)
        also_bn = log_cooccurrence(self.cooccurrences.sum_over(histories), histories)
        return Parts(self.items.log_prior_n, context_bn, near_bn, also_bn)

    @torch.no_grad()
    def states(self, histories: Batch, excluded_bn: Tensor | None = None) -> Tensor:
        """The users' states, [B, D]: hidden states of the slots, averaged."""
        self.denoiser.eval()
        table_nd = self.table
        layout = lay_out(histories, self.num_slots)
        items_bg = torch.full(layout.valid_bg.shape, OPEN)
        total_bd = torch.zeros(len(items_bg), table_nd.shape[1])
        for step in range(self.num_steps):
            hidden_bgd = self._hidden(layout, items_bg, table_nd)
            closing_bg = layout.valid_bg & (items_bg == OPEN)
            if step < self.num_steps - 1:
                best_bg, confidence_bg = self._best(hidden_bgd, histories, excluded_bn)
                share = (step + 1) / self.num_steps
                closing_bg = _surest(confidence_bg, closing_bg, layout.valid_bg, share)
                items_bg = torch.where(closing_bg, best_bg, items_bg)
            total_bd += (hidden_bgd * closing_bg[..., None]).sum(1)
        return total_bd / layout.valid_bg.sum(1, keepdim=True)

    @cached_property
    def table(self) -> Tensor:
        """The items' vectors, [N, D]."""
        self.denoiser.eval()
        return self.denoiser.item_vectors(self.items.codes_nl, self.items.components_np).detach()

    @cached_property
    def prior(self) -> Tensor:
        """The popularity's part of the score, [N]."""
        return self.items.log_prior_n * (self.weights.popularity * self.popularity_weight)

    def _near(self, histories: Batch) -> Tensor:
        """`associations.log_mean` up to a constant per user, in place: of large catalogues the passes count."""
        total_bn = self.associations.sum_over(histories)
        total_bn[~histories.valid_bt.any(1)] = 1.0
        return total_bn.log_()

    def _hidden(self, layout: SlotLayout, items_bg: Tensor, table_nd: Tensor) -> Tensor:
        batch, masked_bs = layout.filled(items_bg)
        codes_bsl = self.items.codes_nl[batch.items_bt]
        masked_bsl = masked_bs[..., None].expand_as(codes_bsl)
        hidden_bsd = self.denoiser.encode(table_nd[batch.items_bt], codes_bsl, masked_bsl, batch)
        return hidden_bsd[:, layout.slot_columns_g]

    def _best(self, hidden_bgd: Tensor, histories: Batch, excluded_bn: Tensor | None) -> tuple[Tensor, Tensor]:
        """Best item and its confidence per slot by the denoiser alone, [B, G] each, no item twice."""
        near_bn = self._near(histories)
        shared_bn = near_bn * self.weights.association + self.prior
        if excluded_bn is not None:
            shared_bn = shared_bn.masked_fill(excluded_bn, -torch.inf)
        items, confidences = [], []
        for hidden_bd in hidden_bgd.unbind(1):
            scores_bn = (hidden_bd @ self.table.T).mul_(self.weights.context).add_(shared_bn)
            confidence_b, item_b = scores_bn.softmax(1).max(1)
            shared_bn.scatter_(1, item_b[:, None], -torch.inf)
            items.append(item_b)
            confidences.append(confidence_b.nan_to_num())  # nothing is left for this slot
        return torch.stack(items, 1), torch.stack(confidences, 1)


def log_cooccurrence(total_bm: Tensor, histories: Batch) -> Tensor:
    """The co-occurrence's part of scores, from its sums over the history's behaviours; in place."""
    return total_bm.div_(histories.valid_bt.sum(1, keepdim=True).clamp_min(1)).add_(_COOCCURRENCE_FLOOR).log_()


def _surest(confidence_bg: Tensor, open_bg: Tensor, valid_bg: Tensor, share: float) -> Tensor:
    """The open slots to close so that `share` of all slots is closed, surest first."""
    closed_b = (valid_bg & ~open_bg).sum(1)
    wanted_b = (valid_bg.sum(1) * share).long() - closed_b
    ranked_bg = torch.where(open_bg, confidence_bg, -1.0).argsort(dim=1, descending=True, stable=True).argsort(1)
    return open_bg & (ranked_bg < wanted_b[:, None])
